// The page: told once a second by server-sent events how the run is, it shows that, and says so when it hears nothing.
import { byId, drawSparkline, each, make, say, set, sparkline } from "./dom.js";
import { showFlow, stateOf, toneOf } from "./flow.js";
import { NONE, bytes, counted, keyOf, moment, number, span } from "./words.js";

const KEPT = 120; // samples of a sparkline
const SILENT = 5; // seconds without news after which the figures are called old
const LEVELS = { well: ["All is well", "M14 25l7 7 14-15"], impaired: ["Impaired", "M24 12v15M24 33v2"],
  broken: ["Broken", "M16 16l16 16M32 16L16 32"], gone: ["There is no run", "M14 24h20"],
  old: ["No contact", "M24 12v13l8 5"] };
const past = new Map(); // rates of each channel, by connector/name/direction
let newest = null, heard = 0, paused = false, broken = false, order = { by: "place", down: false };

const lost = (one) => ["discarded", "expired", "refused", "rejected"].reduce((sum, name) => sum + (one[name] ?? 0), 0);
const share = (part, whole) => (part === null || !whole ? null : Math.min(1, part / whole));

// Each column: what it is called, what it is sorted by, and how its cell is made and filled.
const COLUMNS = [
  { name: "Channel", by: (one) => one.name, make: () => [make("strong"), make("span", { class: "muted address" })],
    fill: ([name, address], one) => { say(name, one.name); say(address, one.address); set(address, "title", one.address); } },
  { name: "Way", by: (one) => `${one.connector} ${one.direction}`, make: () => [make("span", { class: "way" })],
    fill: ([way], one) => { say(way, `${one.direction === "out" ? "→ out" : "← in"} ${one.connector}`); set(way, "class", `way ${one.direction}`); } },
  { name: "Messages/s", by: (one) => one.rate ?? -1, number: true, make: () => [make("span", { class: "rate" }), sparkline()],
    fill: ([rate, line], one) => { say(rate, number(one.rate)); drawSparkline(line, past.get(keyOf(one)) ?? [], KEPT);
      set(line.parentNode, "title", `${bytes(one.bytesRate)}/s; ${number(one.messages)} messages in all`); } },
  { name: "Window", by: (one) => share(one.in_use, one.window) ?? -1, number: true, make: () => [make("span"), gauge()],
    fill: ([text, bar], one) => { say(text, one.in_use === null ? NONE : `${one.in_use} of ${one.window}`);
      fillGauge(bar, share(one.in_use, one.window)); } },
  { name: "Backlog", by: (one) => one.backlog ?? -1, number: true, make: () => [make("span")],
    fill: ([text], one) => { say(text, number(one.backlog)); set(text, "class", one.backlog ? "warn-text" : ""); } },
  { name: "Store", by: (one) => one.store_bytes ?? -1, number: true, make: () => [make("span"), gauge()],
    fill: ([text, bar], one) => { const until = one.store_full_in === null ? "" : `, full in ${span(one.store_full_in)}`;
      say(text, one.store_bytes === null ? NONE : `${bytes(one.store_bytes)}${until}`);
      fillGauge(bar, share(one.store_bytes, one.store_limit)); } },
  { name: "Lost", by: lost, number: true, make: () => [make("span")],
    fill: ([text], one) => { say(text, number(lost(one))); set(text, "class", lost(one) ? "bad-text" : "");
      const parts = ["discarded", "expired", "refused", "rejected"].filter((name) => one[name]);
      set(text, "title", parts.map((name) => `${one[name]} ${name}`).join(", ") || null); } },
  { name: "Dead letters", by: (one) => one.dead_letters ?? -1, number: true, make: () => [make("span")],
    fill: ([text], one) => { say(text, number(one.dead_letters)); set(text, "class", one.dead_letters ? "warn-text" : ""); } },
  { name: "Last", by: (one) => one.age ?? 1e12, number: true, make: () => [make("span")],
    fill: ([text], one) => say(text, one.age === null ? NONE : `${span(one.age)} ago`) },
  { name: "Latency", by: (one) => one.latency ?? -1, number: true, make: () => [make("span")],
    fill: ([text], one) => say(text, span(one.latency)) },
];

function gauge() {
  return make("meter", { min: 0, max: 1, low: 0.5, high: 0.85, optimum: 0, value: 0, "aria-hidden": "true" });
}

function fillGauge(meter, value) {
  set(meter, "hidden", value === null ? "" : null);
  if (value !== null) meter.value = value;
}

function makeHeads() {
  for (const column of COLUMNS) {
    const button = make("button", { type: "button" }, column.name);
    const head = make("th", { scope: "col", class: column.number ? "number" : "" }, button);
    button.addEventListener("click", () => {
      order = { by: column.name, down: order.by === column.name ? !order.down : Boolean(column.number) };
      for (const other of byId("heads").children) set(other, "aria-sort", null);
      set(head, "aria-sort", order.down ? "descending" : "ascending");
      showChannels();
    });
    byId("heads").append(head);
  }
}

function showChannels() {
  if (!newest?.vitals) return;
  const wanted = byId("filter").value.trim().toLowerCase();
  const channels = newest.vitals.channels.map((one) => ({ ...one, rate: newest.messages[keyOf(one)], bytesRate: newest.bytes[keyOf(one)] }));
  const shown = channels.filter((one) => [one.name, one.address, one.connector].join(" ").toLowerCase().includes(wanted));
  const column = COLUMNS.find((one) => one.name === order.by);
  if (column) shown.sort((a, b) => (column.by(a) < column.by(b) ? -1 : column.by(a) > column.by(b) ? 1 : 0) * (order.down ? -1 : 1));
  say(byId("count"), wanted ? `${shown.length} of ${channels.length}` : `${channels.length}`);
  byId("none").hidden = shown.length > 0;
  each(byId("rows"), shown, keyOf, () => make("tr", {}, ...COLUMNS.map((one, index) =>
    make(index ? "td" : "th", { scope: index ? null : "row", class: one.number ? "number" : null, "data-label": one.name }, ...one.make()))),
  (row, one) => COLUMNS.forEach((column, index) => {
    const cell = row.children[index];
    column.fill([...cell.children], one);
    set(cell, "class", [column.number ? "number" : "", cell.textContent === NONE ? "unknown" : ""].filter(Boolean).join(" ") || null);
  }));
}

function card(key, title, tone, state, rows, reason) {
  return { key, title, tone, state, reason, rows: rows.filter(([, value]) => value !== null && value !== undefined && value !== NONE) };
}

function showParts({ vitals, cpu, time }) {
  const cards = Object.entries(vitals.halves).map(([name, half]) => card(`half ${name}`, name, stateOf(half),
    half?.state ?? "not there", half ? [["process", half.pid], ["up", span(half.uptime)], ["restarts", half.restarts],
      ["memory", bytes(half.memory)], ["processor", cpu[name] === undefined ? NONE : `${(100 * cpu[name]).toFixed(1)} %`],
      ["loop late by", span(half.loop_lag)]] : [], half?.problem));
  for (const one of Object.values(vitals.connectors)) {
    cards.push(card(`connector ${one.name}`, one.name, toneOf(one.health), one.health, [["peer", one.peer || NONE],
      ["since", `${span(Math.max(0, time - one.since))}`], ["reconnects", one.reconnects],
      ["next attempt", one.next_attempt === null ? NONE : `in ${span(Math.max(0, one.next_attempt - time))}`]], one.reason));
  }
  each(byId("parts"), cards, (one) => one.key,
    () => make("article", { class: "card part" }, make("h3"), make("span", { class: "badge" }), make("p", { class: "reason" }), make("dl")),
    (element, one) => {
      const [title, badge, reason, list] = element.children;
      set(element, "class", `card part ${one.tone}`);
      say(title, one.title);
      say(badge, one.state);
      say(reason, one.reason ?? "");
      each(list, one.rows, ([name]) => name, ([name]) => make("div", { class: name === "peer" ? "long" : null }, make("dt", {}, name), make("dd")),
        (row, [, value]) => say(row.lastChild, String(value)));
    });
}

function showHistory(history) {
  const items = history.map((one, index) => ({ ...one, key: `${one.at} ${one.connector} ${one.after} ${index}` })).reverse();
  each(byId("history"), items, (one) => one.key, (one) => make("li", {},
    make("time", { datetime: new Date(one.at * 1000).toISOString() }, moment(one.at)), make("strong", {}, one.connector),
    make("span", { class: "change" }, make("span", { class: `badge ${toneOf(one.before)}` }, one.before), " → ",
      make("span", { class: `badge ${toneOf(one.after)}` }, one.after)),
    make("span", { class: "why" }, [one.reason, one.reason.includes(one.cause) ? "" : one.cause].filter(Boolean).join(" – "))), () => {});
}

function showVerdict(level, reasons) {
  const [word, sign] = LEVELS[level];
  set(byId("verdict"), "class", `verdict ${level}`);
  say(byId("word"), word);
  set(byId("sign"), "d", sign);
  each(byId("reasons"), reasons.slice(0, 6), (reason) => reason.replace(/[\d.]+/g, "#"), () => make("li"), say);
}

function showTotals({ vitals, messages, bytes: payload }) {
  const sum = (rates, direction) => vitals.channels.filter((one) => one.direction === direction)
    .reduce((total, one) => total + (rates[keyOf(one)] ?? 0), 0);
  const totals = ["out", "in"].map((way) => [way === "out" ? "out to peers" : "in to the app",
    `${number(sum(messages, way))} msg/s`, `${bytes(sum(payload, way))}/s`]);
  each(byId("totals"), totals, ([name]) => name, ([name]) => make("div", {}, make("dt", {}, name), make("dd"), make("dd", { class: "muted" })),
    (row, [, first, second]) => { say(row.children[1], first); say(row.children[2], second); });
}

function show(sample) {
  newest = sample;
  const { vitals, verdict } = sample;
  document.body.classList.toggle("gone", !vitals);
  if (!vitals) {
    document.title = "no run – taktora-trio";
    showVerdict("gone", [sample.problem]);
    return;
  }
  say(byId("domain"), vitals.domain);
  say(byId("app"), [vitals.app && vitals.app !== vitals.domain ? `app ${vitals.app}` : "", vitals.mode].filter(Boolean).join(", "));
  document.title = `${{ well: "✓", impaired: "!", broken: "✕" }[verdict.level]} ${vitals.domain} – taktora-trio`;
  showVerdict(verdict.level, verdict.reasons.length ? verdict.reasons
    : [`Both halves run, ${counted(Object.keys(vitals.connectors).length, "connector")} up.`]);
  showTotals(sample);
  showFlow(byId("flow"), vitals, sample.messages);
  showParts(sample);
  showChannels();
  showHistory(vitals.history);
}

function remember({ vitals, messages }) {
  for (const one of vitals?.channels ?? []) if (!past.has(keyOf(one))) past.set(keyOf(one), []);
  for (const [key, series] of past) {
    series.push(messages[key] ?? null);
    if (series.length > KEPT) series.shift();
  }
}

function tick() {
  const silent = (performance.now() - heard) / 1000;
  const old = broken || silent > SILENT;
  document.body.classList.toggle("old", old && newest !== null);
  say(byId("live"), paused ? "paused" : old ? "no contact" : "live");
  set(byId("beat"), "class", `beat ${paused ? "paused" : old ? "lost" : "on"}`);
  if (old && newest && !paused) {
    document.title = "? – taktora-trio";
    showVerdict("old", [`Nothing was heard for ${span(Math.round(silent))}. The figures are as they were then; the run may have ended.`]);
  }
}

function listen() {
  const events = new EventSource("events");
  events.addEventListener("past", (event) => {
    past.clear();
    for (const [key, series] of Object.entries(JSON.parse(event.data).messages)) past.set(key, series);
  });
  events.addEventListener("now", (event) => {
    const sample = JSON.parse(event.data);
    heard = performance.now();
    broken = false;
    remember(sample);
    if (!paused) show(sample);
    tick();
  });
  events.addEventListener("error", () => {
    broken = true;
    tick();
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}

makeHeads();
byId("filter").addEventListener("input", showChannels);
byId("pause").addEventListener("click", () => {
  paused = !paused;
  set(byId("pause"), "aria-pressed", String(paused));
  say(byId("pause"), paused ? "Go on" : "Pause");
  tick();
});
new ResizeObserver(() => newest?.vitals && showFlow(byId("flow"), newest.vitals, newest.messages)).observe(byId("flow"));
setInterval(tick, 1000);
listen();
