/** Parts that several views share. */
import { h } from "./dom.js";
import { icon } from "./icons.js";

/** A button with an icon and a name for screen readers and the pointer. */
export const iconButton = (name, label, onclick, { className = "", ...more } = {}) =>
  h("button", { class: `icon-button ${className}`, type: "button", "aria-label": label, title: label, onclick, ...more }, icon(name));

export const button = (label, onclick, { kind = "", icon: name = "", className = "", ...more } = {}) =>
  h("button", { class: `button ${kind ? `button-${kind}` : ""} ${className}`, type: "button", onclick, ...more }, name && icon(name), label);

/** The head of a view: title, one line below it, actions at the right. */
export const viewHead = (title, text, ...actions) => h("header", { class: "view-head" },
  h("div", { class: "view-title" }, h("h1", { tabIndex: -1 }, title), text && h("p", { class: "muted" }, text)),
  actions.length > 0 && h("div", { class: "view-actions" }, actions));

/** What a view shows where there is nothing: what it is, and what to do next. */
export const emptyState = (name, title, text, ...actions) => h("div", { class: "empty" },
  h("span", { class: "empty-icon" }, icon(name)), h("h2", {}, title), h("p", { class: "muted" }, text),
  actions.length > 0 && h("div", { class: "empty-actions" }, actions));

/** A box with an error and a way on. */
export const failure = (error, retry) => h("div", { class: "failure", role: "alert" }, icon("warning"),
  h("p", {}, error.message), retry && button("Try again", retry));

export const skeletons = (number, className) =>
  h("div", { class: `skeletons ${className}`, "aria-hidden": "true" }, Array.from({ length: number }, () => h("div", { class: "skeleton" })));

/** Radio buttons, drawn as one control. `options`: `[[value, label], …]`; `onchoose(value)`: when one is checked. */
export function choice(name, label, options, chosen, onchoose) {
  return h("fieldset", { class: "choice" }, h("legend", { class: "sr-only" }, label), options.map(([value, text]) =>
    h("label", {}, h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onchoose(value) }), h("span", {}, text))));
}

/** Buttons of which one is pressed. `options`: `[[value, label, …], …]`; `onchoose(value)`: when one is clicked. */
export const chips = (label, options, chosen, onchoose) => h("div", { class: "chips", role: "group", "aria-label": label }, options.map(([value, ...content]) =>
  h("button", { class: "chip", type: "button", "aria-pressed": String(value === chosen), onclick: () => onchoose(value) }, content)));

/** A bar: `done` of `total`, or one that runs where `total` is 0. */
export function bar(done, total, label) {
  const share = total > 0 ? Math.min(1, done / total) : null;
  const fill = h("span", { class: "bar-fill" });
  if (share !== null) fill.style.inlineSize = `${(share * 100).toFixed(1)}%`;
  return h("span", {
    class: `bar ${share === null ? "bar-runs" : ""}`, role: "progressbar", "aria-label": label,
    "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": share === null ? null : Math.round(share * 100),
  }, fill);
}
