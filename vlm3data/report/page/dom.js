// Elements are built here and nowhere else. Data only ever becomes a text node or the value of an attribute that
// runs nothing: there is no markup from strings on this page.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (name === "vars") for (const [key, held] of Object.entries(value)) node.style.setProperty(key, held);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

// Text that comes from data: kept apart from what stands beside it, whichever way it is written.
const said = (text, name = "") => el("bdi", { class: name || null, dir: "auto" }, String(text));

const count = (number) => number.toLocaleString("en-US");
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

function short(number, digits = 3) {
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 10000) return `${short(number / 1000, digits)}k`;
  if (size >= 1000) return Math.round(number).toLocaleString("en-US");
  return String(Number(number.toPrecision(digits)));
}

const megabytes = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${short(bytes / 1e6)} MB`);
