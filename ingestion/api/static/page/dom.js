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

const nameOf = (element) => element.getAttribute("aria-label") || element.textContent;

/** Replace what `parent` shows. The focus goes to the element of the same kind and name as the one that had it. */
export function show(parent, ...children) {
  const before = parent.contains(document.activeElement) ? document.activeElement : null;
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  if (!before || parent.contains(document.activeElement)) return;
  const name = nameOf(before);
  [...parent.querySelectorAll(before.localName)].find((one) => nameOf(one) === name)?.focus({ preventScroll: true });
}

const LONGEST_PRESS_MS = 5000;
let pressedAt = -Infinity;
for (const type of ["pointerdown", "keydown"]) {
  addEventListener(type, (event) => { if (type === "pointerdown" || event.key === " ") pressedAt = performance.now(); }, { capture: true });
}
for (const type of ["pointerup", "pointercancel", "contextmenu", "keyup"]) {
  addEventListener(type, () => { pressedAt = -Infinity; }, { capture: true });
}

/**
 * Run `action` at most once in `ms` milliseconds: at the first call, and after the last. It waits while a pointer or the
 * space bar is down: a button that is replaced between press and release gets no click.
 */
export function throttled(action, ms) {
  let timer = 0;
  let isCalled = false;
  const run = () => {
    timer = 0;
    if (!isCalled) return;
    timer = setTimeout(run, ms);
    if (performance.now() - pressedAt < LONGEST_PRESS_MS) return;
    isCalled = false;
    action();
  };
  return () => {
    isCalled = true;
    if (!timer) timer = setTimeout(run);
  };
}

/** Let screen readers say `text`, after what they say now. */
export function announce(text) {
  const region = document.getElementById("live");
  if (region.textContent === text) region.textContent = "";
  region.textContent = text;
}
