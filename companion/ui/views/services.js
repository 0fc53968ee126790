// All services, the worst first, and what happened last.

import { ask, segment } from "../api.js";
import { el, empty, section } from "../dom.js";
import { count, counted, rate } from "../format.js";
import { Rates } from "../history.js";
import { poll } from "../poll.js";
import { mark, STATES } from "../state.js";
import { filter, refill, table } from "../table.js";
import { eventTable } from "./events.js";

/** Most services that are asked for at once, and pages of them. */
const LIMIT = 1_000;
const PAGES = 4;

/** The state of a service is that of its worst instance. */
function stateOf(service) {
  if (service.unhealthy > 0) return "unhealthy";
  if (service.draining > 0) return "draining";
  if (service.warming > 0) return "warming";
  return service.reporters === 0 ? "unknown" : "healthy";
}

function told(service, state) {
  const number = { unhealthy: service.unhealthy, draining: service.draining, warming: service.warming }[state];
  return number === undefined ? STATES[state].word : `${number} of ${service.instances} ${STATES[state].word}`;
}

/** All services, page by page. */
async function all(signal) {
  const found = { services: [], cost: 0, isMore: false };
  let after = null;
  for (let page = 0; page < PAGES; page += 1) {
    const from = after === null ? "" : `&after=${segment(after)}`;
    const { body, cost } = await ask(`v1/services?summary=true&limit=${LIMIT}${from}`, { signal });
    found.services.push(...body.services);
    found.cost += cost;
    after = body.after;
    if (after === null) return found;
  }
  found.isMore = true;
  return found;
}

export function servicesView(problem) {
  const rates = new Rates();
  let services = [];
  const trouble = problem();
  const search = filter("Filter services", () => show());
  const perSecond = (of) => (row) => rates.of(row.service, of);
  const shown = table({
    label: "Services",
    key: (row) => row.service,
    nothing: "No service name contains the filter text.",
    columns: [
      {
        title: "Service", class: "name", sort: (row) => row.service,
        fill: (cell, row) => refill(cell, row.service, () => el("a", { href: `#/service/${segment(row.service)}`, title: row.service }, row.service)),
      },
      {
        title: "State", sort: (row) => -STATES[stateOf(row)].rank,
        fill: (cell, row) => refill(cell, told(row, stateOf(row)), () => mark(stateOf(row), told(row, stateOf(row)))),
      },
      { title: "Instances", isNumber: true, isMinor: true, text: (row) => count(Math.max(row.instances, row.registered)), sort: (row) => row.instances },
      { title: "In flight", isNumber: true, text: (row) => count(row.in_flight), sort: (row) => row.in_flight },
      { title: "Calls/s", isNumber: true, text: (row) => rate(perSecond("calls")(row)), sort: perSecond("calls") },
      {
        title: "Failures/s", isNumber: true, sort: perSecond("failures"),
        fill(cell, row) {
          const text = rate(perSecond("failures")(row));
          cell.textContent = text;
          cell.classList.toggle("hot", perSecond("failures")(row) > 0);
        },
      },
      { title: "Updates/s", isNumber: true, isMinor: true, text: (row) => rate(row.updates_per_s), sort: (row) => row.updates_per_s },
      { title: "Envoys", isNumber: true, isMinor: true, text: (row) => count(row.reporters), sort: (row) => row.reporters },
      { title: "Wiring", isMinor: true, sort: (row) => row.wiring, fill: (cell, row) => refill(cell, String(row.wiring), () => (row.wiring > 0 ? mark("warming", counted(row.wiring, "mistake")) : el("span", { class: "muted" }, "ok"))) },
    ],
  });
  const place = el("div", { class: "pending" }, el("p", { class: "note" }, "Asking the companion …"));
  const summary = el("p", { class: "summary" });
  const recent = eventTable({ most: 12, withService: true });

  function show() {
    const worst = services.filter((row) => search.keeps(row.service));
    worst.sort((a, b) => STATES[stateOf(a)].rank - STATES[stateOf(b)].rank
      || (perSecond("failures")(b) > 0) - (perSecond("failures")(a) > 0)
      || b.wiring - a.wiring || a.service.localeCompare(b.service));
    shown.update(worst);
  }

  function answered(found) {
    trouble.clear();
    services = found.services;
    rates.put(performance.now(), services.map((row) => [row.service, { calls: row.calls, failures: row.failures }]));
    if (services.length === 0) {
      summary.textContent = "";
      place.replaceChildren(empty("No Envoy has reported yet, and no instance is registered.",
        "An Envoy with the filter reports to its cluster “unitring” once a second: that cluster must lead to this companion.",
        "To see a fleet without one, run “unitring demo”."));
      return;
    }
    const sum = (of) => services.reduce((sum, row) => sum + row[of], 0);
    const bad = sum("unhealthy");
    summary.textContent = [
      counted(services.length, "service") + (found.isMore ? " and more" : ""), counted(sum("instances"), "instance"),
      bad > 0 ? `${count(bad)} unhealthy` : "none unhealthy", `${count(sum("in_flight"))} in flight`,
    ].join(" · ");
    if (!place.contains(shown.element)) {
      place.className = "";
      place.replaceChildren(search.element, shown.element);
    }
    show();
  }

  const asking = poll({ every: 1_000, ask: all, onAnswer: answered, onError: trouble.show });
  return {
    title: "Services",
    element: el("div", null, el("h1", null, "Services"), trouble.element, summary, place, section("Latest events", recent.element)),
    stop() {
      asking.stop();
      recent.stop();
    },
  };
}
