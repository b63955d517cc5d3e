// Figures and times as people read them. What nobody knows is a dash.
export const NONE = "–";

// What a channel is called in the rates of a sample.
export const keyOf = (channel) => `${channel.connector}/${channel.name}/${channel.direction}`;

export function number(value, digits = 1) {
  if (value === null || value === undefined) return NONE;
  for (const [limit, unit] of [[1e9, " G"], [1e6, " M"], [1e4, " k"]]) {
    if (value >= limit) return `${(value / (limit === 1e4 ? 1e3 : limit)).toFixed(1)}${unit}`;
  }
  return Number.isInteger(value) || value >= 9.95 ? Math.round(value).toLocaleString("en") : value.toFixed(digits);
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  let unit = 0;
  const units = ["B", "kB", "MB", "GB", "TB"];
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.round(minutes / 1440)} days`;
}

export function moment(unix) {
  const at = new Date(unix * 1000);
  const time = at.toLocaleTimeString("en-GB");
  return new Date().toDateString() === at.toDateString() ? time : `${at.toISOString().slice(0, 10)} ${time}`;
}

export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
