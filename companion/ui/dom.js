// Elements from data. Data becomes text and attributes, never markup: nothing here parses a string as HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element. An attribute that is a function listens to the event of that name. */
export function el(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Sets the text of an element if it differs, so that a selection of text outlives an update. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute if it differs; undefined removes it. */
export function setAttribute(element, name, value) {
  if (value === undefined || value === null) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

/** A section with a heading. */
export function section(title, ...children) {
  return el("section", null, el("h2", null, title), ...children);
}

/** A paragraph that says why there is nothing to see, and what to do. */
export function empty(title, ...what) {
  return el("div", { class: "empty" }, el("p", { class: "empty-title" }, title), ...what.map((text) => el("p", null, text)));
}

/** Facts in words, as a list that stays. */
export function facts() {
  const element = el("dl", { class: "facts" });
  let shown = "";
  return {
    element,
    update(pairs) {
      const text = JSON.stringify(pairs);
      if (text === shown) return;
      shown = text;
      element.replaceChildren(...pairs.map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, String(value)))));
    },
  };
}
