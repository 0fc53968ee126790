// Which token the page asks with: it asks the reader for one when the companion wants it, and says which role.

import { ask, token } from "./api.js";
import { el } from "./dom.js";
import { lock } from "./poll.js";

const NOT_A_TOKEN = "Not a token: a token has only visible ASCII characters, without spaces.";

let panel = null;

/**
 * Starts the access of the page. `main` gives way to the form while a token is wanted; `onChange` hears that another
 * token counts.
 */
export function startAccess({ main, forget, onChange }) {
  forget.hidden = token.get() === null;
  forget.addEventListener("click", () => {
    token.set(null);
    forget.hidden = true;
    close();
    onChange();
  });

  function close() {
    panel?.remove();
    panel = null;
    main.hidden = false;
    lock(false);
  }

  async function use(value, problem, button) {
    if (!token.isPossible(value)) {
      problem.textContent = NOT_A_TOKEN;
      return;
    }
    button.disabled = true;
    token.set(value);
    try {
      await ask("v1/services?summary=true&limit=1");
    } catch (error) {
      // With 403 the companion knows it: each view says what it lacks.
      if (error.status !== 403) {
        token.set(null);
        problem.textContent = error.status === 401 ? `The companion does not know this token: ${error.message}` : `The token could not be checked: ${error.message}`;
        return;
      }
    } finally {
      button.disabled = false;
    }
    forget.hidden = false;
    close();
    onChange();
  }

  /** Asks the reader for a token. `error` is what the companion said. */
  function want(error) {
    const had = token.get() !== null;
    token.set(null);
    forget.hidden = true;
    lock(true);
    if (panel) return;
    const input = el("input", {
      id: "token", type: "password", autocomplete: "off", spellcheck: "false", "aria-describedby": "token-note token-problem", required: true,
    });
    const problem = el("p", { id: "token-problem", class: "problem", role: "alert" });
    if (had) problem.textContent = `The companion no longer accepts the token: ${error.message}`;
    const button = el("button", { type: "submit", class: "primary" }, "Use token");
    const submit = (event) => {
      event.preventDefault();
      use(input.value.trim(), problem, button);
    };
    panel = el("section", { class: "access", "aria-labelledby": "access-title" },
      el("h1", { id: "access-title" }, "This companion needs a token"),
      el("p", { id: "token-note" },
        "The console only reads. Give it a token with the role ", el("code", null, "read"),
        ". It is kept for this tab until you close it, and sent to this companion alone."),
      el("form", { submit },
        el("label", { for: "token" }, "Token"),
        el("div", { class: "row" }, input, button)),
      problem);
    main.hidden = true;
    main.before(panel);
    input.focus();
  }

  return { want };
}
