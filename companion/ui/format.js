// Numbers, times and shares as text. Pure.

const DASH = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A count: 12,345. */
export const count = (value) => (isNumber(value) ? whole.format(value) : DASH);

/** A count with its noun: 1 instance, 2 instances. */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/** A rate per second: one decimal below 100. */
export function rate(value) {
  if (!isNumber(value)) return DASH;
  return value > 0 && value < 99.95 ? tenth.format(value) : whole.format(value);
}

/** A share from 0 to 1: 24.8 %. */
export function share(value) {
  return isNumber(value) ? `${tenth.format(value * 100)} %` : DASH;
}

/** A size in bytes: 12.3 MiB. */
export function bytes(value) {
  if (!isNumber(value)) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let at = 0;
  while (size >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${at === 0 ? whole.format(size) : tenth.format(size)} ${units[at]}`;
}

/** A number of milliseconds: 320 ms, 4.2 s, 3 min. */
export function duration(ms) {
  if (!isNumber(ms)) return DASH;
  const size = Math.abs(ms);
  if (size < 1000) return `${whole.format(ms)} ms`;
  if (size < 60_000) return `${tenth.format(ms / 1000)} s`;
  if (size < 3_600_000) return `${whole.format(ms / 60_000)} min`;
  if (size < 172_800_000) return `${tenth.format(ms / 3_600_000)} h`;
  return `${whole.format(ms / 86_400_000)} d`;
}

/** The time of day of a moment, 14:03:09, with the date if it is not of today. */
export function time(ms) {
  if (!isNumber(ms)) return DASH;
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return DASH;
  const two = (value) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return date.toDateString() === new Date().toDateString() ? clock : `${day} ${clock}`;
}

/** A text that is not too long to show; the whole is its title then. */
export function short(text, most = 48) {
  const letters = Array.from(String(text));
  return letters.length <= most ? String(text) : `${letters.slice(0, most - 1).join("")}…`;
}
