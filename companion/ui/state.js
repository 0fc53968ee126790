// The states of an instance, and their marks: a shape, a word and a colour each, so that none of them is needed alone.

import { el, svg } from "./dom.js";

/** From the worst to the best. */
export const STATES = {
  unhealthy: { word: "unhealthy", rank: 0, what: "An Envoy sees this instance fail: it gets no new keys." },
  draining: { word: "draining", rank: 1, what: "It gets no new keys and finishes its requests." },
  warming: { word: "warming", rank: 2, what: "It gets a part of its keys after it came back." },
  unknown: { word: "not reported", rank: 3, what: "It is registered, and no Envoy reports on it." },
  healthy: { word: "healthy", rank: 4, what: "It gets its keys." },
};

const shapes = {
  unhealthy: () => svg("path", { d: "M6 .8 11.6 11.2H.4Z" }),
  draining: () => svg("path", { d: "M6 1 11 6 6 11 1 6Z", class: "outline" }),
  warming: () => [svg("circle", { cx: 6, cy: 6, r: 4.5, class: "outline" }), svg("path", { d: "M6 1.5a4.5 4.5 0 0 1 0 9Z" })],
  unknown: () => svg("circle", { cx: 6, cy: 6, r: 4.5, class: "outline dashed" }),
  healthy: () => svg("circle", { cx: 6, cy: 6, r: 5 }),
};

/** The mark of a state, with its word or another text. */
export function mark(state, text = STATES[state].word) {
  const shape = svg("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, shapes[state]());
  return el("span", { class: `mark ${state}`, title: STATES[state].word === text ? STATES[state].what : null }, shape, el("span", null, text));
}

/** The state of an instance, which is registered, or reported on, or both. */
export function stateOf(instance) {
  if (!instance.isReported) return "unknown";
  // An Envoy reports what drains as not healthy, too.
  if (instance.draining) return "draining";
  if (!instance.healthy) return "unhealthy";
  return instance.warmth < 100 ? "warming" : "healthy";
}

/** What an instance is called: its id, with its name in the registry if that is another. */
export const labelOf = (instance) => (instance.alias && instance.alias !== instance.id ? `${instance.id} ${instance.alias}` : instance.id);
