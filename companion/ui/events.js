// The companion's events as they come: server-sent events read from a fetch, since an EventSource can send no token.
// The stream resumes after the last event that was seen, ends while the page is hidden, and comes back by itself.

import { ApiError, ask, open, refusal } from "./api.js";

/** The most that are kept. */
const KEPT = 1_000;
const PAUSE_MIN_MS = 1_000;
const PAUSE_MAX_MS = 30_000;
/** A stream without even a comment for so long is dead: the companion sends one each 15 s. */
const SILENT_MS = 40_000;

/** How long after an entry came its number of reports is read again: an entry comes with the first of them. */
const COUNTED_AFTER_MS = 5_000;
/** The latest entries whose numbers are read again. */
const COUNTED = 100;

const listeners = new Set();
let kept = [];
let last = null;
let abort = null;
let failures = 0;
let timer = null;
let onRefused = () => {};
let isRefused = false;
/** Whether the next stream is to begin as soon as this one has ended. */
let isWanted = false;
let counting = null;

/** The events that are kept, the latest first. */
export const events = () => kept;

/** Calls back with every batch of new events; returns what ends it. */
export function onEvents(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Splits a stream of text into the data and ids of server-sent events. Pure but for what is not complete yet. */
export function parser() {
  let rest = "";
  return (text) => {
    rest += text.replaceAll("\r\n", "\n");
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    return blocks.flatMap((block) => {
      let id = null;
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("id:")) id = line.slice(3).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      }
      return data.length > 0 ? [{ id, data: data.join("\n") }] : [];
    });
  };
}

function take(batch) {
  const fresh = [];
  for (const { id, data } of batch) {
    if (id !== null) last = id;
    try {
      fresh.push({ ...JSON.parse(data), cursor: id });
    } catch {
      // What is no event is none.
    }
  }
  if (fresh.length === 0) return;
  fresh.reverse();
  kept = fresh.concat(kept).slice(0, KEPT);
  for (const listener of listeners) listener(fresh);
  counting ??= setTimeout(count, COUNTED_AFTER_MS);
}

/** Reads again how many reports the latest entries stand for. Without an answer they stay as they came. */
async function count() {
  counting = null;
  if (document.hidden || isRefused) return;
  try {
    const { body } = await ask(`v1/events?format=json&limit=${COUNTED}`);
    const now = new Map(body.map((event) => [event.cursor, event]));
    const changed = kept.some((event) => now.has(event.cursor) && now.get(event.cursor).seen_by !== event.seen_by);
    if (!changed) return;
    kept = kept.map((event) => now.get(event.cursor) ?? event);
    for (const listener of listeners) listener([]);
  } catch {
    // The stream tells whether the companion is there.
  }
}

async function follow(signal) {
  const headers = { accept: "text/event-stream" };
  if (last !== null) headers["last-event-id"] = last;
  const response = await open("v1/events", { headers, signal });
  if (!response.ok) throw await refusal(response);
  failures = 0;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parse = parser();
  for (;;) {
    const silent = setTimeout(() => abort?.abort(), SILENT_MS);
    const part = await reader.read().finally(() => clearTimeout(silent));
    if (part.done) return;
    take(parse(part.value));
  }
}

async function run() {
  clearTimeout(timer);
  if (document.hidden || abort || isRefused) return;
  abort = new AbortController();
  try {
    await follow(abort.signal);
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
      isRefused = true;
      onRefused(error);
    } else if (error instanceof ApiError && error.status === 400) {
      // Another store than the one that the cursor is of.
      last = null;
    }
  } finally {
    abort = null;
    if (isWanted) {
      isWanted = false;
      timer = setTimeout(run, 0);
      return;
    }
    failures += 1;
    const pause = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** (failures - 1));
    if (!document.hidden) timer = setTimeout(run, pause);
  }
}

/** Follows the events; `refused` hears that the companion wants another token. */
export function startEvents(refused) {
  onRefused = refused;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) abort?.abort();
    else run();
  });
  run();
}

/** Tries again at once, since the companion is back. */
export function resumeEvents() {
  isRefused = false;
  run();
}

/** Begins anew, since another token counts, or none: what the last one could read is forgotten. */
export function restartEvents() {
  isRefused = false;
  kept = [];
  last = null;
  failures = 0;
  for (const listener of listeners) listener([]);
  if (abort) {
    isWanted = true;
    abort.abort();
  } else {
    run();
  }
}
