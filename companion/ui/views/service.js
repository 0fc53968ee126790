// A service: its ring, its load over time, its instances, a key's way, its Envoys and what is wired wrongly.

import { ask, segment } from "../api.js";
import { chart } from "../chart.js";
import { el, empty, facts, section } from "../dom.js";
import { count, counted, share, short } from "../format.js";
import { History, Rates } from "../history.js";
import { poll } from "../poll.js";
import { ring } from "../ring.js";
import { labelOf, STATES, stateOf } from "../state.js";
import { eventTable } from "./events.js";
import { instanceTable } from "./instances.js";
import { locate } from "./locate.js";
import { findings, reporterTable } from "./reporters.js";

/** So many lines in the chart at once. */
/** Of how many instances the page remembers what they had in flight. */
const REMEMBERED_MAX = 200;
const LINES = 8;

/** The fill of a ring, in words. */
function fillOf(shape) {
  if (!shape) return "–";
  if (shape.fill === "maglev") return `MAGLEV, table of ${count(shape.table_size)}`;
  if (shape.fill === "fixed") return `fixed, ${count(shape.virtual_nodes)} an instance`;
  return `as Envoy, at least ${count(shape.min_size)}`;
}

function boundOf(bound) {
  if (!bound) return "none";
  const parts = [];
  if (bound.balance_factor > 0) parts.push(`${count(bound.balance_factor)} % of the fair share`);
  if (bound.balance_factor > 0 && bound.min_capacity > 0) parts.push(`at least ${count(bound.min_capacity)}`);
  if (bound.max_in_flight > 0) parts.push(`at most ${count(bound.max_in_flight)}`);
  return parts.length > 0 ? parts.join(", ") : "none";
}

/** How many instances there are, and how many of them are not well: `4, 1 unhealthy`. */
function inStates(rows) {
  const ill = Object.entries(STATES).filter(([state]) => state !== "healthy")
    .map(([state, { word }]) => [rows.filter((row) => stateOf(row) === state).length, word]);
  return [count(rows.length), ...ill.filter(([number]) => number > 0).map(([number, word]) => `${count(number)} ${word}`)].join(", ");
}

export function serviceView(problem, name) {
  const trouble = problem();
  const rates = new Rates();
  const history = new History();
  const parts = { version: null, of: new Map(), due: 0 };
  const path = `v1/services/${segment(name)}`;

  const about = facts();
  const picture = ring();
  const lines = chart();
  const choice = el("select", { id: "chart-choice", change: () => drawChart() });
  const instances = instanceTable(rates);
  const way = locate(path);
  const reporters = reporterTable();
  const wiring = findings();
  const recent = eventTable({ keeps: (event) => event.service === name, most: 12, withService: false });
  const whole = el("div", { hidden: true },
    about.element,
    el("div", { class: "pair" },
      section("Ring: shares of the keys", picture.element),
      el("section", null,
        el("div", { class: "title-row" }, el("h2", null, "In flight against capacity"),
          el("label", { for: "chart-choice", class: "visually-hidden" }, "Instance of the chart"), choice),
        lines.element)),
    section("Instances", instances.filter, instances.element),
    section("The path of a key", way.element),
    section("Envoys", reporters.element),
    section("Wiring", wiring.element),
    section("Latest events", recent.element));
  const pending = el("div", { class: "pending" }, el("p", { class: "note" }, "Asking the companion …"));

  /** Shares are measured on a ring that the companion builds: asked for when the ring is another one, or it is cheap. */
  async function question(signal) {
    const wantsShares = performance.now() >= parts.due;
    const answer = await ask(`${path}${wantsShares ? "?shares=true" : ""}`, { signal });
    if (wantsShares) {
      parts.version = answer.body.ring?.version ?? null;
      parts.of = new Map(answer.body.instances.map((one) => [one.id, { share: one.share, capacity: one.capacity }]));
      parts.due = performance.now() + 200 * answer.cost;
    } else if (answer.body.ring?.version !== parts.version) parts.due = 0;
    return answer;
  }

  let rows = [];
  let places = new Map();

  /** The instances of the chart: the chosen one, or the fullest. */
  function charted() {
    const chosen = rows.find((row) => row.id === choice.value);
    if (chosen) return [chosen];
    const full = rows.filter((row) => row.isReported);
    return full.sort((a, b) => b.in_flight - a.in_flight || (a.id < b.id ? -1 : 1)).slice(0, LINES)
      .sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
  }

  function drawChart() {
    const some = charted();
    const series = some.map((row, at) => {
      const place = places.get(row.id) ?? at;
      return { name: short(labelOf(row), 40), place, colour: `s${place % 8}`, values: history.row(row.id, 0) };
    });
    const capacities = some.map((row) => history.row(row.id, 1));
    if (capacities.some((values) => values.some((value) => value !== null))) {
      const least = history.times.map((_, at) => {
        const known = capacities.map((values) => values[at]).filter((value) => value !== null);
        return known.length > 0 ? Math.min(...known) : null;
      });
      series.push({ name: some.length === 1 ? "capacity" : "least capacity", place: 0, colour: "limit", isLimit: true, values: least });
    }
    const now = some.map((row) => `${row.id} ${row.in_flight} of ${row.capacity ?? "no capacity"}`).join(", ");
    lines.update({ times: history.times, series, said: `Requests in flight over the last 15 minutes that this page was open. Now: ${now || "none"}.` });
  }

  function offer() {
    const wanted = ["", ...rows.map((row) => row.id)];
    if ([...choice.options].map((option) => option.value).join("\n") === wanted.join("\n")) return;
    const chosen = choice.value;
    choice.replaceChildren(...wanted.map((id) => el("option", { value: id }, id === "" ? "The fullest" : short(id, 40))));
    choice.value = wanted.includes(chosen) ? chosen : "";
  }

  function answered({ body }) {
    trouble.clear();
    const now = performance.now();
    for (const one of body.instances) Object.assign(one, parts.of.get(one.id), { isReported: true });
    const addresses = new Set(body.instances.map((one) => one.address));
    const names = new Map(body.registry.map((one) => [one.address, one.id]));
    for (const one of body.instances) one.alias = names.get(one.address);
    const silent = body.registry.filter((one) => !addresses.has(one.address)).map((one) => ({ ...one, isReported: false }));
    rows = [...body.instances, ...silent];
    rates.put(now, body.instances.map((one) => [one.id, { calls: one.calls, failures: one.failures }]));
    const loadOf = (one) => one.in_flight + (one.update_load ?? 0);
    const fullest = body.instances.length > REMEMBERED_MAX ? body.instances.toSorted((a, b) => loadOf(b) - loadOf(a)).slice(0, REMEMBERED_MAX) : body.instances;
    history.put(Date.now(), fullest.map((one) => [one.id, [loadOf(one), one.capacity]]));
    const sum = (of) => body.instances.reduce((sum, one) => sum + one[of], 0);
    const bound = body.reporters[0]?.bound;
    about.update([
      ["Instances", inStates(rows)],
      ["In flight", count(sum("in_flight"))],
      ["Envoys", count(body.reporters.length)],
      ["Ring", fillOf(body.ring?.shape)],
      ["Bound", boundOf(bound)],
      ["Left to Envoy", counted(body.reporters.reduce((sum, one) => sum + one.fallbacks, 0), "request")],
    ]);
    places = picture.update(body.instances, body.ring);
    instances.update(rows, places);
    way.offer(rows);
    reporters.update(body.reporters);
    wiring.update(body.reporters);
    offer();
    drawChart();
    pending.hidden = true;
    whole.hidden = false;
  }

  function failed(error) {
    if (error.status === 404) {
      whole.hidden = true;
      pending.hidden = false;
      pending.replaceChildren(empty("No Envoy reports on this service, and it has no registered instance.",
        "A service has the name of its Envoy cluster. It appears here with the first report."));
    } else trouble.show(error);
  }

  const asking = poll({ every: 1_000, ask: question, onAnswer: answered, onError: failed });
  return {
    title: name,
    element: el("div", null,
      el("p", { class: "crumbs" }, el("a", { href: "#/services" }, "Services"), " /"),
      el("h1", { class: "long", title: name.length > 80 ? name : null }, short(name, 120)), trouble.element, pending, whole),
    stop() {
      asking.stop();
      recent.stop();
      lines.stop();
    },
  };
}
