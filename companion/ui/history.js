// What the page remembers of the answers: requests in flight and capacities of the last 15 minutes, and counters, from
// which rates follow. Pure: the moment is an argument.

const KEPT_MS = 15 * 60_000;
/** Over how long a rate is taken, if answers come more often: reports and answers are not in step. */
const RATE_MS = 5_000;

/** Rates of counters that only grow, each under a key. */
export class Rates {
  #seen = new Map();

  /** Adds the counters of a moment, and forgets keys that are not among them. */
  put(now, entries) {
    const next = new Map();
    for (const [key, counters] of entries) {
      const samples = this.#seen.get(key) ?? [];
      samples.push({ now, counters });
      while (samples.length > 2 && samples[1].now <= now - RATE_MS) samples.shift();
      next.set(key, samples);
    }
    this.#seen = next;
  }

  /** The growth of a counter per second; undefined before the second sample, or after it went back. */
  of(key, counter) {
    const samples = this.#seen.get(key);
    if (!samples || samples.length < 2) return undefined;
    const [first, last] = [samples[0], samples[samples.length - 1]];
    const grown = last.counters[counter] - first.counters[counter];
    return grown >= 0 ? (grown * 1000) / (last.now - first.now) : undefined;
  }
}

/** Rows of numbers over time, one for each key. A key that is absent at a moment has a gap there. */
export class History {
  times = [];
  #rows = new Map();

  put(now, entries) {
    const before = this.times.length;
    this.times.push(now);
    for (const [key, values] of entries) {
      let row = this.#rows.get(key);
      if (!row) {
        row = values.map(() => new Array(before).fill(null));
        this.#rows.set(key, row);
      }
      values.forEach((value, at) => row[at].push(value ?? null));
    }
    for (const row of this.#rows.values()) {
      for (const values of row) if (values.length < this.times.length) values.push(null);
    }
    this.#trim(now);
  }

  #trim(now) {
    const old = this.times.findIndex((time) => time > now - KEPT_MS);
    if (old <= 0) return;
    this.times.splice(0, old);
    for (const [key, row] of this.#rows) {
      for (const values of row) values.splice(0, old);
      if (row.every((values) => values.every((value) => value === null))) this.#rows.delete(key);
    }
  }

  /** The values of a key at the place `at` of what was put. */
  row(key, at) {
    return this.#rows.get(key)?.[at] ?? this.times.map(() => null);
  }
}
