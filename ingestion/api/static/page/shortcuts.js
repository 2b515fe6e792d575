/** The keyboard: single keys, and pairs such as `g d`. Keys that are typed into a field do nothing here. */
import { h } from "./dom.js";
import { isDialogOpen, openDialog } from "./dialogs.js";

const PAIR_MS = 1200;
const global = new Map();
let ofView = new Map();
let first = "";
let firstAt = 0;

/** `keys`: `[[key, what it does, action], …]`. They work in every view. */
export const always = (keys) => keys.forEach(([key, text, action]) => global.set(key, { text, action }));

/** The keys of the view that is shown now; they replace those of the one before. */
export const inView = (keys = []) => { ofView = new Map(keys.map(([key, text, action]) => [key, { text, action }])); };

const isTyping = (target) =>
  target.isContentEditable || target.matches("textarea, select") || (target.matches("input") && !["checkbox", "radio", "button"].includes(target.type));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isDialogOpen()) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const pair = first && performance.now() - firstAt < PAIR_MS ? `${first} ${event.key}` : "";
  const found = global.get(pair) || ofView.get(event.key) || global.get(event.key);
  [first, firstAt] = [found ? "" : event.key, performance.now()];
  if (!found) return;
  event.preventDefault();
  found.action();
});

const keycaps = (key) => key.split(" ").map((one) => h("kbd", {}, { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", Delete: "Del" }[one] || one));
const list = (title, keys) => h("section", { class: "keys" }, h("h3", {}, title),
  h("dl", {}, keys.map(([key, text]) => h("div", {}, h("dt", {}, keycaps(key)), h("dd", {}, text)))));

/** Keys of the large view of a page: `viewer.js` handles them. */
const VIEWER_KEYS = [
  ["ArrowLeft", "previous page"], ["ArrowRight", "next page"], ["k", "previous hit"], ["j", "next hit"],
  ["m", "marks on or off"], ["t", "text of the page"], ["+", "larger"], ["-", "smaller"], ["0", "whole page"], ["Escape", "close"],
];

export function showShortcuts() {
  const texts = (keys) => [...keys].map(([key, { text }]) => [key, text]);
  return openDialog("Keyboard", () => h("div", { class: "dialog-body keys-grid" },
    list("Everywhere", texts(global)),
    ofView.size > 0 && list("In this view", texts(ofView)),
    list("In the large view of a page", VIEWER_KEYS)), { className: "dialog-wide" });
}

/** Move the focus among the elements `selector` by `step`; from none, to the first or last. */
export function moveFocus(selector, step) {
  const all = [...document.querySelectorAll(selector)];
  if (!all.length) return;
  const now = all.findIndex((one) => one.contains(document.activeElement));
  const next = now < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, now + step));
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}
