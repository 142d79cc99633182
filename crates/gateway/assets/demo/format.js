// Figures as people read them. It owns no state and touches nothing.

const RATE_UNITS = ["B/s", "kB/s", "MB/s", "GB/s"];
const SIZE_UNITS = ["B", "kB", "MB", "GB", "TB"];
const NONE = "–";

function scaled(value, units) {
  let index = 0;
  let rest = value;
  while (rest >= 999.5 && index < units.length - 1) {
    rest /= 1_000;
    index += 1;
  }
  const digits = index === 0 || rest >= 100 ? 0 : 1;
  return `${rest.toFixed(digits)} ${units[index]}`;
}

/** A finite number, or null. */
export function finite(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

export function percent(value) {
  return value === null ? NONE : `${value.toFixed(1)}%`;
}

/** Bytes per second. */
export function rate(value) {
  return value === null ? NONE : scaled(Math.max(0, value), RATE_UNITS);
}

/** Bytes. */
export function size(value) {
  return scaled(Math.max(0, value), SIZE_UNITS);
}

export function count(value) {
  return value.toLocaleString("en");
}

export function latency(ms) {
  if (ms === null) return NONE;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

/** How long ago, from milliseconds. */
export function ago(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3_600)} h ago`;
}

/** A duration in its two largest units, from seconds. */
export function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The time of day, 24 hours. */
export function clock(date) {
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}

/** A text cut to `max` characters. */
export function cut(text, max) {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}
