"use strict";
// Curves of metrics.csv: one chart per metric, one line per group (mean and range) or per run.
const curveOptions = {
  x: "epoch",
  y: "auto",
  logX: false,
  smoothing: 0,
  lines: "mean",
  chosen: null, // names of the metrics that are drawn
  zoomX: null,
  zoomY: new Map(), // metric -> [low, high]
};
const LOG_FROM = 30; // a loss that falls by this factor is drawn on a log axis
const X_NAMES = { epoch: "epoch", step: "step", seconds: "seconds of training", images: "images" };

// The points of one metric of one run: [[x, y], ..], ordered; images are steps times the batch.
function curvePoints(run, metric) {
  const { x, smoothing } = curveOptions;
  for (const rows of run.curves) {
    const ys = rows.y[metric];
    const xs = rows.x[x === "images" ? "step" : x];
    if (ys && xs) {
      const factor = x === "images" ? run.batch ?? NaN : 1;
      const points = [];
      ys.forEach((y, at) => {
        const place = xs[at] === null ? NaN : xs[at] * factor;
        if (y !== null && Number.isFinite(place) && (!curveOptions.logX || place > 0)) points.push([place, y]);
      });
      return smoothing > 0 ? smoothed(points, smoothing) : points;
    }
  }
  return [];
}

// Exponential moving average; divided by the sum of its weights, so that it starts at the first value.
function smoothed(points, share) {
  let [sum, weight] = [0, 0];
  return points.map(([x, y]) => {
    sum = share * sum + (1 - share) * y;
    weight = share * weight + (1 - share);
    return [x, sum / weight];
  });
}

// Mean, lowest and highest value over runs, at the x of the longest one, where all of them have values.
function meanPoints(curves) {
  const longest = d3.greatest(curves, (points) => points.length);
  const from = d3.max(curves, (points) => points[0][0]);
  const to = d3.min(curves, (points) => points[points.length - 1][0]);
  const at = (points, x) => {
    const right = Math.min(d3.bisector(([place]) => place).left(points, x), points.length - 1);
    const [x1, y1] = points[right];
    if (right === 0 || x1 <= x) return y1;
    const [x0, y0] = points[right - 1];
    return y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
  };
  return longest.filter(([x]) => x >= from && x <= to).map(([x]) => {
    const values = curves.map((points) => at(points, x));
    return { x, y: d3.mean(values), low: d3.min(values), high: d3.max(values) };
  });
}

// The lines of a chart, as rows with `line` (their number), label, colour and dash.
function curveRows(metric) {
  const rows = [];
  let line = 0;
  const add = (points, group, label, run = null) => {
    line += 1;
    const style = { line, label, colour: group.colour, dash: group.dash, status: run?.status ?? "completed" };
    rows.push(...points.map((point) => ({ ...point, ...style })));
  };
  for (const group of shownGroups()) {
    const curves = group.runs.map((run) => ({ run, points: curvePoints(run, metric) })).filter(({ points }) => points.length);
    const together = curves.filter(({ run }) => run.status !== "diverged" && run.status !== "failed");
    const apart = curveOptions.lines === "runs" || together.length < 2;
    if (!apart) {
      const points = meanPoints(together.map(({ points }) => points));
      if (points.length) add(points, group, `${group.label}: mean of ${together.length}`);
    }
    for (const { run, points } of apart ? curves : curves.filter((one) => !together.includes(one))) {
      const name = page.groupBy === "run" ? group.label : `${group.label}, seed ${run.seed}`;
      const ended = run.status === "completed" ? "" : `, ${run.status}`;
      add(points.map(([x, y]) => ({ x, y, low: y, high: y })), group, name + ended, run);
    }
  }
  return rows;
}

function isVarying(metric) {
  return page.data.runs.some((run) => run.curves.some((rows) => {
    const values = (rows.y[metric] ?? []).filter((value) => value !== null);
    return values.length > 0 && d3.max(values) - d3.min(values) > 1e-9 * Math.abs(d3.max(values));
  }));
}

// The losses of diverged runs would flatten all others; shares are bounded.
function yRange(rows, metric) {
  const good = rows.filter((row) => row.status !== "diverged");
  const counted = good.length && !page.data.shares.includes(metric) ? good : rows;
  return [d3.min(counted, (row) => row.low), d3.max(counted, (row) => row.high)];
}

function isLogY(rows, metric) {
  if (curveOptions.y !== "auto") return curveOptions.y === "log";
  const [low, high] = yRange(rows, metric);
  return !page.data.shares.includes(metric) && low > 0 && high / low > LOG_FROM;
}

function curveChart(metric, width) {
  let rows = curveRows(metric);
  const share = page.data.shares.includes(metric);
  const log = isLogY(rows, metric);
  if (log) rows = rows.filter((row) => row.low > 0);
  if (rows.length === 0) return element("p", { class: "note", textContent: `${page.data.titles[metric]}: nothing to draw` });
  const percent = (value) => (share ? 100 * value : value);
  const format = (value) => (share ? `${metricText(metric, value)} %` : numberText(Number(value.toPrecision(5))));
  rows = rows.map((row) => ({ ...row, y: percent(row.y), low: percent(row.low), high: percent(row.high) }));
  const lines = d3.groups(rows, (row) => row.dash);
  const title = (row) => `${row.label}\n${X_NAMES[curveOptions.x]} ${numberText(row.x)}\n${page.data.titles[metric].replace(", %", "")} ${format(share ? row.y / 100 : row.y)}`;
  const rangeX = curveOptions.zoomX ?? d3.extent(rows, (row) => row.x);
  const zoomY = curveOptions.zoomY.get(metric);
  const [low, high] = yRange(rows, metric);
  const room = log ? 0 : 0.04 * (high - low) || 0.05 * Math.abs(high) || 1;
  const single = d3.groups(rows, (row) => row.line).filter(([, points]) => points.length === 1).map(([, points]) => points[0]);
  const ends = d3.groups(rows, (row) => row.line).map(([, points]) => points[points.length - 1]).filter((row) => row.status === "diverged");
  const domainY = zoomY ?? [low - room, high + room];
  const inside = (row) => ({ ...row, y: Math.min(Math.max(row.y, domainY[0]), domainY[1]) });
  const svg = Plot.plot({
    width,
    height: Math.round(Math.max(220, Math.min(320, 0.62 * width))),
    marginLeft: 52,
    marginBottom: 40,
    className: "chart",
    x: { label: X_NAMES[curveOptions.x], type: curveOptions.logX ? "log" : "linear", tickFormat: curveOptions.logX ? numberText : "~s", domain: rangeX, ticks: wholeTicks(rangeX, width) },
    y: { label: page.data.titles[metric], type: log ? "log" : "linear", grid: true, domain: domainY, tickFormat: log ? numberText : undefined, ticks: log ? 5 : undefined },
    color: { type: "identity" },
    marks: [
      Plot.areaY(rows, { x: "x", y1: "low", y2: "high", z: "line", fill: "colour", fillOpacity: 0.15, clip: true }),
      ...lines.map(([dash, of]) => Plot.lineY(of, { x: "x", y: "y", z: "line", stroke: "colour", strokeWidth: 1.6, strokeDasharray: dash ?? undefined, clip: true })),
      Plot.dot(single, { x: "x", y: "y", fill: "colour", r: 3 }),
      Plot.dot(ends.map(inside), { x: "x", y: "y", stroke: "colour", symbol: "times", r: 5, strokeWidth: 2 }),
      Plot.dot(rows, Plot.pointer({ x: "x", y: "y", fill: "colour", r: 4 })),
      Plot.tip(rows, Plot.pointer({ x: "x", y: "y", title, stroke: "colour", fontSize: 12 })),
    ],
  });
  svg.setAttribute("aria-label", `${page.data.titles[metric]} over ${X_NAMES[curveOptions.x]}`);
  svg.dataset.metric = metric;
  makeZoomable(svg, {
    zoomed: (x, y) => {
      curveOptions.zoomX = x;
      curveOptions.zoomY.set(metric, y);
      changed();
    },
    reset: unzoom,
  });
  return svg;
}

// Epochs and steps are whole; undefined leaves the ticks to Plot.
function wholeTicks([low, high], width) {
  if (curveOptions.logX || curveOptions.x === "seconds" || high - low < 1) return undefined;
  return d3.ticks(low, high, width / 70).filter(Number.isInteger);
}

function unzoom() {
  curveOptions.zoomX = null;
  curveOptions.zoomY.clear();
  changed();
}

function startCurves(box) {
  const names = page.data.curves;
  if (names.length === 0) return;
  curveOptions.chosen ??= new Set(names.filter(isVarying).filter((name) => !name.startsWith("test/")).slice(0, 6));
  const set = (name) => (value) => {
    curveOptions[name] = value;
    if (name === "x" || name === "logX") curveOptions.zoomX = null;
    if (name === "y") curveOptions.zoomY.clear();
    changed();
  };
  const slider = element("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: curveOptions.smoothing, oninput: () => set("smoothing")(Number(slider.value)) });
  const metrics = names.map((name) => checkbox(page.data.titles[name], curveOptions.chosen.has(name), (on) => {
    curveOptions.chosen[on ? "add" : "delete"](name);
    changed();
  }));
  const plots = element("div", { class: "plots", id: "curves" });
  box.append(
    element("h3", { textContent: "Curves" }),
    element("div", { class: "controls" },
      choice("x axis", Object.entries(X_NAMES), curveOptions.x, set("x")),
      checkbox("log x", curveOptions.logX, set("logX")),
      choice("y axis", [["auto", "log if it falls far"], ["linear", "linear"], ["log", "log"]], curveOptions.y, set("y")),
      choice("lines", [["mean", "mean and range"], ["runs", "every run"]], curveOptions.lines, set("lines")),
      element("label", { class: "control" }, "smoothing ", slider),
      pushButton("reset zoom", unzoom)),
    element("details", {}, element("summary", { textContent: "metrics" }), element("div", { class: "controls" }, ...metrics)),
    plots,
    element("p", { class: "note", textContent: "Point at a line for its values. Drag to zoom, press twice to zoom out. Band: from the lowest to the highest run. Cross: the run diverged." }));
  page.views.push(() => {
    const width = Math.max(280, plots.clientWidth > 700 ? (plots.clientWidth - 16) / 2 : plots.clientWidth);
    const wanted = names.filter((name) => curveOptions.chosen.has(name));
    plots.replaceChildren(...wanted.map((name) => curveChart(name, Math.floor(width))));
  });
}
