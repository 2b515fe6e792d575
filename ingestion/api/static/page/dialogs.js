/** Dialogs on the browser's own `<dialog>`: it keeps the focus inside, and gives it back. */
import { h } from "./dom.js";
import { button, iconButton } from "./widgets.js";

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
        iconButton("close", "Close", () => close())),
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
      button("Keep", () => close(false)),
      button(label, () => close(true), { kind: danger ? "danger" : "primary", autofocus: true }))));
}

export const isDialogOpen = () => document.querySelector("dialog[open]") !== null;

export const closeDialogs = () => { for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close(); };
