"use strict";
// All runs: sorted by any column, columns shown or hidden, runs switched off in the charts.
const tableOptions = { sortBy: null, ascending: true, hidden: null };

function hiddenAtFirst(column) {
  return column.kind === "label"
    ? column.name === "setting"
    : column.kind === "key" && column.tells === false;
}

function sortedRuns(runs) {
  const { sortBy, ascending } = tableOptions;
  const column = sortBy && columnNamed(sortBy);
  if (!column) return runs;
  const isEmpty = (value) => value === null || value === undefined;
  return [...runs].sort((p, q) => {
    const [a, b] = [column.of(p), column.of(q)];
    // Empty cells come last in both directions.
    if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
    return (ascending ? 1 : -1) * compareValues(a, b);
  });
}

function headCell(column) {
  const sorted = tableOptions.sortBy === column.name;
  const press = () => {
    tableOptions.ascending = sorted ? !tableOptions.ascending : true;
    tableOptions.sortBy = column.name;
    changed();
  };
  const button = element(
    "button",
    { type: "button", onclick: press, title: column.name },
    column.title,
    element("span", { "aria-hidden": "true" }),
  );
  const direction = sorted ? (tableOptions.ascending ? "ascending" : "descending") : "none";
  return element("th", { scope: "col", "aria-sort": direction }, button);
}

function runRow(run, columns) {
  const shown = element("input", {
    type: "checkbox",
    checked: !page.hiddenRuns.has(run.folder),
    "aria-label": "in the charts",
    onchange: () => {
      page.hiddenRuns[shown.checked ? "delete" : "add"](run.folder);
      changed();
    },
  });
  const cells = columns.map((column) => {
    const number = typeof column.of(run) === "number";
    const cell = element("td", { class: number ? "number" : "" });
    if (column.name === "folder" && run.link)
      cell.append(element("a", { href: run.link, textContent: column.text(run) }));
    else cell.textContent = column.text(run);
    return cell;
  });
  return element("tr", {}, element("td", {}, shown), ...cells);
}

function columnMenu() {
  const boxes = page.columns.map((column) =>
    checkbox(column.title, !tableOptions.hidden.has(column.name), (on) => {
      tableOptions.hidden[on ? "delete" : "add"](column.name);
      changed();
    }),
  );
  return element(
    "details",
    { id: "columns" },
    element("summary", { textContent: "columns" }),
    element("div", { class: "controls" }, ...boxes),
  );
}

function startRunsTable(box) {
  tableOptions.hidden ??= new Set(page.columns.filter(hiddenAtFirst).map((column) => column.name));
  const head = element("tr");
  const body = element("tbody");
  const count = element("span", { class: "note" });
  box.append(
    element("div", { class: "controls" }, filterField(), count),
    columnMenu(),
    element("div", { class: "wide" }, element("table", {}, element("thead", {}, head), body)),
    element("p", { class: "note", textContent: FILTER_NOTE }),
  );
  page.views.push(() => {
    const columns = page.columns.filter((column) => !tableOptions.hidden.has(column.name));
    head.replaceChildren(element("th", { scope: "col", textContent: " " }), ...columns.map(headCell));
    body.replaceChildren(...sortedRuns(page.kept).map((run) => runRow(run, columns)));
    count.textContent = `${page.kept.length} of ${page.data.runs.length} runs`;
  });
}
