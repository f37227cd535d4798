"use strict";
// The runs of the page, their columns, and what the reader has chosen. Charts and tables only read `page`.
const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A", "#8A6D3B"];
const DASHES = [null, "7,3", "2,2.5", "8,3,2,3"];
const SHOWN_AT_FIRST = 8;

const page = {
  data: null,
  columns: [],
  filter: "",
  filterError: "",
  groupBy: "setting",
  colourBy: "group",
  groupColours: new Map(), // label -> place in the palette
  hiddenGroups: new Set(),
  hiddenRuns: new Set(), // folders
  chosenGroups: false, // whether the reader has switched groups on or off
  views: [],

  setFilter(text) {
    page.filter = text;
    changed();
  },
};

let drawingAsked = false;
// Draws every view again, once per frame.
function changed() {
  if (drawingAsked) return;
  drawingAsked = true;
  requestAnimationFrame(() => {
    drawingAsked = false;
    drawAll();
  });
}

function drawAll() {
  applyFilter();
  makeGroups();
  for (const view of page.views) view();
}

function setData(data) {
  page.data = data;
  page.columns = columnsOf(data);
  page.kept = undefined; // the runs that the filter keeps
  for (const run of data.runs) run.text = page.columns.map((column) => column.text(run)).join(" ");
}

function metricText(name, value) {
  if (value === null || value === undefined) return "—";
  return page.data.shares.includes(name)
    ? (100 * value).toFixed(2)
    : Math.abs(value) < 1e5
      ? value.toFixed(4)
      : numberText(value);
}

// Name, other names in filters, title, value and text of each column of the runs.
function columnsOf(data) {
  const column = (name, title, of, options = {}) => ({
    name,
    title,
    of,
    names: [name],
    kind: "fact",
    text: (run) => valueText(of(run)),
    ...options,
  });
  const found = data.keys.map(({ key, name, tells }, at) =>
    column(key, name, (run) => run.values[at], {
      names: [key, name, key.replace(/\._target_$/, "")],
      kind: "key",
      tells,
    }),
  );
  found.push(column("seed", "seed", (run) => run.seed, { kind: "key" }));
  if (data.runs.some((run) => run.fold !== null))
    found.push(column("fold", "fold", (run) => run.fold, { kind: "key" }));
  if (new Set(data.runs.map((run) => run.sweep)).size > 1) {
    found.push(column("sweep", "sweep", (run) => run.sweep || "—", { kind: "key" }));
  }
  found.push(
    column("status", "status", (run) => run.status, {
      text: (run) =>
        run.status +
        (run.smoke ? " [SMOKE: not comparable]" : "") +
        (run.progress === null ? "" : ` ${Math.floor(100 * run.progress)} %`),
    }),
  );
  for (const name of data.metrics) {
    found.push(
      column(name, data.titles[name], (run) => run.metrics[name] ?? null, {
        kind: "metric",
        text: (run) => metricText(name, run.metrics[name]),
      }),
    );
  }
  found.push(
    column("steps", "steps", (run) => run.steps),
    column("epochs", "epochs", (run) => run.epochs),
  );
  found.push(
    column("seconds", "training seconds", (run) => run.seconds, {
      names: ["seconds", "train_seconds"],
      text: (run) => (run.seconds === null ? "—" : run.seconds.toFixed(1)),
    }),
  );
  found.push(
    column("images_per_second", "images/s", (run) => run.speed, {
      text: (run) => (run.speed === null ? "—" : run.speed.toFixed(0)),
    }),
  );
  if (data.runs.some((run) => run.joules !== null))
    found.push(column("joules", "joules of training", (run) => run.joules));
  found.push(column("setting", "setting", (run) => data.settings[run.setting], { kind: "label" }));
  found.push(column("folder", "folder", (run) => run.folder, { kind: "label" }));
  return found;
}

function columnNamed(name) {
  return page.columns.find((column) => column.names.includes(name));
}

function applyFilter() {
  try {
    const keep = FilterExpression.parse(
      page.filter,
      (name) => columnNamed(name)?.of,
      (run) => run.text,
    );
    page.kept = page.data.runs.filter(keep);
    page.filterError = "";
  } catch (error) {
    page.kept = page.kept ?? page.data.runs; // the last filter that could be read stays
    page.filterError = error.message;
  }
}

// A group is a line of the charts: a setting, a run, or the runs that share the value of a key.
function makeGroups() {
  const { groupBy, colourBy } = page;
  const by = columnNamed(groupBy);
  const naming = { setting: (run) => page.data.settings[run.setting], run: (run) => run.folder };
  const labelOf = naming[groupBy] ?? ((run) => `${by.title}=${by.text(run)}`);
  const groups = new Map();
  for (const run of page.kept) {
    const label = labelOf(run);
    if (!groups.has(label)) groups.set(label, { label, runs: [], value: by?.of(run) });
    groups.get(label).runs.push(run);
  }
  page.groups = [...groups.values()];
  if (by?.kind === "key") page.groups.sort((a, b) => compareValues(a.value, b.value));
  colourGroups(colourBy === "group" ? null : columnNamed(colourBy));
  if (!page.chosenGroups) {
    const isRunning = (group) => group.runs.some((run) => run.status === "running");
    page.hiddenGroups = new Set(
      page.groups
        .filter((group, at) => at >= SHOWN_AT_FIRST && !isRunning(group))
        .map((group) => group.label),
    );
  }
}

// A group keeps its colour while others come and go. A key of many numbers has a scale of colours instead.
function colourGroups(by) {
  const values = by ? page.groups.map((group) => by.of(group.runs[0])) : [];
  const numbers = values.filter((value) => typeof value === "number");
  if (by && numbers.length === values.length && distinctValues(numbers).length > PALETTE.length) {
    const scale = colourScale(numbers);
    page.groups.forEach((group, at) => Object.assign(group, { colour: scale(values[at]), dash: null }));
    return;
  }
  const order = by ? distinctValues(values) : null;
  const colours = page.groupColours;
  page.groups.forEach((group, at) => {
    if (!by && !colours.has(group.label)) colours.set(group.label, colours.size);
    const place = by
      ? order.findIndex((value) => compareValues(value, values[at]) === 0)
      : colours.get(group.label);
    group.colour = PALETTE[place % PALETTE.length];
    group.dash = DASHES[Math.floor(place / PALETTE.length) % DASHES.length];
  });
}

// From numbers to colours, logarithmic if they span decades.
function colourScale(numbers) {
  const [low, high] = d3.extent(numbers);
  const scale = spansDecades(numbers)
    ? d3.scaleLog([low, high], [0.9, 0.1])
    : d3.scaleLinear([low, high], [0.9, 0.1]);
  return (value) => (low === high ? d3.interpolateViridis(0.5) : d3.interpolateViridis(1 - scale(value)));
}

function shownGroups() {
  return page.groups
    .filter((group) => !page.hiddenGroups.has(group.label))
    .map((group) => ({ ...group, runs: group.runs.filter((run) => !page.hiddenRuns.has(run.folder)) }))
    .filter((group) => group.runs.length > 0);
}

// The runs of the charts over keys: all that the filter keeps, until the reader switches groups on and off.
function chartedRuns() {
  if (page.chosenGroups) return shownGroups().flatMap((group) => group.runs);
  return page.kept.filter((run) => !page.hiddenRuns.has(run.folder));
}

function meanOf(runs, metric) {
  const values = runs
    .filter((run) => run.status === "completed")
    .map((run) => run.metrics[metric])
    .filter(Number.isFinite);
  return values.length ? d3.mean(values) : null;
}
