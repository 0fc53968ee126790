// Light or dark: as the system says, until the reader chooses. The choice outlives the page, if the browser keeps it.

const KEY = "unitring.theme";
const NAMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

const kept = () => {
  try {
    return localStorage.getItem(KEY) ?? "auto";
  } catch {
    return "auto";
  }
};

let chosen = kept() in NAMES ? kept() : "auto";

function apply(button) {
  const isDark = chosen === "dark" || (chosen === "auto" && system.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  button.textContent = NAMES[chosen];
  for (const listener of listeners) listener();
}

/** Calls back when the colours have changed; returns what ends it. */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The value of a colour of the style sheet, for a canvas. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function startTheme(button) {
  system.addEventListener("change", () => apply(button));
  button.addEventListener("click", () => {
    const order = Object.keys(NAMES);
    chosen = order[(order.indexOf(chosen) + 1) % order.length];
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // It holds for this page.
    }
    apply(button);
  });
  apply(button);
}
