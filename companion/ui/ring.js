// The ring as a picture: each instance's share of the keys as a part of a circle, by colour, pattern and number.

import { el, svg } from "./dom.js";
import { count, counted, share, short } from "./format.js";
import { labelOf } from "./state.js";

/** So many instances have a part of their own; the others share one. */
const PARTS = 12;
const COLOURS = 8;
const [OUTER, INNER] = [96, 58];

/**
 * The instances that have a part of their own, each with its place among the colours: all, or those with the largest
 * shares. In the order of their names, so that an instance keeps its colour while shares change. Pure.
 */
export function placed(instances) {
  const largest = [...instances].sort((a, b) => (b.share ?? 0) - (a.share ?? 0) || (a.id < b.id ? -1 : 1));
  const own = instances.length > PARTS ? largest.slice(0, PARTS - 1) : largest;
  own.sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
  return new Map(own.map((instance, place) => [instance.id, place]));
}

/** The shares as parts: those with a place, then all others together. Pure. */
export function parts(instances, places) {
  const owned = instances.filter((instance) => instance.share > 0);
  const found = owned.filter((instance) => places.has(instance.id))
    .map((instance) => ({ name: labelOf(instance), share: instance.share, place: places.get(instance.id) }))
    .sort((a, b) => a.place - b.place);
  const rest = owned.filter((instance) => !places.has(instance.id));
  if (rest.length > 0) {
    found.push({ name: counted(rest.length, "other"), share: rest.reduce((sum, one) => sum + one.share, 0), place: null });
  }
  return found;
}

const colourOf = (place) => (place === null ? "rest" : `s${place % COLOURS}`);

/** Where a share of the circle is on it. */
function at(part, radius) {
  const angle = 2 * Math.PI * part - Math.PI / 2;
  return `${(100 + radius * Math.cos(angle)).toFixed(2)} ${(100 + radius * Math.sin(angle)).toFixed(2)}`;
}

function slice(from, to) {
  // A whole circle has no arc of its own.
  const end = Math.min(to, from + 0.99999);
  const large = end - from > 0.5 ? 1 : 0;
  return `M${at(from, OUTER)}A${OUTER} ${OUTER} 0 ${large} 1 ${at(end, OUTER)}L${at(end, INNER)}A${INNER} ${INNER} 0 ${large} 0 ${at(from, INNER)}Z`;
}

/** Stripes and dots for every second colour, so that neighbours differ without colours. */
function patterns() {
  const pattern = (id, angle, ...drawn) => svg("pattern", {
    id: `p${id}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${angle})`,
  }, ...drawn);
  const stripe = () => svg("rect", { width: 2, height: 6, class: "over" });
  return svg("defs", null,
    pattern(1, 45, stripe()),
    pattern(2, 0, svg("circle", { cx: 3, cy: 3, r: 1.3, class: "over" })),
    pattern(3, -45, stripe()));
}

const patternOf = (place) => (place === null || place % 2 === 0 ? null : `url(#p${((place - 1) / 2) % 3 + 1})`);

function swatch(part) {
  return svg("svg", { viewBox: "0 0 20 14", width: 20, height: 14, "aria-hidden": "true", class: "swatch" },
    svg("rect", { width: 20, height: 14, rx: 2, class: `fill-${colourOf(part.place)}` }),
    patternOf(part.place) && svg("rect", { width: 20, height: 14, rx: 2, fill: patternOf(part.place) }),
    svg("text", { x: 10, y: 10.5, class: "on" }, part.place === null ? "…" : String(part.place + 1)));
}

export function ring() {
  let shown = "";
  const picture = el("div", { class: "donut" });
  const legend = el("ol", { class: "legend shares", "aria-label": "Shares of the keys" });
  const element = el("div", { class: "ring" }, picture, legend);

  function draw(found, version, points) {
    let from = 0;
    const slices = found.map((part) => {
      const [begin, end] = [from, from + part.share];
      from = end;
      const middle = at((begin + end) / 2, (OUTER + INNER) / 2).split(" ");
      const d = slice(begin, end);
      return svg("g", null,
        svg("title", null, `${part.name}: ${share(part.share)}`),
        svg("path", { d, class: `slice fill-${colourOf(part.place)}` }),
        patternOf(part.place) && svg("path", { d, fill: patternOf(part.place) }),
        part.share > 0.03 && svg("text", { x: middle[0], y: Number(middle[1]) + 4, class: "on" }, part.place === null ? "…" : String(part.place + 1)));
    });
    const said = found.length === 0 ? "The ring is empty." : `Shares of the keys: ${found.map((part) => `${part.name} ${share(part.share)}`).join(", ")}.`;
    picture.replaceChildren(svg("svg", { viewBox: "0 0 200 200", role: "img", "aria-label": said },
      patterns(),
      found.length === 0 ? svg("circle", { cx: 100, cy: 100, r: (OUTER + INNER) / 2, class: "no-slice" }) : slices,
      svg("text", { x: 100, y: 97, class: "points" }, points),
      svg("text", { x: 100, y: 114, class: "points-what" }, "virtual nodes")));
    legend.replaceChildren(...found.map((part) => el("li", { title: part.name }, swatch(part),
      el("span", { class: "name" }, short(part.name, 40)), el("span", { class: "value" }, share(part.share)))));
    picture.title = version ? `ring ${version}` : "";
  }

  return {
    element,
    /** Shows the shares; returns the place of each instance that has one, by its id. */
    update(instances, ringOf) {
      const places = placed(instances);
      const found = parts(instances, places);
      const points = count(ringOf?.points ?? 0);
      const key = JSON.stringify([found, ringOf?.version]);
      if (key !== shown) {
        shown = key;
        draw(found, ringOf?.version, points);
      }
      return places;
    },
  };
}
