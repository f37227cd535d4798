"use strict";
// Sorts a table by the column whose head is pressed, and hides the rows that the filter does not find.
for (const box of document.querySelectorAll(".sortable")) {
  const body = box.querySelector("tbody");
  const heads = Array.from(box.querySelectorAll("th"));

  // Numbers before texts, by size; empty cells last in both directions.
  const compare = (a, b, direction) => {
    const empty = (a === undefined) - (b === undefined);
    if (empty !== 0 || a === undefined) return empty;
    const x = Number(a),
      y = Number(b);
    const numbers = !Number.isNaN(x) && !Number.isNaN(y);
    return direction * (numbers ? x - y : a.localeCompare(b, "en", { numeric: true }));
  };

  heads.forEach((head, column) => {
    head.setAttribute("aria-sort", "none");
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.sort;
      const rows = Array.from(body.rows);
      rows.sort((p, q) => compare(value(p), value(q), up ? 1 : -1));
      body.append(...rows);
    });
  });

  const filter = box.querySelector("input");
  if (filter) {
    filter.addEventListener("input", () => {
      const wanted = filter.value.toLowerCase();
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }
}
