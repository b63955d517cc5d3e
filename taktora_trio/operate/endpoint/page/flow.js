// The graph: app, shared memory with its channels, gateway, peers (brokers, routers). Wide screens see each channel, narrow ones sums.
import { draw, say, set } from "./dom.js";
import { counted, keyOf, number } from "./words.js";

const MOST = 14; // channels that are drawn one by one
const ROW = 34;

export const stateOf = (half) => (!half ? "bad" : half.state === "runs" ? "ok" : ["starts", "waits"].includes(half.state) ? "warn" : "bad");
export const toneOf = (health) => ({ Up: "ok", Degraded: "warn", Connecting: "warn", Down: "bad" })[health] ?? "idle";
const paceOf = (rate) => (!rate ? "idle" : rate < 10 ? "slow" : rate < 500 ? "brisk" : "fast");

function boxed(svg, name, x, y, w, h, tone, lines) {
  const group = svg.items.get(name) ?? draw("g", {}, draw("rect", { rx: 8 }), draw("title"));
  if (!svg.items.has(name)) { svg.items.set(name, group); svg.boxes.append(group); }
  svg.seen.add(name);
  set(group, "class", `box ${tone}`);
  set(group, "transform", `translate(${x} ${y})`);
  const [rect, title] = group.children;
  set(rect, "width", w);
  set(rect, "height", h);
  say(title, lines.join(", "));
  while (group.children.length > lines.length + 2) group.lastChild.remove();
  while (group.children.length < lines.length + 2) group.append(draw("text", { "text-anchor": "middle" }));
  const room = Math.max(3, Math.floor((w - 12) / 7));
  lines.forEach((line, index) => {
    const text = group.children[index + 2];
    set(text, "class", index ? "small" : "strong");
    set(text, "x", w / 2);
    set(text, "y", h / 2 + 5 + (index - (lines.length - 1) / 2) * 17);
    const fits = index ? Math.floor(room * 1.12) : room;
    say(text, line.length > fits ? `${line.slice(0, fits - 1)}…` : line);
  });
}

function edged(svg, name, path, tone, rate) {
  const edge = svg.items.get(name) ?? draw("g", {}, draw("path", { class: "rail" }), draw("path", { class: "stream" }));
  if (!svg.items.has(name)) { svg.items.set(name, edge); svg.edges.append(edge); }
  svg.seen.add(name);
  set(edge, "class", `edge ${tone} ${tone === "bad" ? "idle" : paceOf(rate)}`);
  for (const child of edge.children) set(child, "d", path);
}

const passing = (one, group) => (["Up", "Degraded"].includes(one.health) ? group.rate : 0); // else nothing gets there

const across = (x1, y1, x2, y2) => `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`;

// Channels of each connector and direction; many are shown as their sum.
function grouped(vitals, rates) {
  const rate = (channel) => rates[keyOf(channel)] ?? 0;
  const whole = vitals.channels.length <= MOST;
  const groups = [];
  for (const connector of Object.keys(vitals.connectors)) {
    for (const direction of ["out", "in"]) {
      const own = vitals.channels.filter((one) => one.connector === connector && one.direction === direction);
      const sum = own.reduce((total, one) => total + rate(one), 0);
      if (own.length) groups.push({ connector, direction, count: own.length, rate: sum,
        parts: whole ? own.map((one) => ({ name: one.name, rate: rate(one) }))
          : [{ name: counted(own.length, "channel"), rate: sum }] });
    }
  }
  return groups;
}

export function showFlow(container, vitals, rates) {
  let svg = container.querySelector("svg");
  if (!svg) {
    svg = draw("svg", { role: "img" }, draw("rect", { class: "memory", rx: 10 }), draw("text", { class: "small muted", "text-anchor": "middle" }),
      draw("g"), draw("g"));
    [svg.memory, svg.label, svg.edges, svg.boxes] = svg.children;
    svg.items = new Map();
    container.append(svg);
  }
  svg.seen = new Set();
  const groups = grouped(vitals, rates);
  const width = container.clientWidth - 24;
  const [w, h] = width >= 640 ? wide(svg, vitals, groups) : narrow(svg, vitals, groups, Math.max(260, width));
  set(svg, "viewBox", `-2 -2 ${w + 4} ${h + 4}`);
  for (const [name, item] of svg.items) if (!svg.seen.has(name)) { item.remove(); svg.items.delete(name); }
  const told = Object.values(vitals.connectors).map((one) => `${one.name} to ${one.peer || "its peer"} is ${one.health}`);
  set(svg, "aria-label", `The app, ${counted(vitals.channels.length, "channel")}, the gateway, and ${told.join("; ") || "no connector"}`);
}

function halves(vitals) {
  const gateways = Object.entries(vitals.halves).filter(([name]) => name.startsWith("gateway"));
  const worst = ["bad", "warn", "ok"].find((tone) => gateways.some(([, half]) => stateOf(half) === tone)) ?? "bad";
  const words = (half) => (half ? half.state : "not there");
  return { app: [vitals.app || "app", words(vitals.halves.plugin)], appTone: stateOf(vitals.halves.plugin),
    gateway: ["gateway", gateways.length === 1 ? words(gateways[0][1]) : counted(gateways.length, "process", "processes")],
    gatewayTone: worst };
}

function peer(one) {
  return [one.name, one.health, ...(one.peer ? [one.peer.replace(/^\w+:\/\//, "")] : [])];
}

function wide(svg, vitals, groups) {
  const { app, appTone, gateway, gatewayTone } = halves(vitals);
  const rows = groups.reduce((sum, group) => sum + group.parts.length, 0);
  const connectors = Object.values(vitals.connectors);
  const height = Math.max(rows * ROW + 40, connectors.length * 84 + 30, 170);
  const middle = (height + 14) / 2;
  set(svg.memory, "x", 220); set(svg.memory, "y", 1); set(svg.memory, "width", 250); set(svg.memory, "height", height - 2);
  set(svg.label, "x", 345); set(svg.label, "y", 19); say(svg.label, "shared memory");
  boxed(svg, "app", 0, middle - 32, 150, 64, appTone, app);
  boxed(svg, "gateway", 550, middle - 32, 130, 64, gatewayTone, gateway);
  let y = 26 + Math.max(0, (height - 40 - rows * ROW) / 2);
  connectors.forEach((one, index) => {
    const at = height * (index + 0.5) / connectors.length;
    boxed(svg, `peer ${one.name}`, 780, at - 36, 220, 72, toneOf(one.health), peer(one));
    for (const group of groups.filter((each) => each.connector === one.name)) {
      const shift = group.direction === "out" ? -9 : 9;
      const toPeer = group.direction === "out" ? across(680, middle + shift, 780, at + shift) : across(780, at + shift, 680, middle + shift);
      edged(svg, `peer ${one.name} ${group.direction}`, toPeer, toneOf(one.health), passing(one, group));
      for (const part of group.parts) {
        const key = `${one.name}/${part.name}/${group.direction}`;
        const centre = y + 14;
        boxed(svg, key, 240, y, 210, 28, "channel", [`${group.direction === "out" ? "→" : "←"} ${part.name}  ${number(part.rate)}/s`]);
        const [left, right] = [across(150, middle + shift, 240, centre), across(450, centre, 550, middle + shift)];
        const back = [across(240, centre, 150, middle + shift), across(550, middle + shift, 450, centre)];
        const [near, far] = group.direction === "out" ? [left, right] : back;
        edged(svg, `${key} near`, near, appTone === "bad" ? "bad" : "ok", part.rate);
        edged(svg, `${key} far`, far, gatewayTone === "bad" ? "bad" : "ok", part.rate);
        y += ROW;
      }
    }
  });
  return [1000, height];
}

function narrow(svg, vitals, groups, width) {
  const { app, appTone, gateway, gatewayTone } = halves(vitals);
  const connectors = Object.values(vitals.connectors);
  const column = width / Math.max(1, connectors.length);
  set(svg.memory, "x", 0); set(svg.memory, "y", 66); set(svg.memory, "width", width); set(svg.memory, "height", 84);
  set(svg.label, "x", width / 2); set(svg.label, "y", 112); say(svg.label, "shared memory");
  boxed(svg, "app", 0, 0, width, 52, appTone, app);
  boxed(svg, "gateway", 0, 164, width, 52, gatewayTone, gateway);
  connectors.forEach((one, index) => {
    boxed(svg, `peer ${one.name}`, index * column + 3, 290, column - 6, 72, toneOf(one.health), peer(one));
    for (const group of groups.filter((each) => each.connector === one.name)) {
      const out = group.direction === "out";
      const x = index * column + column * (out ? 0.25 : 0.75);
      const key = `${one.name} ${group.direction}`;
      edged(svg, `${key} near`, out ? `M${x} 52V74` : `M${x} 74V52`, appTone === "bad" ? "bad" : "ok", group.rate);
      boxed(svg, key, x - column * 0.23, 76, column * 0.46, 64, "channel",
        [`${number(group.rate)}/s`, `${group.count} ${out ? "out ↓" : "in ↑"}`]);
      edged(svg, `${key} far`, out ? `M${x} 142V164` : `M${x} 164V142`, gatewayTone === "bad" ? "bad" : "ok", group.rate);
      edged(svg, `${key} peer`, out ? `M${x} 216V290` : `M${x} 290V216`, toneOf(one.health), passing(one, group));
    }
  });
  say(svg.label, "");
  return [width, 364];
}
