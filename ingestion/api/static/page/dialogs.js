/** Dialogs on the browser's own `<dialog>`: it keeps the focus inside, and gives it back. */
import { h } from "./dom.js";
import { icon } from "./icons.js";

let serial = 0;

/** Open a dialog. `build(close)` gives its content; `close(value)` ends it. Resolves to that value. */
export function openDialog(title, build, { className = "" } = {}) {
  return new Promise((resolve) => {
    let result;
    const close = (value) => { result = value; dialog.close(); };
    serial += 1;
    const id = `dialog-${serial}`;
    const dialog = h("dialog", { class: `dialog ${className}`, "aria-labelledby": id, onclose: () => { dialog.remove(); resolve(result); } },
      h("header", { class: "dialog-head" }, h("h2", { id }, title),
        h("button", { class: "icon-button", type: "button", "aria-label": "Close", onclick: () => close() }, icon("close"))),
      build(close));
    dialog.addEventListener("click", (event) => { if (event.target === dialog) close(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Ask once. Resolves to true where the user agrees. */
export function ask(title, text, label, { danger = false } = {}) {
  return openDialog(title, (close) => h("div", { class: "dialog-body" },
    h("p", {}, text),
    h("div", { class: "dialog-actions" },
      h("button", { class: "button", type: "button", onclick: () => close(false) }, "Keep"),
      h("button", { class: `button ${danger ? "button-danger" : "button-primary"}`, type: "button", autofocus: true, onclick: () => close(true) }, label))));
}

export const isDialogOpen = () => document.querySelector("dialog[open]") !== null;

export const closeDialogs = () => { for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close(); };
