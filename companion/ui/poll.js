// Asks again and again, as cheaply as the companion needs it: only while the page is visible, not while it has no
// token that counts, with growing pauses while nobody answers, and never for more than a share of its time.

const PAUSE_MIN_MS = 1_000;
const PAUSE_MAX_MS = 30_000;
/** A view waits so many times as long as its answer took the companion: so it costs 1 % of a core at most. */
const REST = 100;

/** Whether nothing may be asked, since the companion wants another token. */
let isLocked = false;
const polls = new Set();

export function lock(locked) {
  isLocked = locked;
  if (!locked) for (const poll of polls) poll.now();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const poll of polls) poll.now();
});

/**
 * Calls `ask` each `every` ms, and hands its answers to `onAnswer` and its errors to `onError`, with the pause until the
 * next try in ms. An answer has its `cost` in ms, and may have an `every` of its own.
 */
export function poll({ every, rest = REST, ask, onAnswer, onError, evenLocked = false }) {
  let timer = null;
  let failures = 0;
  let isStopped = false;
  let underWay = null;

  const wait = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(run, ms);
  };

  async function run() {
    if (isStopped || underWay || document.hidden || (isLocked && !evenLocked)) return;
    const abort = new AbortController();
    underWay = abort;
    let pause = every;
    try {
      const answer = await ask(abort.signal);
      if (isStopped) return;
      failures = 0;
      pause = Math.max(answer.every ?? every, (answer.cost ?? 0) * rest);
      onAnswer(answer);
    } catch (error) {
      if (isStopped || abort.signal.aborted) return;
      if (!("status" in error)) throw error;
      failures += 1;
      pause = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** (failures - 1));
      onError(error, pause);
    } finally {
      underWay = null;
      if (!isStopped) wait(pause);
    }
  }

  const self = {
    now: () => wait(0),
    stop() {
      isStopped = true;
      clearTimeout(timer);
      underWay?.abort();
      polls.delete(self);
    },
  };
  polls.add(self);
  self.now();
  return self;
}
