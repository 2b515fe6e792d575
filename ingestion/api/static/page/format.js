/** Numbers, sizes and times for people. */

const whole = new Intl.NumberFormat();
const UNITS = ["B", "KB", "MB", "GB", "TB"];
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const count = (number) => whole.format(number);

/** "1 page", "3 pages". */
export const counted = (number, noun, plural = `${noun}s`) => `${count(number)} ${number === 1 ? noun : plural}`;

export function bytes(size) {
  if (size === null || size === undefined) return "";
  let unit = 0;
  let value = size;
  for (; value >= 1000 && unit < UNITS.length - 1; unit += 1) value /= 1000;
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** "3 min. ago"; the date after a month. */
export function ago(iso) {
  if (!iso) return "";
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  if (seconds > 30 * 86400) return new Date(iso).toLocaleDateString();
  const [unit, size] = STEPS.find(([, step]) => seconds >= step) || ["second", 1];
  return unit === "second" ? "just now" : relative.format(-Math.floor(seconds / size), unit);
}

export const dateTime = (iso) => (iso ? moment.format(new Date(iso)) : "");

/** How long it is that `iso` was. */
export const since = (iso) => duration((Date.now() - Date.parse(iso)) / 1000);

/** "40 s", "3 min", "2 h". */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
