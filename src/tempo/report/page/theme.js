"use strict";
// The light or dark look: what the system prefers, until the button is pressed.
const theme = {
  changed: [],

  get dark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  },

  set(name) {
    document.documentElement.dataset.theme = name;
    try {
      localStorage.setItem("tempo-theme", name);
    } catch {
      // A browser may keep no storage for files.
    }
    for (const call of theme.changed) call();
  },
};

try {
  const kept = localStorage.getItem("tempo-theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
} catch {
  // No storage: the system's preference counts.
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  theme.changed.forEach((call) => call()),
);

addEventListener("DOMContentLoaded", () => {
  const button = document.createElement("button");
  button.type = "button";
  button.id = "theme";
  button.textContent = "light or dark";
  button.addEventListener("click", () => theme.set(theme.dark ? "light" : "dark"));
  document.querySelector("nav")?.append(button);
});
