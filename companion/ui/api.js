// Requests to the companion that served this page. The token is kept for this tab alone, and sent in a header.

const KEY = "unitring.token";
/** How long an answer may take. The companion itself gives up after 10 s. */
const PATIENCE_MS = 12_000;

/** Why there is no answer: `status` is that of HTTP, or 0 if nobody answered. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether to ask again later may help. */
  get isTransient() {
    return this.status === 0 || this.status >= 500;
  }
}

let inMemory = null;

export const token = {
  get() {
    try {
      return sessionStorage.getItem(KEY) ?? inMemory;
    } catch {
      return inMemory;
    }
  },
  set(value) {
    inMemory = value;
    try {
      if (value === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, value);
    } catch {
      // It holds for this page.
    }
  },
  /** Whether a text can be a token at all: visible ASCII. */
  isPossible: (value) => /^[\x21-\x7e]{1,4096}$/.test(value),
};

/** A name as one segment of a path. */
export const segment = (name) => encodeURIComponent(name);

/** The milliseconds that the companion worked on an answer, as it says. */
function cost(response) {
  const found = /app;dur=([0-9.]+)/.exec(response.headers.get("server-timing") ?? "");
  return found ? Number(found[1]) : 0;
}

/** The answer as it comes, of any status. */
export async function open(path, { headers, signal } = {}) {
  const bearer = token.get();
  const authorization = bearer === null ? {} : { authorization: `Bearer ${bearer}` };
  try {
    return await fetch(`../${path}`, {
      headers: { ...authorization, ...headers },
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "the companion does not answer");
  }
}

async function json(response) {
  const text = await response.text().catch(() => {
    throw new ApiError(0, "the companion's answer ended early");
  });
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(response.status, `HTTP ${response.status}, and no JSON`);
  }
}

/** The error of an answer. */
export async function refusal(response) {
  const body = await json(response).catch(() => ({}));
  return new ApiError(response.status, String(body?.error ?? `HTTP ${response.status}`));
}

/**
 * Reads JSON: the body, and what it cost the companion in ms. `accepts` are further statuses that are answers.
 */
export async function ask(path, { signal, accepts = [] } = {}) {
  const late = AbortSignal.timeout(PATIENCE_MS);
  const response = await open(path, { signal: signal ? AbortSignal.any([signal, late]) : late }).catch((error) => {
    if (late.aborted && !signal?.aborted) throw new ApiError(0, "the companion does not answer in time");
    throw error;
  });
  if (!response.ok && !accepts.includes(response.status)) throw await refusal(response);
  return { body: await json(response), cost: cost(response), status: response.status };
}
