"use strict";
// Elements, and numbers as text. Text from records only ever becomes textContent, never HTML.
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A labelled <select> of [value, text] pairs.
function choice(label, options, value, chosen) {
  const select = element("select", { onchange: () => chosen(select.value) });
  for (const [name, text] of options) select.append(element("option", { value: name, textContent: text }));
  select.value = value;
  return element("label", { class: "control" }, label, " ", select);
}

function checkbox(label, checked, changed) {
  const input = element("input", { type: "checkbox", checked, onchange: () => changed(input.checked) });
  return element("label", { class: "control" }, input, " ", label);
}

function pushButton(text, pressed) {
  return element("button", { type: "button", textContent: text, onclick: pressed });
}

// 0.0001 as 1e-4, 1234567 as 1.23457e6: as the tables of the report have it.
function numberText(value) {
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-2 && size < 1e6)) return String(Number(value.toPrecision(6)));
  return value.toExponential(5).replace(/\.?0*e\+?/, "e");
}

function valueText(value) {
  if (value === null || value === undefined) return "—";
  return typeof value === "number" ? numberText(value) : String(value);
}

// Whether positive numbers span more than a factor of ten, so that a log axis shows them better.
function spansDecades(numbers) {
  const positive = numbers.filter((number) => number > 0);
  return (
    positive.length > 1 &&
    positive.length === numbers.length &&
    Math.max(...positive) > 10 * Math.min(...positive)
  );
}

// Numbers by size, then texts in natural order, then empty values.
function compareValues(a, b) {
  const kind = (value) => (value === null || value === undefined ? 2 : typeof value === "number" ? 0 : 1);
  if (kind(a) !== kind(b)) return kind(a) - kind(b);
  if (kind(a) === 0) return a - b;
  return kind(a) === 1 ? String(a).localeCompare(String(b), "en", { numeric: true }) : 0;
}

function distinctValues(values) {
  const found = new Map(values.map((value) => [`${typeof value} ${value}`, value]));
  return [...found.values()].sort(compareValues);
}

function shortText(text, most = 16) {
  return text.length <= most ? text : `${text.slice(0, Math.max(3, most - 1))}…`;
}
