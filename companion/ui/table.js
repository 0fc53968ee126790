// A table whose rows stay where they are while their cells change. It shows the first rows and how many more there
// are, so that a thousand of them do not hold the page up.

import { el, setAttribute, setText } from "./dom.js";
import { count } from "./format.js";

const FIRST = 50;

/**
 * `columns`: `{id, title, isNumber, isMinor, text(row), fill(cell, row), sort(row), title}`; `isMinor` columns are left
 * out on narrow screens. `key(row)` names a row. `update(rows)` takes the rows in the order in which they are shown
 * unless the reader sorts them.
 */
export function table({ label, columns, key, nothing = "None." }) {
  let rows = [];
  let showsAll = false;
  let sorted = null;
  const known = new Map();

  const body = el("tbody");
  const heads = columns.map((column) => {
    const cell = el("th", { scope: "col", class: classOf(column) });
    if (!column.sort) cell.append(column.title);
    else cell.append(el("button", { type: "button", class: "sort", click: () => sortBy(column) }, column.title));
    return cell;
  });
  const more = el("button", { type: "button", class: "more", click: () => {
    showsAll = !showsAll;
    draw();
  } });
  const note = el("p", { class: "note" }, nothing);
  const scroll = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", { "aria-label": label }, el("thead", null, el("tr", null, heads)), body));
  const element = el("div", { class: "table" }, scroll, note, more);

  function classOf(column) {
    return [column.isNumber ? "number" : "", column.isMinor ? "minor" : "", column.class ?? ""].join(" ").trim() || null;
  }

  /** Largest first, then smallest first, then as before. */
  function sortBy(column) {
    if (sorted?.column !== column) sorted = { column, sign: column.isNumber ? -1 : 1, isSecond: false };
    else sorted = sorted.isSecond ? null : { column, sign: -sorted.sign, isSecond: true };
    heads.forEach((head, at) => {
      const way = sorted?.column === columns[at] ? (sorted.sign < 0 ? "descending" : "ascending") : undefined;
      setAttribute(head, "aria-sort", way);
    });
    draw();
  }

  function ordered() {
    if (!sorted) return rows;
    const { column, sign } = sorted;
    const value = (row) => column.sort(row) ?? -Infinity;
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    return rows.map((row) => [value(row), row]).sort(([a], [b]) => sign * compare(a, b)).map(([, row]) => row);
  }

  function rowOf(row) {
    const name = key(row);
    let found = known.get(name);
    if (!found) {
      const cells = columns.map((column, at) => el(at === 0 ? "th" : "td", { class: classOf(column), scope: at === 0 ? "row" : null }));
      found = { tr: el("tr", null, cells), cells };
      known.set(name, found);
    }
    columns.forEach((column, at) => {
      if (column.fill) column.fill(found.cells[at], row);
      else setText(found.cells[at], column.text(row));
    });
    return found.tr;
  }

  function draw() {
    const all = ordered();
    const some = showsAll ? all : all.slice(0, FIRST);
    const wanted = some.map(rowOf);
    wanted.forEach((tr, at) => {
      if (body.children[at] !== tr) body.insertBefore(tr, body.children[at] ?? null);
    });
    while (body.children.length > wanted.length) body.lastElementChild.remove();
    const names = new Set(some.map(key));
    for (const name of known.keys()) if (!names.has(name)) known.delete(name);
    scroll.hidden = all.length === 0;
    note.hidden = all.length > 0;
    more.hidden = all.length <= FIRST;
    setText(more, showsAll ? `Show the first ${FIRST}` : `Show all ${count(all.length)}: ${count(all.length - FIRST)} more`);
  }

  draw();
  return {
    element,
    update(next) {
      rows = next;
      draw();
    },
  };
}

/** Fills a cell with what `make` returns, but only when `text` has changed. */
export function refill(cell, text, make) {
  if (cell.dataset.text === text) return;
  cell.dataset.text = text;
  cell.replaceChildren(make());
}

/** A field that keeps only the rows whose text has what is typed. `/` leads to it. */
export function filter(label, onInput) {
  const input = el("input", {
    type: "search", class: "filter", "data-filter": true, placeholder: `${label}  ( / )`, "aria-label": label,
    autocomplete: "off", spellcheck: "false", input: () => onInput(),
  });
  return {
    element: input,
    keeps(text) {
      const wanted = input.value.trim().toLowerCase();
      return wanted === "" || text.toLowerCase().includes(wanted);
    },
  };
}
