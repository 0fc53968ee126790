// The start of the page: the head, the token, the events, and the view that the address names.

import { startAccess } from "./access.js";
import { el } from "./dom.js";
import { restartEvents, resumeEvents, startEvents } from "./events.js";
import { short } from "./format.js";
import { startHealth } from "./health.js";
import { startTheme } from "./theme.js";
import { eventsView } from "./views/events.js";
import { groupView } from "./views/group.js";
import { serviceView } from "./views/service.js";
import { servicesView } from "./views/services.js";
import { unitsView } from "./views/units.js";

const by = (id) => document.getElementById(id);
const main = by("main");
let view = null;

/** What a view says about an answer that it did not get. */
function problem() {
  const element = el("div", { class: "problem-place" });
  return {
    element,
    clear: () => element.replaceChildren(),
    show(error) {
      // The head tells of a companion that is gone, and the form of a token that is missing.
      if (error.status === 401) access.want(error);
      if (error.status === 0) health.look();
      if (error.status === 401 || error.status === 0) return;
      const what = error.status === 403 ? "The token does not allow this view: " : "No answer: ";
      element.replaceChildren(el("p", { class: "problem", role: "alert" }, what, error.message,
        error.status === 403 ? " Forget the token to use another one." : ""));
    },
  };
}

const views = [
  [/^#\/services$/, "#/services", () => servicesView(problem)],
  [/^#\/service\/(.+)$/, "#/services", (name) => serviceView(problem, name)],
  [/^#\/events$/, "#/events", () => eventsView()],
  [/^#\/units$/, "#/units", () => unitsView(problem)],
  [/^#\/group$/, "#/group", () => groupView(problem)],
];

/** Shows the view of the address. */
function go(isFirst) {
  const found = views.find(([pattern]) => pattern.test(location.hash));
  if (!found) {
    location.replace("#/services");
    return;
  }
  const [pattern, link, make] = found;
  let name = pattern.exec(location.hash)[1];
  try {
    name = name && decodeURIComponent(name);
  } catch {
    location.replace("#/services");
    return;
  }
  view?.stop();
  view = make(name);
  main.replaceChildren(view.element);
  document.title = `${short(view.title, 60)} – unitring`;
  for (const a of by("nav").querySelectorAll("a")) {
    if (a.getAttribute("href") === link) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  if (!isFirst) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

/** `/` leads to the filter of the view, Escape out of it. */
function keys(event) {
  const isTyping = event.target.closest("input, select, textarea") !== null;
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const filter = main.querySelector("[data-filter]");
    if (filter) {
      event.preventDefault();
      filter.focus();
    }
  } else if (event.key === "Escape" && event.target.matches?.("[data-filter]")) {
    event.target.blur();
  }
}

startTheme(by("theme"));
const access = startAccess({
  main,
  forget: by("forget"),
  onChange() {
    go(true);
    restartEvents();
  },
});
const health = startHealth({
  places: { health: by("health"), unit: by("unit"), banner: by("banner"), wiring: by("wiring") },
  onDenied: access.want,
  onReturn() {
    go(true);
    resumeEvents();
  },
});
startEvents((error) => error.status === 401 && access.want(error));
addEventListener("hashchange", () => go(view === null));
document.addEventListener("keydown", keys);
by("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
go(true);
