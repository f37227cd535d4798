"use strict";
// The part of the page that answers to the reader: filter, groups, charts. Started by the last lines.
const FILTER_NOTE =
  "A filter compares columns: lr > 0.01 and (seed == 0 or status == diverged), val/accuracy >= 91 %, " +
  "model in [mlp, resnet20]; ~ is “contains”, a word alone finds the runs that have it anywhere. Point at the " +
  "head of a column for its name.";

function groupList(box) {
  const list = element("ul", { class: "groups", id: "groups" });
  const count = element("span", { class: "note" });
  const setAll = (shown) => {
    page.chosenGroups = true;
    page.hiddenGroups = new Set(
      page.groups.filter((group, at) => !shown(group, at)).map((group) => group.label),
    );
    changed();
  };
  box.append(
    element(
      "div",
      { class: "controls" },
      pushButton("show all", () => setAll(() => true)),
      pushButton("show none", () => setAll(() => false)),
      pushButton(`show the first ${SHOWN_AT_FIRST}`, () => setAll((_, at) => at < SHOWN_AT_FIRST)),
      count,
    ),
    list,
  );
  page.views.push(() => {
    const focused = document.activeElement?.closest?.("#groups li")?.dataset.label;
    list.replaceChildren(...page.groups.map(groupItem));
    const runs = `${page.kept.length} of ${page.data.runs.length} runs`;
    count.textContent = `${runs}, ${shownGroups().length} of ${page.groups.length} lines`;
    if (focused !== undefined)
      [...list.children]
        .find((item) => item.dataset.label === focused)
        ?.querySelector("input")
        .focus();
  });
}

function groupItem(group) {
  const swatch = element("span", { class: "swatch" });
  swatch.style.borderTop = `3px ${group.dash ? "dashed" : "solid"} ${group.colour}`;
  const mean = meanOf(group.runs, page.data.metric);
  const input = element("input", {
    type: "checkbox",
    checked: !page.hiddenGroups.has(group.label),
    onchange: () => {
      page.chosenGroups = true;
      page.hiddenGroups[input.checked ? "delete" : "add"](group.label);
      changed();
    },
  });
  const unit = page.data.shares.includes(page.data.metric) ? " %" : "";
  const runs = `${group.runs.length} run${group.runs.length === 1 ? "" : "s"}`;
  const item = element(
    "li",
    {},
    element("label", {}, input, swatch, element("span", { class: "label", textContent: group.label })),
    element("span", {
      class: "note",
      textContent: mean === null ? runs : `${metricText(page.data.metric, mean)}${unit}, ${runs}`,
    }),
  );
  item.dataset.label = group.label;
  return item;
}

// A field for the filter, and what is wrong with it. The charts and the table have one each, with the same text.
function filterField() {
  const error = element("span", { class: "error", role: "status" });
  const input = element("input", {
    type: "search",
    placeholder: "lr > 0.01 and seed == 0",
    spellcheck: false,
    oninput: () => page.setFilter(input.value),
  });
  page.views.push(() => {
    if (input.value !== page.filter) input.value = page.filter;
    error.textContent = page.filterError;
    input.setAttribute("aria-invalid", String(page.filterError !== ""));
  });
  return element("label", { class: "control filter" }, "filter ", input, error);
}

function filterBox(box) {
  const keys = page.columns
    .filter((column) => column.kind === "key")
    .map((column) => [column.name, column.title]);
  const metrics = page.columns
    .filter((column) => column.kind === "metric")
    .map((column) => [column.name, column.title]);
  const set = (name) => (value) => {
    page[name] = value;
    page.chosenGroups = page.chosenGroups && name !== "groupBy";
    changed();
  };
  box.append(
    element(
      "div",
      { class: "controls" },
      filterField(),
      choice("group by", [["setting", "setting"], ["run", "run"], ...keys], page.groupBy, set("groupBy")),
      choice("colour by", [["group", "group"], ...keys, ...metrics], page.colourBy, set("colourBy")),
    ),
  );
}

const PARTS = {
  following: [startFollowing],
  explorer: [filterBox, groupList, startCurves, startKeyCharts],
  "all-runs": [startRunsTable],
  "test-images": [startTestImages],
};

// Builds the controls for the keys and metrics that there are; what the reader chose stays.
function build() {
  page.views = [];
  applyFilter();
  makeGroups();
  for (const [name, starts] of Object.entries(PARTS)) {
    const box = document.getElementById(name);
    if (box === null) continue;
    box.replaceChildren();
    for (const start of starts) start(box);
  }
  drawAll();
}

// Shows other data: a run that goes on, or a new one.
function takeData(data) {
  const shape = () => JSON.stringify([page.columns.map((column) => column.name), page.data.curves]);
  const before = shape();
  setData(data);
  if (shape() === before) changed();
  else build();
}

function startExplorer() {
  const block = document.querySelector("#chart-data");
  const box = document.querySelector("#explorer");
  if (!block || !box) return;
  setData(JSON.parse(block.textContent));
  build();
  theme.changed.push(changed);
  let width = box.clientWidth;
  new ResizeObserver(() => {
    if (box.clientWidth !== width) {
      width = box.clientWidth;
      changed();
    }
  }).observe(box);
  if (page.data.live) askAgain();
}

startExplorer();
