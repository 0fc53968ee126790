// The Redis servers of the unit.

import { ask } from "../api.js";
import { el, empty } from "../dom.js";
import { bytes, count, share } from "../format.js";
import { poll } from "../poll.js";
import { mark } from "../state.js";
import { refill, table } from "../table.js";

/** From which part of its memory on a server is near its limit. */
const FULL = 0.9;

const stateOf = (row) => (row.error ? "unhealthy" : row.link_up ? "healthy" : "unhealthy");
const full = (row) => (row.memory_max > 0 ? row.memory_used / row.memory_max : undefined);

export function groupView(problem) {
  const trouble = problem();
  const shown = table({
    label: "Servers",
    key: (row) => row.server,
    columns: [
      { title: "Server", class: "name", text: (row) => row.server, sort: (row) => row.server },
      { title: "State", class: "why", fill: (cell, row) => refill(cell, `${row.error} ${row.link_up}`, () => mark(stateOf(row), row.error ?? (row.link_up ? "ok" : "link down"))) },
      { title: "Role", text: (row) => (row.error ? "–" : row.role) },
      { title: "Lag", isNumber: true, text: (row) => (row.error ? "–" : bytes(row.lag_bytes)), sort: (row) => row.lag_bytes },
      {
        title: "Memory", isNumber: true, sort: (row) => row.memory_used,
        fill(cell, row) {
          const part = full(row);
          refill(cell, `${row.memory_used} ${row.memory_max} ${row.error}`, () => el("span", null, row.error ? "–" : bytes(row.memory_used), part === undefined ? "" : ` (${share(part)})`));
          cell.classList.toggle("hot", part >= FULL);
        },
      },
      { title: "Persistence", isMinor: true, class: "why", text: (row) => (row.error ? "–" : `${row.persistence}, ${row.persistence_state}`) },
      { title: "Replicas", isNumber: true, isMinor: true, text: (row) => (row.error ? "–" : count(row.replicas)), sort: (row) => row.replicas },
      { title: "Keys", isNumber: true, isMinor: true, text: (row) => (row.error ? "–" : count(row.keys)), sort: (row) => row.keys },
    ],
  });
  const problems = el("ul", { class: "lines" });
  const verdict = el("p", { class: "summary" });
  const known = el("div", null, verdict, problems, shown.element);
  const none = empty("No group of servers is configured.", "“group.servers” in the companion’s settings names the Redis servers of this unit; “unitring group create” sets them up.");
  const place = el("div", { class: "pending" }, el("p", { class: "note" }, "Asking the companion …"));

  const asking = poll({
    every: 2_000,
    // Who has no group configures one with a restart.
    ask: (signal) => ask("v1/group", { signal, accepts: [404] }).then((answer) => (answer.status === 404 ? { ...answer, every: 30_000 } : answer)),
    onAnswer({ body, status }) {
      trouble.clear();
      const wanted = status === 404 ? none : known;
      if (place.firstElementChild !== wanted) {
        place.className = "";
        place.replaceChildren(wanted);
      }
      if (status === 404) return;
      refill(verdict, String(body.healthy), () => mark(body.healthy ? "healthy" : "unhealthy", body.healthy ? "The group is as its settings want it." : "The group is degraded."));
      problems.replaceChildren(...body.problems.map((line) => el("li", null, line)));
      shown.update(body.servers);
    },
    onError: trouble.show,
  });
  return {
    title: "Group",
    element: el("div", null, el("h1", null, "Group"), trouble.element, place),
    stop: () => asking.stop(),
  };
}
