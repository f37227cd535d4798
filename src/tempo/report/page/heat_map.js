"use strict";
// A heat map of a metric over two keys.
const MOST_CELLS_WITH_TEXT = 16; // per row

// The mean over the runs of a setting; with more keys than two, the best setting of each cell.
function heatCells(metric, rowKey, columnKey) {
  const better = page.data.larger_is_better[metric.name] ? d3.max : d3.min;
  const cells = d3.flatRollup(
    chartedRuns(),
    (members) => members,
    (run) => columnKey.text(run),
    (run) => rowKey.text(run),
  );
  return cells.map(([x, y, members]) => {
    const settings = d3
      .rollups(
        members,
        (own) => ({ mean: meanOf(own, metric.name), runs: own }),
        (run) => run.setting,
      )
      .map(([, found]) => found);
    const value = better(settings, (setting) => setting.mean) ?? null;
    const best = settings.find((setting) => setting.mean === value);
    return {
      x,
      y,
      value,
      count: members.length,
      settings: settings.length,
      status: best.runs[0].status,
      label: page.data.settings[best.runs[0].setting],
    };
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
  const colourOf = (value) =>
    scale(reversed ? (spansDecades(values) ? (low * high) / value : low + high - value) : value);
  const domain = (column) =>
    distinctValues(page.kept.map(column.of)).map((value) =>
      column.text(page.kept.find((run) => compareValues(column.of(run), value) === 0)),
    );
  const [xs, ys] = [domain(columnKey), domain(rowKey)];
  const brightness = (colour) => d3.lab(colour).l;
  const title = (cell) =>
    [
      `${rowKey.title} ${cell.y}`,
      `${columnKey.title} ${cell.x}`,
      cell.value === null ? cell.status : `${metric.title} ${metricText(metric.name, cell.value)}`,
      cell.settings > 1
        ? `best of ${cell.settings} settings: ${cell.label}`
        : `${cell.count} run${cell.count === 1 ? "" : "s"}`,
    ].join("\n");
  const svg = Plot.plot({
    width,
    height: Math.min(560, 70 + 34 * ys.length),
    className: "chart",
    marginBottom: 44,
    padding: 0.03,
    marginLeft: Math.min(150, 24 + 7 * d3.max(ys, (text) => Math.min(text.length, 16))),
    x: {
      type: "band",
      domain: xs,
      label: columnKey.title,
      tickFormat: (text) => shortText(text, (0.8 * width) / xs.length / 6.5),
    },
    y: { type: "band", domain: ys, label: rowKey.title, tickFormat: (text) => shortText(text) },
    color: { type: "identity" },
    marks: [
      Plot.cell(cells, {
        x: "x",
        y: "y",
        fill: (cell) => (cell.value === null ? "#8884" : colourOf(cell.value)),
      }),
      xs.length <= Math.min(MOST_CELLS_WITH_TEXT, width / 48)
        ? Plot.text(cells, {
            x: "x",
            y: "y",
            fontSize: 11,
            text: (cell) =>
              cell.value === null
                ? shortText(cell.status, width / xs.length / 7)
                : metricText(metric.name, cell.value),
            fill: (cell) =>
              cell.value === null
                ? "currentColor"
                : brightness(colourOf(cell.value)) < 60
                  ? "white"
                  : "black",
          })
        : null,
      Plot.tip(cells, Plot.pointer({ x: "x", y: "y", title, maxRadius: 60, fontSize: 12 })),
    ],
  });
  svg.id = "heat";
  svg.setAttribute("aria-label", "heat map");
  return svg;
}
