"use strict";
// The lines of the curve charts: points of metrics.csv, smoothed, averaged over the runs of a group.
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
      const factor = x === "images" ? (run.batch ?? NaN) : 1;
      const points = [];
      ys.forEach((y, at) => {
        const place = xs[at] === null ? NaN : xs[at] * factor;
        if (y !== null && Number.isFinite(place) && (!curveOptions.logX || place > 0))
          points.push([place, y]);
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
  return longest
    .filter(([x]) => x >= from && x <= to)
    .map(([x]) => {
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
    const curves = group.runs
      .map((run) => ({ run, points: curvePoints(run, metric) }))
      .filter(({ points }) => points.length);
    const together = curves.filter(({ run }) => run.status !== "diverged" && run.status !== "failed");
    const apart = curveOptions.lines === "runs" || together.length < 2;
    if (!apart) {
      const points = meanPoints(together.map(({ points }) => points));
      if (points.length) add(points, group, `${group.label}: mean of ${together.length}`);
    }
    for (const { run, points } of apart ? curves : curves.filter((one) => !together.includes(one))) {
      const name = page.groupBy === "run" ? group.label : `${group.label}, seed ${run.seed}`;
      const ended = run.status === "completed" ? "" : `, ${run.status}`;
      add(
        points.map(([x, y]) => ({ x, y, low: y, high: y })),
        group,
        name + ended,
        run,
      );
    }
  }
  return rows;
}

function isVarying(metric) {
  return page.data.runs.some((run) =>
    run.curves.some((rows) => {
      const values = (rows.y[metric] ?? []).filter((value) => value !== null);
      return values.length > 0 && d3.max(values) - d3.min(values) > 1e-9 * Math.abs(d3.max(values));
    }),
  );
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
