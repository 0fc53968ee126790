// A key's way: who owns it, who comes next, why, and what another fleet or bound would change.

import { ask, segment } from "../api.js";
import { el, setAttribute } from "../dom.js";
import { count, share, short } from "../format.js";
import { mark } from "../state.js";

/** What the reasons mean. */
const REASONS = {
  primary: "The owner has room, and takes the key.",
  overflow: "The owner is at its capacity: the key goes to the next candidate that has room.",
  "least-loaded": "All are at their capacity: the key goes to the least loaded.",
  ejected: "The owner is unhealthy or draining: the key goes to the next instance on the ring.",
  full: "All are at their hard cap: the filter answers 503.",
  fallback: "The filter leaves the key to Envoy’s own policy.",
};

function candidates(found) {
  const row = (one, at) => el("tr", null,
    el("th", { scope: "row", class: "name" }, `${at + 1}. ${one.id}`),
    el("td", { class: "number" }, one.capacity === undefined ? count(one.in_flight) : `${count(one.in_flight)} / ${count(one.capacity)}`),
    el("td", { class: "number" }, count(one.weight)));
  const head = ["Candidate", "In flight", "Weight"].map((title, at) => el("th", { scope: "col", class: at > 0 ? "number" : null }, title));
  return el("table", { class: "narrow" }, el("thead", null, el("tr", null, head)), el("tbody", null, found.map(row)));
}

function told(answer, without, withId) {
  const lines = [
    el("p", { class: "verdict" }, el("span", { class: "muted" }, "Owner "), el("strong", null, answer.owner?.id ?? "none known"),
      el("span", { class: "muted" }, `  reason `), el("code", null, answer.reason)),
    el("p", null, REASONS[answer.reason] ?? "", answer.because ? ` Why: ${answer.because}.` : ""),
  ];
  if (answer.candidates.length > 0) lines.push(candidates(answer.candidates));
  if (answer.change) {
    const what = [without && `without ${without}`, withId && `with ${withId}`].filter(Boolean).join(" and ");
    lines.push(el("p", { class: "change" }, `${what.charAt(0).toUpperCase()}${what.slice(1)}, ${share(answer.change.moved)} of all keys would move; this key would belong to `,
      el("strong", null, answer.change.owner ?? "nobody"), "."));
  }
  if (!answer.as_reported) lines.push(el("p", null, mark("warming", "The ring that was built from the report differs from the filter’s, so this answer may be wrong.")));
  lines.push(el("p", { class: "note" }, `Hash ${answer.hash}, by the report of ${short(answer.reporter, 60)}.`));
  return lines;
}

export function locate(path) {
  const field = (id, label, input, hint) => el("div", { class: "field" }, el("label", { for: id }, label), input, hint && el("span", { class: "hint", id: `${id}-hint` }, hint));
  const text = (id, attributes) => el("input", { id, type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
  const key = text("way-key", { required: true, maxlength: "4096" });
  const without = el("select", { id: "way-without" });
  const newcomer = text("way-with", { placeholder: "10.0.0.9:8080", maxlength: "255" });
  const factor = el("input", { id: "way-factor", type: "number", min: "0", max: "100000", step: "1", placeholder: "as reported" });
  const result = el("div", { class: "result", "aria-live": "polite" });
  const button = el("button", { type: "submit", class: "primary" }, "Locate");
  let asked = null;

  async function submit(event) {
    event.preventDefault();
    asked?.abort();
    asked = new AbortController();
    const query = [`key=${segment(key.value)}`];
    if (without.value) query.push(`without=${segment(without.value)}`);
    if (newcomer.value.trim()) query.push(`with=${segment(newcomer.value.trim())}`);
    if (factor.value !== "") query.push(`balance_factor=${segment(factor.value)}`);
    setAttribute(result, "aria-busy", "true");
    try {
      const { body } = await ask(`${path}/locate?${query.join("&")}`, { signal: asked.signal });
      result.replaceChildren(...told(body, without.value, newcomer.value.trim()));
    } catch (error) {
      if (!("status" in error)) return;
      result.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
    } finally {
      setAttribute(result, "aria-busy", undefined);
    }
  }

  return {
    element: el("div", { class: "way" },
      el("form", { submit, class: "way-form" },
        field("way-key", "Key", key),
        field("way-without", "Without", without),
        field("way-with", "With another instance", newcomer),
        field("way-factor", "Balance factor, %", factor),
        button),
      result),
    /** The instances that the question can leave out. */
    offer(rows) {
      const wanted = ["", ...rows.filter((row) => row.isReported).map((row) => row.id)];
      if ([...without.options].map((option) => option.value).join("\n") === wanted.join("\n")) return;
      const chosen = without.value;
      without.replaceChildren(...wanted.map((id) => el("option", { value: id }, id === "" ? "–" : short(id, 40))));
      without.value = wanted.includes(chosen) ? chosen : "";
    },
  };
}
