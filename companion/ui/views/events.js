// The events of instances and of the unit's servers, as they come.

import { segment } from "../api.js";
import { el } from "../dom.js";
import { events, onEvents } from "../events.js";
import { counted, share, short, time } from "../format.js";
import { mark } from "../state.js";
import { filter, refill, table } from "../table.js";

/** How an event looks: what takes from the service, and what gives back. */
const LOOKS = {
  removed: "draining", ejected: "unhealthy", overloaded: "unhealthy", group_degraded: "unhealthy",
  added: "healthy", recovered: "healthy", warmed: "healthy", relieved: "healthy", group_restored: "healthy",
};

const lookOf = (event) => (event.kind === "ejected" && String(event.reason).startsWith("draining") ? "draining" : LOOKS[event.kind] ?? "unknown");

/** All of an event that is text, to filter by. */
const textOf = (event) => [event.kind, event.service, event.instance, event.reason, event.reporter, event.unit].filter(Boolean).join(" ");

/** Who saw an event: the first, and how many more did when it was read. */
function observers(event) {
  const first = short(event.reporter ?? (event.unit ? `unit ${event.unit}` : "registry"), 32);
  return event.seen_by > 1 && event.reporter ? `${first} and ${event.seen_by - 1} more` : first;
}

/** A table of events that follows them. `keeps` chooses which; `most` is how many. */
export function eventTable({ keeps = () => true, most = Infinity, withService }) {
  const shown = table({
    label: "Events",
    key: (event) => event.cursor,
    nothing: "The event log is empty.",
    columns: [
      { title: "Time", class: "time", text: (event) => time(event.at_ms) },
      { title: "Event", fill: (cell, event) => refill(cell, event.kind, () => mark(lookOf(event), String(event.kind).replaceAll("_", " "))) },
      ...(withService ? [{
        title: "Service", class: "name",
        fill: (cell, event) => refill(cell, event.service ?? "", () => (event.service ? el("a", { href: `#/service/${segment(event.service)}`, title: event.service }, event.service) : "–")),
      }] : []),
      { title: "Instance", class: "name", text: (event) => event.instance ?? "–" },
      { title: "Keys moved", isNumber: true, isMinor: true, text: (event) => (event.moved > 0 ? share(event.moved) : "–") },
      { title: "Why", class: "why", text: (event) => event.reason ?? "" },
      { title: "Seen by", isMinor: true, class: "name", text: observers },
    ],
  });
  const draw = () => shown.update(events().filter(keeps).slice(0, most));
  const end = onEvents(draw);
  draw();
  return { element: shown.element, draw, stop: end };
}

export function eventsView() {
  const search = filter("Filter events", () => draw());
  const summary = el("p", { class: "summary" });
  const all = eventTable({ keeps: (event) => search.keeps(textOf(event)), withService: true });
  function draw() {
    all.draw();
    tell();
  }
  const tell = () => {
    summary.textContent = `${counted(events().length, "event")}, the latest first; new ones appear as they come. “unitring events --since 1h” shows older ones.`;
  };
  const end = onEvents(tell);
  tell();
  return {
    title: "Events",
    element: el("div", null, el("h1", null, "Events"), summary, search.element, all.element),
    stop() {
      all.stop();
      end();
    },
  };
}
