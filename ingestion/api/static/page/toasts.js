/** Short notices in the corner, perhaps with one action. */
import { announce, h } from "./dom.js";
import { button, iconButton } from "./widgets.js";

const SHOWN_MS = 6000;
const ERROR_MS = 12000;

/** Show `text`. `action` is `{label, run}`. Returns a function that removes the notice. */
export function toast(text, { kind = "info", action = null, ms = kind === "error" ? ERROR_MS : SHOWN_MS } = {}) {
  const close = () => { clearTimeout(timer); notice.remove(); };
  const run = () => { close(); action.run(); };
  const notice = h("div", { class: `toast toast-${kind}` },
    h("span", { class: "toast-text" }, text),
    action && button(action.label, run, { kind: "quiet", className: "toast-action" }),
    iconButton("close", "Dismiss", close));
  const timer = setTimeout(close, ms);
  const toasts = document.getElementById("toasts");
  toasts.append(notice);
  // What was shown last is drawn above all else: an open dialog does not hide the notice.
  if (toasts.matches(":popover-open")) toasts.hidePopover();
  toasts.showPopover();
  announce(text);
  return close;
}

/** Await `action`, and show its error. Resolves to undefined where it failed. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError" && error.status !== 401) toast(error.message, { kind: "error" });
    return undefined;
  }
}
