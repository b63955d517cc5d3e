// Elements that stay: what is shown changes each second, and focus, selection and animations are to survive that.
const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children);
  return element;
}

export function set(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Has `parent` hold one child for each item, in order: made once, updated each time, removed when its item is gone.
export function each(parent, items, key, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let last = null;
  for (const item of items) {
    const name = key(item);
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    const place = last ? last.nextSibling : parent.firstChild;
    if (child !== place) parent.insertBefore(child, place);
    update(child, item);
    last = child;
  }
  for (const child of known.values()) child.remove();
}

export function sparkline() {
  return draw("svg", { class: "spark", viewBox: "0 0 120 28", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("path", { class: "area" }), draw("path", { class: "line" }));
}

export function drawSparkline(svg, values, most) {
  const highest = Math.max(...values.map((value) => value ?? 0), 1e-9);
  const step = 120 / (most - 1);
  let line = "", area = "", from = null, x = 120 - step * (values.length - 1);
  const close = () => { if (from !== null) area += `L${(x - step).toFixed(1)} 28L${from} 28Z`; from = null; };
  for (const value of values) {
    if (value === null || value === undefined) close();
    else {
      const point = `${x.toFixed(1)} ${(26 - 23 * value / highest).toFixed(1)}`;
      line += `${from === null ? "M" : "L"}${point}`;
      area += `${from === null ? "M" : "L"}${point}`;
      from = from ?? x.toFixed(1);
    }
    x += step;
  }
  close();
  set(svg.querySelector(".line"), "d", line);
  set(svg.querySelector(".area"), "d", area);
}
