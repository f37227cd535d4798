"use strict";
// Parallel coordinates: one axis per key and one for a metric, one line per run.
const MOST_AXES = 8;

// An axis from 0 (bottom) to 1: numbers on a line or log axis, anything else evenly spaced.
function keyAxis(column, runs) {
  const values = distinctValues(runs.map(column.of));
  if (values.every((value) => typeof value === "number") && values.length > 1)
    return numberAxis(column, values);
  const place = new Map(
    values.map((value, at) => [value, values.length > 1 ? at / (values.length - 1) : 0.5]),
  );
  const range = (low, high) => {
    const inside = values.filter((value) => place.get(value) >= low && place.get(value) <= high);
    return inside.length ? `${column.name} in [${inside.map(quoted).join(", ")}]` : "";
  };
  return {
    column,
    at: (value) => place.get(value),
    ticks: spaced(values, (value) => place.get(value)),
    range,
  };
}

// If the numbers span decades, the axis is logarithmic, and a zero is at its lower end.
function numberAxis(column, values) {
  const positive = values.filter((value) => value > 0);
  const isLog = values[0] >= 0 && spansDecades(positive) && !page.data.shares.includes(column.name);
  const lowest = isLog && values[0] === 0 ? 0.12 : 0;
  const scale = (isLog ? d3.scaleLog() : d3.scaleLinear())
    .domain(d3.extent(isLog ? positive : values))
    .range([lowest, 1]);
  const at = (value) => (isLog && value === 0 ? 0 : scale(value));
  const value = (place) => (lowest > 0 && place < lowest / 2 ? 0 : scale.invert(Math.max(place, lowest)));
  const ticks =
    values.length <= 8 ? values : [values[0], values[values.length - 1], ...scale.ticks(isLog ? 3 : 5)];
  return {
    column,
    at,
    ticks: spaced(ticks, at),
    range: (low, high) => numberRange(column, value(low), value(high)),
  };
}

// The values whose texts do not cover each other; earlier ones come first.
function spaced(values, at) {
  const kept = [];
  for (const value of values)
    if (kept.every((other) => Math.abs(at(other) - at(value)) > 0.055)) kept.push(value);
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
  const points = runs.flatMap((run) =>
    axes.map((axis) => ({
      run,
      axis: axis.column.name,
      y: axis.at(axis.column.of(run)),
      colour: scale(metric.of(run)),
    })),
  );
  const title = ({ run }) =>
    [...axes.map(({ column }) => `${column.title} ${column.text(run)}`), `seed ${run.seed}`].join("\n");
  const ticks = axes.flatMap((axis) =>
    axis.ticks.map((tick) => ({
      axis: axis.column.name,
      y: axis.at(tick),
      text: axis.column === metric ? metricText(metric.name, tick) : shortText(valueText(tick)),
    })),
  );
  const svg = Plot.plot({
    width,
    height: 320,
    marginTop: 34,
    marginBottom: 14,
    marginLeft: 40,
    marginRight: 70,
    className: "chart",
    x: {
      type: "point",
      padding: 0,
      domain: axes.map(({ column }) => column.name),
      axis: "top",
      label: null,
      tickSize: 0,
      tickFormat: (name) =>
        shortText(columnNamed(name).title.replace("validation", "val."), width / axes.length / 6.5),
    },
    y: { domain: [0, 1], axis: null },
    color: { type: "identity" },
    marks: [
      Plot.ruleX(axes, { x: (axis) => axis.column.name, stroke: "currentColor", strokeOpacity: 0.35 }),
      Plot.lineY(points, {
        x: "axis",
        y: "y",
        z: "run",
        stroke: "colour",
        strokeOpacity: 0.7,
        strokeWidth: 1.4,
      }),
      Plot.text(ticks, {
        x: "axis",
        y: "y",
        text: "text",
        dx: 5,
        textAnchor: "start",
        fill: "currentColor",
        stroke: "var(--paper)",
        strokeWidth: 4,
        fontSize: 11,
      }),
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
