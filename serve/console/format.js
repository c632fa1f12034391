// Numbers, times and durations as text. Times are the reader's; the exact UTC time stands in a title.

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const TENTH = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const MINUTES = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });

/** A whole number; a dash for what is not known. */
export function number(n) {
  return n === null || n === undefined ? '–' : WHOLE.format(n);
}

/** A number with its noun: `1 key`, `2 keys`. */
export function plural(n, one, many = `${one}s`) {
  return `${number(n)} ${n === 1 ? one : many}`;
}

/** A rate: with a digit behind the point below 100. */
export function rate(n) {
  if (n === null || n === undefined) return '–';
  return n === 0 || n >= 100 ? WHOLE.format(n) : TENTH.format(n);
}

/** A share of a whole, in percent. */
export function share(part, whole) {
  if (!whole) return '–';
  const percent = (100 * part) / whole;
  if (percent > 0 && percent < 0.1) return '< 0.1 %';
  return `${percent === 0 || percent >= 99.95 ? WHOLE.format(percent) : TENTH.format(percent)} %`;
}

/** A number of bytes. */
export function bytes(n) {
  let [value, unit] = [n, 'B'];
  for (const next of ['KiB', 'MiB', 'GiB', 'TiB']) {
    if (value < 1024) break;
    [value, unit] = [value / 1024, next];
  }
  return `${unit === 'B' ? WHOLE.format(value) : TENTH.format(value)} ${unit}`;
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
];

/** A duration in ms, in its two greatest units. */
export function duration(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1000) return `${WHOLE.format(ms)} ms`;
  if (ms < 60_000) return `${ms < 9950 ? TENTH.format(ms / 1000) : WHOLE.format(ms / 1000)} s`;
  const at = UNITS.findIndex(([, length]) => ms >= length);
  const [unit, length] = UNITS[at];
  const count = Math.floor(ms / length);
  const [smaller, step] = UNITS[at + 1];
  const rest = Math.floor((ms % length) / step);
  return rest ? `${count} ${unit} ${rest} ${smaller}` : `${count} ${unit}`;
}

/** A time of day, with the day where it is another one. */
export function time(iso) {
  if (!iso) return '–';
  const date = new Date(iso);
  return isToday(date) ? CLOCK.format(date) : `${DAY.format(date)}, ${MINUTES.format(date)}`;
}

/** A time of day to the minute. */
export function minute(ms) {
  return MINUTES.format(new Date(ms));
}

/** A time of day to the second. */
export function second(ms) {
  return CLOCK.format(new Date(ms));
}

function isToday(date) {
  return date.toDateString() === new Date().toDateString();
}
