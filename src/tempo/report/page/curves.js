"use strict";
// Curves of metrics.csv: one chart per metric, one line per group (mean and range) or per run.
const CURVES_NOTE =
  "Point at a line for its values. Drag to zoom, press twice to zoom out. Band: from the lowest to the highest " +
  "run. Cross: the run diverged.";

// What the pointer shows of a point.
function curveValues(row, metric) {
  const share = page.data.shares.includes(metric);
  const value = share ? `${row.y.toFixed(2)} %` : numberText(Number(row.y.toPrecision(5)));
  const name = page.data.titles[metric].replace(", %", "");
  return `${row.label}\n${X_NAMES[curveOptions.x]} ${numberText(row.x)}\n${name} ${value}`;
}

function curveMarks(rows, [low, high], title) {
  const lines = d3.groups(rows, (row) => row.line).map(([, points]) => points);
  const single = lines.filter((points) => points.length === 1).map(([point]) => point);
  const ends = lines.map((points) => points[points.length - 1]).filter((row) => row.status === "diverged");
  const inside = (row) => ({ ...row, y: Math.min(Math.max(row.y, low), high) });
  const place = { x: "x", y: "y" };
  const line = { ...place, z: "line", stroke: "colour", strokeWidth: 1.6, clip: true };
  return [
    Plot.areaY(rows, {
      x: "x",
      y1: "low",
      y2: "high",
      z: "line",
      fill: "colour",
      fillOpacity: 0.15,
      clip: true,
    }),
    // A mark has one dash.
    ...d3
      .groups(rows, (row) => row.dash)
      .map(([dash, of]) => Plot.lineY(of, { ...line, strokeDasharray: dash ?? undefined })),
    Plot.dot(single, { ...place, fill: "colour", r: 3 }),
    Plot.dot(ends.map(inside), { ...place, stroke: "colour", symbol: "times", r: 5, strokeWidth: 2 }),
    Plot.dot(rows, Plot.pointer({ ...place, fill: "colour", r: 4 })),
    Plot.tip(rows, Plot.pointer({ ...place, title, stroke: "colour", fontSize: 12 })),
  ];
}

function curveChart(metric, width) {
  let rows = curveRows(metric);
  const share = page.data.shares.includes(metric);
  const log = isLogY(rows, metric);
  if (log) rows = rows.filter((row) => row.low > 0);
  if (rows.length === 0)
    return element("p", { class: "note", textContent: `${page.data.titles[metric]}: nothing to draw` });
  const percent = (value) => (share ? 100 * value : value);
  rows = rows.map((row) => ({ ...row, y: percent(row.y), low: percent(row.low), high: percent(row.high) }));
  const rangeX = curveOptions.zoomX ?? d3.extent(rows, (row) => row.x);
  const [low, high] = yRange(rows, metric);
  const room = log ? 0 : 0.04 * (high - low) || 0.05 * Math.abs(high) || 1;
  const rangeY = curveOptions.zoomY.get(metric) ?? [low - room, high + room];
  const svg = Plot.plot({
    width,
    height: Math.round(Math.max(220, Math.min(320, 0.62 * width))),
    marginLeft: 52,
    marginBottom: 40,
    className: "chart",
    x: {
      label: X_NAMES[curveOptions.x],
      type: curveOptions.logX ? "log" : "linear",
      tickFormat: curveOptions.logX ? numberText : "~s",
      domain: rangeX,
      ticks: wholeTicks(rangeX, width),
    },
    y: {
      label: page.data.titles[metric],
      type: log ? "log" : "linear",
      grid: true,
      domain: rangeY,
      tickFormat: log ? numberText : undefined,
      ticks: log ? 5 : undefined,
    },
    color: { type: "identity" },
    marks: curveMarks(rows, rangeY, (row) => curveValues(row, metric)),
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
  curveOptions.chosen ??= new Set(
    names
      .filter(isVarying)
      .filter((name) => !name.startsWith("test/"))
      .slice(0, 6),
  );
  const set = (name) => (value) => {
    curveOptions[name] = value;
    if (name === "x" || name === "logX") curveOptions.zoomX = null;
    if (name === "y") curveOptions.zoomY.clear();
    changed();
  };
  const slider = element("input", {
    type: "range",
    min: 0,
    max: 0.99,
    step: 0.01,
    value: curveOptions.smoothing,
    oninput: () => set("smoothing")(Number(slider.value)),
  });
  const metrics = names.map((name) =>
    checkbox(page.data.titles[name], curveOptions.chosen.has(name), (on) => {
      curveOptions.chosen[on ? "add" : "delete"](name);
      changed();
    }),
  );
  const plots = element("div", { class: "plots", id: "curves" });
  box.append(
    element("h3", { textContent: "Curves" }),
    element(
      "div",
      { class: "controls" },
      choice("x axis", Object.entries(X_NAMES), curveOptions.x, set("x")),
      checkbox("log x", curveOptions.logX, set("logX")),
      choice(
        "y axis",
        [
          ["auto", "log if it falls far"],
          ["linear", "linear"],
          ["log", "log"],
        ],
        curveOptions.y,
        set("y"),
      ),
      choice(
        "lines",
        [
          ["mean", "mean and range"],
          ["runs", "every run"],
        ],
        curveOptions.lines,
        set("lines"),
      ),
      element("label", { class: "control" }, "smoothing ", slider),
      pushButton("reset zoom", unzoom),
    ),
    element(
      "details",
      {},
      element("summary", { textContent: "metrics" }),
      element("div", { class: "controls" }, ...metrics),
    ),
    plots,
    element("p", {
      class: "note",
      textContent: CURVES_NOTE,
    }),
  );
  page.views.push(() => {
    const width = Math.max(280, plots.clientWidth > 700 ? (plots.clientWidth - 16) / 2 : plots.clientWidth);
    const wanted = names.filter((name) => curveOptions.chosen.has(name));
    plots.replaceChildren(...wanted.map((name) => curveChart(name, Math.floor(width))));
  });
}
