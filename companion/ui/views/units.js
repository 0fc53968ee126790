// This unit and the others: the links with their lag, what waits, what differs, and changes that lost.

import { ask } from "../api.js";
import { el, empty, facts, section } from "../dom.js";
import { bytes, count, counted, duration, short, time } from "../format.js";
import { poll } from "../poll.js";
import { mark } from "../state.js";
import { refill, table } from "../table.js";

const CONFLICTS = 50;

/** How a link looks. A follower has none: the leader of the unit syncs. */
function looksLike({ state, isFollower }) {
  if (state === "ok") return "healthy";
  if (state === "removed") return "draining";
  return isFollower ? "unknown" : "unhealthy";
}

function linkTable() {
  return table({
    label: "Links",
    key: (row) => row.unit,
    columns: [
      { title: "Unit", class: "name", text: (row) => row.unit, sort: (row) => row.unit },
      {
        title: "Link", class: "why",
        fill: (cell, row) => refill(cell, `${row.state} ${row.isFollower}`, () => mark(looksLike(row), row.state)),
      },
      { title: "Lag, median", isNumber: true, text: (row) => duration(row.lag?.p50_ms), sort: (row) => row.lag?.p50_ms },
      { title: "Lag, p99", isNumber: true, text: (row) => duration(row.lag?.p99_ms), sort: (row) => row.lag?.p99_ms },
      {
        title: "Clock skew", isNumber: true, sort: (row) => Math.abs(row.clock_skew_ms ?? 0),
        fill: (cell, row) => refill(cell, `${row.clock_skew_ms} ${row.clock_skew_alarm}`, () => (row.clock_skew_alarm ? mark("unhealthy", duration(row.clock_skew_ms)) : el("span", null, duration(row.clock_skew_ms)))),
      },
      {
        title: "Diverged buckets", isNumber: true, sort: (row) => row.compared?.diverged.length,
        fill: (cell, row) => {
          const number = row.compared?.diverged.length;
          refill(cell, String(number), () => (number > 0 ? mark("unhealthy", count(number)) : el("span", null, count(number))));
        },
      },
      { title: "Missing here", isNumber: true, isMinor: true, text: (row) => count(row.compared?.missing), sort: (row) => row.compared?.missing },
      { title: "Compared", isNumber: true, isMinor: true, text: (row) => time(row.compared?.at_ms), sort: (row) => row.compared?.at_ms },
      { title: "Confirmed ops", isNumber: true, isMinor: true, text: (row) => count(row.confirmed), sort: (row) => row.confirmed },
      { title: "Too large", isNumber: true, isMinor: true, text: (row) => count(Object.keys(row.unsendable ?? {}).length) },
    ],
  });
}

function conflictTable() {
  return table({
    label: "Conflicts",
    key: (row) => `${row.record.dataset}/${row.record.key} ${row.lost} ${row.at_ms}`,
    nothing: "No concurrent changes of one record are known.",
    columns: [
      { title: "Seen", class: "time", text: (row) => time(row.at_ms) },
      { title: "Record", class: "name", text: (row) => `${row.record.dataset}/${row.record.key}` },
      { title: "Version that won", class: "name", text: (row) => row.kept },
      { title: "Version that lost", class: "name", isMinor: true, text: (row) => row.lost },
    ],
  });
}

/** What is named one by one: a heading with a line for each. */
function named(title, entries) {
  return entries.length === 0 ? [] : [el("h3", null, title), el("ul", { class: "lines" }, entries.map((line) => el("li", null, line)))];
}

function troubles(body) {
  const sync = body.sync ?? {};
  const pairs = (map, told) => Object.entries(map ?? {}).map(([name, value]) => `${short(name, 120)}: ${told(value)}`);
  return [
    ...named("Set aside", pairs(sync.set_aside, (why) => why)),
    ...named("Strangers: units that send and are no members", pairs(sync.strangers, (one) => `${counted(one.messages, "message")}, the last at ${time(one.last_ms)}`)),
    ...named("Namesakes: two stores use the name of", pairs(sync.namesakes, (at) => `last seen at ${time(at)}`)),
    ...named("Records of this store that cannot be read", pairs(body.spoiled, (why) => why)),
  ];
}

export function unitsView(problem) {
  const trouble = problem();
  const links = linkTable();
  const conflicts = conflictTable();
  const about = facts();
  const troubled = el("div");
  const alone = empty("This unit is alone.", "Links to other units are not configured: “sync.peers” and “sync.amqp_url” in the companion’s settings name them.");
  const linked = el("div", null, section("Links", links.element), troubled, section("Conflicts", conflicts.element));
  const place = el("div", { class: "pending" }, el("p", { class: "note" }, "Asking the companion …"));
  const conflictsTrouble = problem();
  linked.append(conflictsTrouble.element);

  function answered({ body }) {
    trouble.clear();
    const { sync } = body;
    const pairs = [["Unit", body.unit], ["This companion", body.role ?? "–"], ["Term", count(body.term)], ["Store’s clock ahead", duration(body.store_clock_ahead_ms)]];
    if (sync) {
      pairs.push(["Link", sync.link], ["Inbox", sync.inbox], ["Outbox", `${count(sync.outbox)} of ${count(sync.outbox_max)} ops, ${bytes(sync.outbox_bytes)}`], ["Repaired records", count(sync.repaired_records)]);
    }
    about.update(pairs);
    const wanted = sync ? linked : alone;
    if (place.firstElementChild !== wanted) {
      place.className = "";
      place.replaceChildren(wanted);
    }
    if (!sync) return;
    links.update(Object.entries(sync.links ?? {}).map(([unit, link]) => ({ unit, ...link, isFollower: body.role === "follower" })));
    const { set_aside: aside, strangers, namesakes } = sync;
    refill(troubled, JSON.stringify([aside, strangers, namesakes, body.spoiled]), () => el("div", null, troubles(body)));
  }

  const asking = poll({ every: 1_000, ask: (signal) => ask("v1/units", { signal }), onAnswer: answered, onError: trouble.show });
  const askingConflicts = poll({
    every: 5_000, rest: 200,
    ask: (signal) => ask(`v1/conflicts?limit=${CONFLICTS}`, { signal }),
    onAnswer({ body }) {
      conflictsTrouble.clear();
      conflicts.update(body);
    },
    onError: conflictsTrouble.show,
  });
  return {
    title: "Units",
    element: el("div", null, el("h1", null, "Units"), trouble.element, about.element, place),
    stop() {
      asking.stop();
      askingConflicts.stop();
    },
  };
}
