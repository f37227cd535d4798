"use strict";
// Parallel coordinates over the keys that differ, and a heat map over any two of them.
const keyOptions = { metric: null, rows: null, columns: null };
const MOST_CELLS_WITH_TEXT = 16; // per row
const MOST_AXES = 8;

// The metrics of completed runs that can colour a chart; the one that ranks comes first.
function finalMetrics() {
  return page.columns.filter((column) => column.kind === "metric");
}

// The keys of which the kept runs have several values; those that tell settings apart come first.
function varyingKeys() {
  const keys = page.columns.filter((column) => column.kind === "key" && distinctValues(page.kept.map(column.of)).length > 1);
  const first = (column) => column.tells === true || column.name === "sweep";
  return [...keys.filter(first), ...keys.filter((column) => !first(column))];
}

// An axis from 0 (bottom) to 1: numbers on a line or log axis, anything else evenly spaced.
function keyAxis(column, runs) {
  const values = distinctValues(runs.map(column.of));
  if (values.every((value) => typeof value === "number") && values.length > 1) return numberAxis(column, values);
  const place = new Map(values.map((value, at) => [value, values.length > 1 ? at / (values.length - 1) : 0.5]));
  const range = (low, high) => {
    const inside = values.filter((value) => place.get(value) >= low && place.get(value) <= high);
    return inside.length ? `${column.name} in [${inside.map(quoted).join(", ")}]` : "";
  };
  return { column, at: (value) => place.get(value), ticks: spaced(values, (value) => place.get(value)), range };
}

// If the numbers span decades, the axis is logarithmic, and a zero is at its lower end.
function numberAxis(column, values) {
  const positive = values.filter((value) => value > 0);
  const isLog = values[0] >= 0 && spansDecades(positive) && !page.data.shares.includes(column.name);
  const lowest = isLog && values[0] === 0 ? 0.12 : 0;
  const scale = (isLog ? d3.scaleLog() : d3.scaleLinear()).domain(d3.extent(isLog ? positive : values)).range([lowest, 1]);
  const at = (value) => (isLog && value === 0 ? 0 : scale(value));
  const value = (place) => (lowest > 0 && place < lowest / 2 ? 0 : scale.invert(Math.max(place, lowest)));
  const ticks = values.length <= 8 ? values : [values[0], values[values.length - 1], ...scale.ticks(isLog ? 3 : 5)];
  return { column, at, ticks: spaced(ticks, at), range: (low, high) => numberRange(column, value(low), value(high)) };
}

// The values whose texts do not cover each other; earlier ones come first.
function spaced(values, at) {
  const kept = [];
  for (const value of values) if (kept.every((other) => Math.abs(at(other) - at(value)) > 0.055)) kept.push(value);
  return kept;
}

function numberRange(column, low, high) {
  const [from, to] = [low, high].map((value) => Number(value.toPrecision(4)));
  return `${column.name} >= ${from} and ${column.name} <= ${to}`;
}

function quoted(value) {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

function parallelChart(width) {
  const metric = columnNamed(keyOptions.metric);
  const runs = chartedRuns().filter((run) => metric.of(run) !== null);
  const keys = varyingKeys().filter((column) => column.name !== "seed" && column.name !== "fold");
  if (runs.length < 2 || keys.length === 0) return null;
  const axes = [...keys.slice(0, MOST_AXES - 1), metric].map((column) => keyAxis(column, runs));
  const scale = colourScale(runs.map(metric.of));
  const points = runs.flatMap((run) => axes.map((axis) => ({
    run, axis: axis.column.name, y: axis.at(axis.column.of(run)), colour: scale(metric.of(run)),
  })));
  const title = ({ run }) => [...axes.map(({ column }) => `${column.title} ${column.text(run)}`), `seed ${run.seed}`].join("\n");
  const ticks = axes.flatMap((axis) => axis.ticks.map((tick) => ({
    axis: axis.column.name, y: axis.at(tick),
    text: axis.column === metric ? metricText(metric.name, tick) : shortText(valueText(tick)),
  })));
  const svg = Plot.plot({
    width, height: 320, marginTop: 34, marginBottom: 14, marginLeft: 40, marginRight: 70, className: "chart",
    x: { type: "point", padding: 0, domain: axes.map(({ column }) => column.name), axis: "top", label: null, tickSize: 0, tickFormat: (name) => shortText(columnNamed(name).title.replace("validation", "val."), width / axes.length / 6.5) },
    y: { domain: [0, 1], axis: null },
    color: { type: "identity" },
    marks: [
      Plot.ruleX(axes, { x: (axis) => axis.column.name, stroke: "currentColor", strokeOpacity: 0.35 }),
      Plot.lineY(points, { x: "axis", y: "y", z: "run", stroke: "colour", strokeOpacity: 0.7, strokeWidth: 1.4 }),
      Plot.text(ticks, { x: "axis", y: "y", text: "text", dx: 5, textAnchor: "start", fill: "currentColor", stroke: "var(--paper)", strokeWidth: 4, fontSize: 11 }),
      Plot.tip(points, Plot.pointer({ x: "axis", y: "y", title, stroke: "colour", fontSize: 12 })),
    ],
  });
  svg.id = "parallel";
  svg.setAttribute("aria-label", "parallel coordinates");
  const order = new Map(runs.map((run, at) => [run, at]));
  const paths = svg.querySelectorAll("g[aria-label=line] path");
  svg.addEventListener("input", () => {
    const pointed = svg.value ? order.get(svg.value.run) : null;
    paths.forEach((path, at) => {
      path.style.opacity = pointed === null || at === pointed ? "" : 0.15;
      path.style.strokeWidth = at === pointed ? 3 : "";
    });
  });
  makeZoomable(svg, {
    horizontal: false,
    zoomed: (axis, [low, high]) => {
      const condition = axes.find(({ column }) => column.name === axis)?.range(low, high);
      if (condition) page.setFilter(page.filter.trim() ? `(${page.filter}) and ${condition}` : condition);
    },
    reset: () => page.setFilter(""),
  });
  return svg;
}

function shortText(text, most = 16) {
  return text.length <= most ? text : `${text.slice(0, Math.max(3, most - 1))}…`;
}

// The mean over the runs of a setting; with more keys than two, the best setting of each cell.
function heatCells(metric, rowKey, columnKey) {
  const better = page.data.larger_is_better[metric.name] ? d3.max : d3.min;
  const cells = d3.flatRollup(chartedRuns(), (members) => members, (run) => columnKey.text(run), (run) => rowKey.text(run));
  return cells.map(([x, y, members]) => {
    const settings = d3.rollups(members, (own) => ({ mean: meanOf(own, metric.name), runs: own }), (run) => run.setting).map(([, found]) => found);
    const value = better(settings, (setting) => setting.mean) ?? null;
    const best = settings.find((setting) => setting.mean === value);
    return { x, y, value, count: members.length, settings: settings.length, status: best.runs[0].status, label: page.data.settings[best.runs[0].setting] };
  });
}

function heatMap(width) {
  const metric = columnNamed(keyOptions.metric);
  const [rowKey, columnKey] = [columnNamed(keyOptions.rows), columnNamed(keyOptions.columns)];
  if (!rowKey || !columnKey || rowKey === columnKey) return null;
  const cells = heatCells(metric, rowKey, columnKey);
  const values = cells.map((cell) => cell.value).filter((value) => value !== null);
  if (values.length === 0) return null;
  const scale = colourScale(values);
  const reversed = !page.data.larger_is_better[metric.name];
  const [low, high] = d3.extent(values);
  const colourOf = (value) => scale(reversed ? (spansDecades(values) ? (low * high) / value : low + high - value) : value);
  const domain = (column) => distinctValues(page.kept.map(column.of)).map((value) => column.text(page.kept.find((run) => compareValues(column.of(run), value) === 0)));
  const [xs, ys] = [domain(columnKey), domain(rowKey)];
  const brightness = (colour) => d3.lab(colour).l;
  const title = (cell) => [
    `${rowKey.title} ${cell.y}`, `${columnKey.title} ${cell.x}`,
    cell.value === null ? cell.status : `${metric.title} ${metricText(metric.name, cell.value)}`,
    cell.settings > 1 ? `best of ${cell.settings} settings: ${cell.label}` : `${cell.count} run${cell.count === 1 ? "" : "s"}`,
  ].join("\n");
  const svg = Plot.plot({
    width, height: Math.min(560, 70 + 34 * ys.length), className: "chart", marginBottom: 44, padding: 0.03,
    marginLeft: Math.min(150, 24 + 7 * d3.max(ys, (text) => Math.min(text.length, 16))),
    x: { type: "band", domain: xs, label: columnKey.title, tickFormat: (text) => shortText(text, (0.8 * width) / xs.length / 6.5) },
    y: { type: "band", domain: ys, label: rowKey.title, tickFormat: (text) => shortText(text) },
    color: { type: "identity" },
    marks: [
      Plot.cell(cells, { x: "x", y: "y", fill: (cell) => (cell.value === null ? "#8884" : colourOf(cell.value)) }),
      xs.length <= Math.min(MOST_CELLS_WITH_TEXT, width / 48) ? Plot.text(cells, {
        x: "x", y: "y", fontSize: 11,
        text: (cell) => (cell.value === null ? shortText(cell.status, width / xs.length / 7) : metricText(metric.name, cell.value)),
        fill: (cell) => (cell.value === null ? "currentColor" : brightness(colourOf(cell.value)) < 60 ? "white" : "black"),
      }) : null,
      Plot.tip(cells, Plot.pointer({ x: "x", y: "y", title, maxRadius: 60, fontSize: 12 })),
    ],
  });
  svg.id = "heat";
  svg.setAttribute("aria-label", "heat map");
  return svg;
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
    element("div", { class: "controls" }, choice("metric", metrics.map((column) => [column.name, column.title]), keyOptions.metric, set("metric"))),
    parallel,
    missing("One line per run. Point at a line for its values. Drag along an axis to filter by its range, press twice to drop the filter."),
    element("div", { class: "controls" }, choice("rows", options, keyOptions.rows, set("rows")), choice("columns", options, keyOptions.columns, set("columns"))),
    heat,
    missing("Mean over the completed runs of a setting; if other keys differ too, the best setting of each cell."));
  page.views.push(() => {
    parallel.replaceChildren(parallelChart(parallel.clientWidth) ?? missing("Parallel coordinates need two completed runs and a key that differs."));
    heat.replaceChildren(heatMap(Math.min(heat.clientWidth, 900)) ?? missing("The heat map needs completed runs and two different keys."));
  });
}
