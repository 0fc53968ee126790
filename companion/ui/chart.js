// Lines over time, drawn by uPlot. The legend is our own: it is read with the keyboard and by screen readers, and each
// line differs from the others by its dashes, too.

import { el, setText, svg } from "./dom.js";
import { time } from "./format.js";
import { colour, onTheme } from "./theme.js";

const HEIGHT = 220;
const DASHES = [[], [8, 3], [2, 3], [10, 3, 2, 3], [14, 4], [4, 4], [1, 4], [8, 3, 2, 3, 2, 3]];

function swatch(series) {
  const dash = series.isLimit ? [6, 4] : DASHES[series.place % DASHES.length];
  const line = svg("line", { x1: 0, y1: 5, x2: 24, y2: 5, "stroke-dasharray": dash.join(" ") || null, class: `line-${series.colour}` });
  return svg("svg", { viewBox: "0 0 24 10", width: 24, height: 10, "aria-hidden": "true", class: "line" }, line);
}

/**
 * `update({times, series, said})`: times in ms; series of `{name, place, colour, isLimit, values}`; what it shows in
 * words.
 */
export function chart() {
  let plot = null;
  let shown = null;
  let shape = "";
  const canvas = el("div", { class: "canvas", role: "img" });
  const legend = el("ul", { class: "legend lines" });
  const at = el("span", { class: "at" });
  const element = el("div", { class: "chart" }, canvas, el("div", { class: "under" }, legend, at));

  const last = (values) => values[values.length - 1];

  function tell(index) {
    const values = shown.series.map((series) => (index === null ? last(series.values) : series.values[index]));
    [...legend.children].forEach((item, place) => setText(item.lastElementChild, values[place] === null || values[place] === undefined ? "–" : String(values[place])));
    setText(at, index === null ? "now" : `at ${time(shown.times[index])}`);
  }

  function build() {
    plot?.destroy();
    const grid = { stroke: colour("line"), width: 1 };
    const axis = { stroke: colour("muted"), grid, ticks: grid, font: "12px system-ui, sans-serif" };
    plot = new window.uPlot({
      width: Math.max(canvas.clientWidth, 200),
      height: HEIGHT,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: { drag: { setScale: false, x: false, y: false }, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 5)] } },
      axes: [{ ...axis, values: (_, splits) => splits.map((at) => time(at * 1000)), space: 80 }, { ...axis, size: 52, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6] }],
      series: [{}, ...shown.series.map((series) => ({
        stroke: colour(series.colour),
        width: series.isLimit ? 1.5 : 1.75,
        dash: series.isLimit ? [6, 4] : DASHES[series.place % DASHES.length],
        points: { show: false },
        spanGaps: false,
      }))],
      hooks: { setCursor: [(self) => tell(self.cursor.idx ?? null)] },
    }, data(), canvas);
  }

  const data = () => [shown.times.map((time) => time / 1000), ...shown.series.map((series) => series.values)];

  function update(next) {
    shown = next;
    const wanted = JSON.stringify(next.series.map((series) => [series.name, series.place, series.colour]));
    canvas.setAttribute("aria-label", next.said);
    if (wanted !== shape || !plot) {
      shape = wanted;
      legend.replaceChildren(...next.series.map((series) => el("li", null, swatch(series), el("span", { class: "name" }, series.name), el("span", { class: "value" }))));
      build();
    } else plot.setData(data());
    tell(plot.cursor.idx ?? null);
  }

  const observer = new ResizeObserver(() => {
    if (plot && canvas.clientWidth > 0) plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
  });
  observer.observe(canvas);
  const endTheme = onTheme(() => shown && build());

  return {
    element,
    update,
    stop() {
      observer.disconnect();
      endTheme();
      plot?.destroy();
    },
  };
}
