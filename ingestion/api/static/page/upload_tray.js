/** The panel of uploads: each file with its bar, its stage, and its reason when it fails. */
import { announce, h, show, throttled } from "./dom.js";
import { call } from "./api.js";
import { counted, bytes } from "./format.js";
import { bar, iconButton } from "./widgets.js";
import { mayCancel, stageText } from "./states.js";
import { router } from "./router.js";
import { attempt } from "./toasts.js";
import { uploads } from "./uploads.js";

const MOST_ROWS = 100;
const REDRAW_MS = 100;
let isFolded = false;
let said = "";

export const tray = h("section", { class: "tray", "aria-label": "Uploads", hidden: true });

function phaseText(upload) {
  if (upload.phase === "refused") return upload.error.message;
  if (upload.note && upload.phase !== "accepted") return upload.note;
  switch (upload.phase) {
    case "waiting": return "waits for its turn";
    case "sending": return upload.sent < 1 ? `sending, ${Math.round(upload.sent * 100)} % of ${bytes(upload.file.size)}` : "being checked";
    case "stopped": return "stopped before it was sent";
    case "accepted": return acceptedText(upload.view);
    default: return upload.view.state === "failed" ? stageText(upload.view) || "failed" : settledText(upload);
  }
}

function acceptedText(view) {
  const pages = view.state === "processing" && view.pages ? `${view.pages_done} of ${counted(view.pages, "page")}` : "";
  return [pages, stageText(view) || view.state].filter(Boolean).join(", ");
}

function settledText({ view, note }) {
  const pages = view.state === "ready" ? `ready, ${counted(view.pages, "page")}` : view.state;
  return [pages, note].filter(Boolean).join("; ");
}

/** The first fifth of a bar is the transfer, the rest the pages. */
function uploadBar(upload) {
  if (!upload.isOpen) return bar(1, 1, upload.name);
  if (upload.phase !== "accepted") return bar(upload.sent * 0.2, 1, upload.name);
  const { pages = 0, pages_done: done = 0 } = upload.view;
  return bar(0.2 + (pages ? 0.8 * (done / pages) : 0), 1, upload.name);
}

function actionOf(upload) {
  if (["waiting", "sending"].includes(upload.phase)) return iconButton("close", `Stop ${upload.name}`, () => uploads.stop(upload));
  if (upload.phase === "accepted" && mayCancel(upload.view)) {
    return iconButton("stop", `Cancel ${upload.name}`, () => attempt(() => call(`/documents/${upload.documentId}/cancel`, { method: "POST" })));
  }
  if (upload.hasFailed || upload.phase === "stopped") return iconButton("again", `Upload ${upload.name} again`, () => uploads.again(upload));
  return null;
}

function row(upload) {
  const tone = upload.hasFailed ? "bad" : upload.phase === "settled" && upload.view.state === "ready" ? "good" : "busy";
  return h("li", { class: `tray-row tray-${tone}`, dataset: { phase: upload.phase, state: upload.view?.state || "" } },
    h("div", { class: "tray-name" }, h("span", { class: "ellipsis", title: upload.name }, upload.name), actionOf(upload)),
    uploadBar(upload),
    h("div", { class: "tray-text small" }, phaseText(upload)));
}

function summary() {
  const open = uploads.all.filter((one) => one.isOpen).length;
  const failed = uploads.all.filter((one) => one.hasFailed).length;
  const done = uploads.all.length - open;
  const head = open ? `${done} of ${counted(uploads.all.length, "file")} done` : `${counted(uploads.all.length, "file")} done`;
  return failed ? `${head}, ${failed} failed` : head;
}

function draw() {
  tray.hidden = uploads.all.length === 0;
  if (tray.hidden) return;
  const text = summary();
  // What needs attention first, then what moves.
  const rank = (one) => (one.hasFailed ? 0 : one.phase === "accepted" || one.phase === "sending" ? 1 : one.phase === "waiting" ? 2 : 3);
  const rows = [...uploads.all].sort((a, b) => rank(a) - rank(b)).slice(0, MOST_ROWS);
  const more = uploads.all.length - rows.length;
  show(tray,
    h("header", { class: "tray-head" }, h("h2", {}, text),
      iconButton(isFolded ? "up" : "down", isFolded ? "Show uploads" : "Fold uploads", () => { isFolded = !isFolded; draw(); }, { "aria-expanded": String(!isFolded) }),
      iconButton("close", "Remove finished uploads", () => uploads.clear())),
    !isFolded && h("ul", { class: "tray-list", tabIndex: -1 }, rows.map(row), more > 0 && h("li", { class: "tray-row small muted" }, `and ${counted(more, "more file", "more files")}`)));
  if (text !== said) announce(text);
  said = text;
}

uploads.addEventListener("change", throttled(draw, REDRAW_MS));
uploads.addEventListener("added", () => { isFolded = false; });
router.addEventListener("change", () => {
  if (uploads.all.some((one) => one.isOpen)) return;
  isFolded = true; // what is done does not cover the next view
  draw();
});
addEventListener("beforeunload", (event) => {
  if (uploads.all.some((one) => ["waiting", "sending"].includes(one.phase))) event.preventDefault();
});
