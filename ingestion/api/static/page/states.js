/** States of documents: how they are named, grouped and shown. */
import { h } from "./dom.js";
import { bar } from "./widgets.js";
import { count, counted, duration, since } from "./format.js";

const WORKING = ["received", "queued", "processing", "cancelling", "deleting"];
const TONES = { ready: "good", failed: "bad", cancelled: "off", deleted: "off", archived: "off" };

/** The groups above the table: `[id, label, states]`. */
export const GROUPS = [
  ["", "All", null],
  ["working", "Working", WORKING],
  ["ready", "Ready", ["ready"]],
  ["failed", "Failed", ["failed"]],
  ["cancelled", "Cancelled", ["cancelled"]],
];

export const isWorking = (document) => WORKING.includes(document.state);
export const mayCancel = (document) => ["received", "queued", "processing", "cancelling"].includes(document.state);
export const mayDelete = (document) => document.state !== "deleting" && document.state !== "deleted";

/** The filter of a group, in the grammar of the API; null for all. */
export function groupFilter(id) {
  const states = GROUPS.find(([name]) => name === id)?.[2];
  return states ? `state in (${states.map((one) => JSON.stringify(one)).join(", ")})` : null;
}

/** What happens to a document now, in one line. */
export function stageText(view) {
  if (view.state === "failed") return view.error ? view.error.message : "";
  if (!isWorking(view)) return "";
  if (view.waits_for?.length) {
    const [outage] = view.waits_for;
    return `waits for ${outage.dependency}, which has not answered for ${since(outage.since)}`;
  }
  if (view.state !== "processing" && view.message) return view.message;
  if (view.state === "queued" && view.waiting_before > 0) return `${counted(view.waiting_before, "document")} before it`;
  if (view.state === "queued" || view.state === "received") return view.attempts ? "waits for another attempt" : "waits for a worker";
  const left = view.seconds_left ? `, about ${duration(view.seconds_left)} left` : "";
  return `${view.message || view.stage || view.state}${left}`;
}

/** A dot and a word. */
export const statePill = (state) =>
  h("span", { class: `pill pill-${TONES[state] || "busy"}`, dataset: { state } }, h("span", { class: "dot", "aria-hidden": "true" }), state);

/** A bar of the pages that are done. */
export const pagesDone = (view) => h("span", { class: "pages-done" }, bar(view.pages_done, view.pages, `${view.filename}: pages`),
  h("span", { class: "small muted tabular" }, view.pages ? `${count(view.pages_done)} of ${count(view.pages)}` : ""));

/** The pages of a document: a bar while it is processed. */
export const pagesCell = (view) => (view.state === "processing" ? pagesDone(view) : view.pages ? count(view.pages) : "–");
