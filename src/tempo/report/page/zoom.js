"use strict";
// Drag a rectangle on a chart to zoom in, press twice to zoom out. `zoomed` gets the ranges of x and y; without
// `horizontal`, x is the name of the axis where the drag began.
let dragging = false; // a chart is not drawn again under the mouse
const SMALLEST_DRAG = 6; // pixels: less is a click

function makeZoomable(svg, { zoomed, reset, horizontal = true, vertical = true }) {
  const [x, y] = [svg.scale("x"), svg.scale("y")];
  const inside = (value, range) => Math.min(Math.max(value, Math.min(...range)), Math.max(...range));
  let start = null;
  let box = null;

  const place = (event) => {
    const frame = svg.getBoundingClientRect();
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    return [
      inside(((event.clientX - frame.left) * width) / frame.width, x.range),
      inside(((event.clientY - frame.top) * height) / frame.height, y.range),
    ];
  };
  const corners = (end) => [
    horizontal ? [start[0], end[0]].sort(d3.ascending) : [...x.range].sort(d3.ascending),
    vertical ? [start[1], end[1]].sort(d3.ascending) : [...y.range].sort(d3.ascending),
  ];

  // In the capture phase: Plot would pin the hover values at the start of a drag.
  svg.addEventListener(
    "pointerdown",
    (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      event.stopImmediatePropagation();
      start = place(event);
      dragging = true;
      svg.setPointerCapture(event.pointerId);
    },
    true,
  );
  svg.addEventListener(
    "pointermove",
    (event) => {
      if (start === null) return;
      event.stopImmediatePropagation();
      const [[left, right], [top, bottom]] = corners(place(event));
      box ??= svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "rect"));
      const sizes = { class: "zoom", x: left, y: top, width: right - left, height: bottom - top };
      for (const [name, value] of Object.entries(sizes)) box.setAttribute(name, value);
    },
    true,
  );
  svg.addEventListener(
    "pointerup",
    (event) => {
      if (start === null) return;
      const [[left, right], [top, bottom]] = corners(place(event));
      const from = start[0];
      start = null;
      dragging = false;
      box?.remove();
      box = null;
      if (right - left < SMALLEST_DRAG || bottom - top < SMALLEST_DRAG) return;
      const nearest = () => d3.least(x.domain, (value) => Math.abs(x.apply(value) - from));
      zoomed(horizontal ? [x.invert(left), x.invert(right)] : nearest(), [y.invert(bottom), y.invert(top)]);
    },
    true,
  );
  svg.addEventListener("dblclick", reset);
}
