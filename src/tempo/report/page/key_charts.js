"use strict";
// The keys of the charts over keys, and the controls of those charts.
const keyOptions = { metric: null, rows: null, columns: null };
const PARALLEL_NOTE =
  "One line per run. Point at a line for its values. Drag along an axis to filter by its range, press twice to " +
  "drop the filter.";

// The metrics of completed runs that can colour a chart; the one that ranks comes first.
function finalMetrics() {
  return page.columns.filter((column) => column.kind === "metric");
}

// The keys of which the kept runs have several values; those that tell settings apart come first.
function varyingKeys() {
  const keys = page.columns.filter(
    (column) => column.kind === "key" && distinctValues(page.kept.map(column.of)).length > 1,
  );
  const first = (column) => column.tells === true || column.name === "sweep";
  return [...keys.filter(first), ...keys.filter((column) => !first(column))];
}

function startKeyCharts(box) {
  const metrics = finalMetrics();
  const keys = varyingKeys();
  if (metrics.length === 0 || keys.length === 0) return;
  keyOptions.metric ??= metrics[0].name;
  keyOptions.rows ??= keys[0].name;
  keyOptions.columns ??= (keys[1] ?? keys[0]).name;
  const set = (name) => (value) => {
    keyOptions[name] = value;
    changed();
  };
  const options = keys.map((column) => [column.name, column.title]);
  const parallel = element("div", { class: "plots one" });
  const heat = element("div", { class: "plots one" });
  const missing = (text) => element("p", { class: "note", textContent: text });
  box.append(
    element("h3", { textContent: "Keys" }),
    element(
      "div",
      { class: "controls" },
      choice(
        "metric",
        metrics.map((column) => [column.name, column.title]),
        keyOptions.metric,
        set("metric"),
      ),
    ),
    parallel,
    missing(PARALLEL_NOTE),
    element(
      "div",
      { class: "controls" },
      choice("rows", options, keyOptions.rows, set("rows")),
      choice("columns", options, keyOptions.columns, set("columns")),
    ),
    heat,
    missing(
      "Mean over the completed runs of a setting; if other keys differ too, the best setting of each cell.",
    ),
  );
  page.views.push(() => {
    parallel.replaceChildren(
      parallelChart(parallel.clientWidth) ??
        missing("Parallel coordinates need two completed runs and a key that differs."),
    );
    heat.replaceChildren(
      heatMap(Math.min(heat.clientWidth, 900)) ??
        missing("The heat map needs completed runs and two different keys."),
    );
  });
}
