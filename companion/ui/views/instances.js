// The instances of a service, the worst first.

import { el, setText, svg } from "../dom.js";
import { count, rate, share } from "../format.js";
import { mark, STATES, stateOf } from "../state.js";
import { filter, refill, table } from "../table.js";

/** From which part of its capacity on an instance counts as full. */
const FULL = 0.9;

/** What the bound counts: requests in flight, and those that data updates count as. */
const loadOf = (row) => row.in_flight + (row.update_load ?? 0);
const fullness = (row) => (row.capacity > 0 ? loadOf(row) / row.capacity : undefined);

/** `12 / 20` with a bar. */
function load(cell, row) {
  if (!cell.firstChild) {
    const bar = svg("svg", { viewBox: "0 0 40 6", width: 40, height: 6, class: "bar", "aria-hidden": "true", preserveAspectRatio: "none" },
      svg("rect", { width: 40, height: 6, class: "bar-all" }), svg("rect", { height: 6, width: 0, class: "bar-part" }));
    cell.append(el("span"), bar);
  }
  const [text, bar] = cell.children;
  const part = fullness(row);
  setText(text, !row.isReported ? "–" : row.capacity === undefined ? count(loadOf(row)) : `${count(loadOf(row))} / ${count(row.capacity)}`);
  bar.classList.toggle("none", part === undefined);
  bar.lastElementChild.setAttribute("width", String(40 * Math.min(part ?? 0, 1)));
  cell.classList.toggle("hot", part >= FULL);
}

export function instanceTable(rates) {
  let rows = [];
  let places = new Map();
  const calls = (row) => rates.of(row.id, "calls");
  const failures = (row) => rates.of(row.id, "failures");
  const search = filter("Filter instances", () => draw());
  const shown = table({
    label: "Instances",
    key: (row) => `${row.isReported ? "" : "silent "}${row.id}`,
    nothing: "No instance name contains the filter text.",
    columns: [
      {
        title: "Instance", class: "name", sort: (row) => row.id,
        fill(cell, row) {
          const place = places.get(row.id);
          const text = `${place ?? ""} ${row.id} ${row.alias ?? ""} ${row.address}`;
          refill(cell, text, () => el("span", { class: "instance", title: row.address === row.id ? null : row.address },
            el("span", { class: place === undefined ? "key none" : `key key-s${place % 8}`, "aria-hidden": "true" }, place === undefined ? "" : String(place + 1)),
            el("span", { class: "id" }, row.id), row.alias && row.alias !== row.id ? el("span", { class: "muted" }, ` ${row.alias}`) : ""));
        },
      },
      {
        title: "State", sort: (row) => -STATES[stateOf(row)].rank,
        fill(cell, row) {
          const now = stateOf(row);
          const text = now === "warming" ? `warming, ${row.warmth} %` : STATES[now].word;
          refill(cell, text, () => mark(now, text));
          cell.parentElement.dataset.state = now;
        },
      },
      { title: "In flight", isNumber: true, fill: load, sort: (row) => fullness(row) ?? loadOf(row) },
      { title: "Share", isNumber: true, text: (row) => share(row.share), sort: (row) => row.share },
      { title: "Weight", isNumber: true, isMinor: true, text: (row) => count(row.weight), sort: (row) => row.weight },
      { title: "Calls/s", isNumber: true, text: (row) => rate(calls(row)), sort: calls },
      {
        title: "Failures/s", isNumber: true, sort: failures,
        fill(cell, row) {
          setText(cell, rate(failures(row)));
          cell.classList.toggle("hot", failures(row) > 0);
        },
      },
      { title: "Updates/s", isNumber: true, isMinor: true, text: (row) => rate(row.updates_per_s), sort: (row) => row.updates_per_s },
      { title: "Calls", isNumber: true, isMinor: true, text: (row) => count(row.calls), sort: (row) => row.calls },
      { title: "Failures", isNumber: true, isMinor: true, text: (row) => count(row.failures), sort: (row) => row.failures },
    ],
  });

  function draw() {
    const worst = rows.filter((row) => search.keeps(`${row.id} ${row.alias ?? ""} ${row.address} ${STATES[stateOf(row)].word}`));
    worst.sort((a, b) => STATES[stateOf(a)].rank - STATES[stateOf(b)].rank
      || (failures(b) > 0) - (failures(a) > 0)
      || (fullness(b) >= FULL) - (fullness(a) >= FULL)
      || a.id.localeCompare(b.id, "en", { numeric: true }));
    shown.update(worst);
  }

  return {
    element: shown.element,
    filter: search.element,
    update(next, parts) {
      rows = next;
      places = parts;
      draw();
    },
  };
}
