// The head and the banners: whether the companion answers, whether its unit is ready, what is wired wrongly.

import { ask } from "./api.js";
import { el, setText } from "./dom.js";
import { counted, duration } from "./format.js";
import { mark } from "./state.js";
import { poll } from "./poll.js";

const EVERY_MS = 5_000;
/** The head costs half of what a view may. */
const REST = 200;

let failures = 0;
let shown = "";

function show(health, state, text, title) {
  const key = `${state}\n${text}\n${title}`;
  if (key === shown) return;
  shown = key;
  health.replaceChildren(mark(state, text));
  health.title = title;
}

/** The lines of what is not ready. */
function problems(body) {
  const checks = Object.entries(body.checks ?? {});
  return checks.filter(([, said]) => said !== "ok").map(([name, said]) => `${name}: ${said}`);
}

function answered({ health, unit, banner, wiring }, body) {
  failures = 0;
  setText(unit, String(body.unit ?? ""));
  document.documentElement.dataset.companion = "there";
  const wrong = problems(body);
  const role = body.role ?? "unknown";
  if (body.ready) show(health, wrong.length > 0 ? "warming" : "healthy", `Ready, ${role}`, wrong.join("\n"));
  else show(health, "unhealthy", `Not ready, ${role}`, wrong.join("\n"));
  const lines = wrong.map((line) => el("p", null, line));
  const text = wrong.join("\n");
  if (banner.dataset.text !== text) {
    banner.dataset.text = text;
    banner.className = lines.length > 0 ? (body.ready ? "banner warn" : "banner bad") : "";
    banner.replaceChildren(...lines);
  }
  wired(wiring, body.wiring ?? []);
}

function wired(place, lines) {
  const text = lines.join("\n");
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.className = lines.length > 0 ? "banner warn" : "";
  const wasOpen = place.querySelector("details")?.open ?? false;
  place.replaceChildren(...(lines.length === 0 ? [] : [
    el("details", wasOpen ? { open: true } : null,
      el("summary", null, mark("warming", `${counted(lines.length, "mistake")} in the wiring`)),
      el("ul", null, lines.map((line) => el("li", null, line)))),
  ]));
}

function gone({ health, banner }, error, pause, again) {
  failures += 1;
  show(health, "unhealthy", "No answer", error.message);
  document.documentElement.dataset.companion = "gone";
  banner.className = "banner bad";
  banner.dataset.text = "gone";
  const text = `The companion does not answer: ${error.message}. The page shows the last answer. The next try is in ${duration(pause)}.`;
  const told = banner.querySelector("p");
  if (told && banner.querySelector("button")) setText(told, text);
  else banner.replaceChildren(el("p", null, text), el("button", { type: "button", click: again }, "Try now"));
}

/** Starts the head. `onReturn` hears that the companion answers again. */
export function startHealth({ places, onDenied, onReturn }) {
  const self = poll({
    every: EVERY_MS,
    rest: REST,
    // It needs no token, and a wrong one would be refused.
    evenLocked: true,
    ask: (signal) => ask("readyz", { signal, accepts: [503] }),
    onAnswer({ body, status }) {
      if (status === 503 && !body?.checks) {
        gone(places, { message: String(body?.error ?? "HTTP 503") }, EVERY_MS, () => self.now());
        return;
      }
      const wasGone = failures > 0;
      answered(places, body);
      if (wasGone) onReturn();
    },
    onError(error, pause) {
      if (error.status === 401) onDenied(error);
      else gone(places, error, pause, () => self.now());
    },
  });
  return { look: () => self.now() };
}
