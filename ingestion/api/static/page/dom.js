/** Elements. Strings become text nodes, never markup: file names, tags and snippets are not trusted. */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "indeterminate", "open", "readOnly", "tabIndex"]);

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element. Functions are listeners (`onclick`); null, undefined and false are left out. */
export const h = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);

/** An SVG element. */
export const s = (name, attributes = {}, ...children) =>
  build(document.createElementNS(SVG, name), attributes, children);

/** Replace what `parent` shows. */
export function show(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Run `action` at most once in `ms` milliseconds: at the first call, and after the last. */
export function throttled(action, ms) {
  let timer = 0;
  let isCalled = false;
  const run = () => {
    timer = 0;
    if (!isCalled) return;
    isCalled = false;
    timer = setTimeout(run, ms);
    action();
  };
  return () => {
    isCalled = true;
    if (!timer) timer = setTimeout(run);
  };
}

const live = () => document.getElementById("live");

/** Let screen readers say `text`, after what they say now. */
export function announce(text) {
  const region = live();
  if (region.textContent === text) region.textContent = "";
  region.textContent = text;
}
