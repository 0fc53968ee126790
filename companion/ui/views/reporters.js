// The Envoys that report on a service, and the mistakes in their wiring.

import { el } from "../dom.js";
import { count, counted, duration, rate, share, short } from "../format.js";
import { mark } from "../state.js";
import { refill, table } from "../table.js";

export function reporterTable() {
  const shown = table({
    label: "Envoys",
    key: (row) => row.reporter,
    nothing: "No Envoy reports on this service: its instances are registered, but no filter balances them. Add a cluster of this name to an Envoy with the filter.",
    columns: [
      { title: "Envoy", class: "name", text: (row) => row.reporter, sort: (row) => row.reporter },
      { title: "Last report", isNumber: true, text: (row) => `${duration(row.age_ms)} ago`, sort: (row) => row.age_ms },
      { title: "Ring", class: "name", isMinor: true, text: (row) => short(row.ring, 16) || "–" },
      { title: "Left to Envoy", isNumber: true, text: (row) => count(row.fallbacks), sort: (row) => row.fallbacks },
      { title: "Updates/s", isNumber: true, isMinor: true, text: (row) => rate(row.updates_per_s), sort: (row) => row.updates_per_s },
      { title: "Updates refused", isNumber: true, isMinor: true, text: (row) => count(row.updates_refused), sort: (row) => row.updates_refused },
      { title: "Updates dropped", isNumber: true, isMinor: true, text: (row) => count(row.updates_dropped), sort: (row) => row.updates_dropped },
      {
        title: "Wiring", sort: (row) => row.wiring.length,
        fill: (cell, row) => refill(cell, String(row.wiring.length), () => (row.wiring.length > 0 ? mark("warming", counted(row.wiring.length, "mistake")) : mark("healthy", "ok"))),
      },
    ],
  });
  return {
    element: shown.element,
    /** Those with mistakes first, then those that were silent for longest. */
    update(reporters) {
      shown.update([...reporters].sort((a, b) => b.wiring.length - a.wiring.length || (a.reporter < b.reporter ? -1 : 1)));
    },
  };
}

/** Equal findings of several Envoys are one. */
export function findings() {
  const element = el("div");
  let shown = null;
  return {
    element,
    update(reporters) {
      const found = new Map();
      for (const { reporter, wiring } of reporters) {
        for (const { kind, seen, mend } of wiring) {
          const key = JSON.stringify([kind, seen, mend]);
          if (!found.has(key)) found.set(key, { kind, seen, mend, by: [] });
          found.get(key).by.push(reporter);
        }
      }
      const all = [...found.values()];
      const text = JSON.stringify([all, reporters.length]);
      if (text === shown) return;
      shown = text;
      if (all.length === 0) {
        element.replaceChildren(el("p", { class: "note" }, reporters.length > 0 ? "No Envoy found a mistake." : "No Envoy reports."));
        return;
      }
      element.replaceChildren(...all.map(({ kind, seen, mend, by }) => el("article", { class: "finding" },
        el("h3", null, mark("warming", kind)),
        el("dl", null,
          el("dt", null, "Seen"), el("dd", null, seen),
          el("dt", null, "Mend"), el("dd", null, mend),
          el("dt", null, "By"), el("dd", null, by.length === 1 ? by[0] : `${counted(by.length, "Envoy")} (${share(by.length / reporters.length)}), such as ${by[0]}`)))));
    },
  };
}
