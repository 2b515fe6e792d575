/** The table of documents. Its roles are written out: where rows are cards, a browser forgets them. Rows are kept while they are shown, so that the focus stays where it is. */
import { h, show } from "./dom.js";
import { call } from "./api.js";
import { ago, bytes, dateTime } from "./format.js";
import { deleteLater } from "./pending_deletes.js";
import { router } from "./router.js";
import { session } from "./session.js";
import { mayCancel, mayDelete, pagesCell, stageText, statePill } from "./states.js";
import { attempt } from "./toasts.js";
import { uploadAgain } from "./upload_actions.js";
import { openViewer } from "./viewer.js";
import { icon } from "./icons.js";
import { iconButton } from "./widgets.js";

const COLUMNS = [["filename", "Document"], ["state", "State"], ["pages", "Pages"], ["size", "Size"], ["uploaded", "Uploaded"]];
const KINDS = [[/pdf/, "PDF"], [/image/, "IMG"], [/sheet|excel|csv|tab-sep/, "XLS"], [/presentation|powerpoint/, "PPT"], [/word|opendocument\.text|rtf/, "DOC"], [/html/, "WEB"], [/markdown/, "MD"], [/text/, "TXT"]];

const kindOf = (mediaType) => KINDS.find(([pattern]) => pattern.test(mediaType || ""))?.[1] || "FILE";

/** Show `rows` in `parent`. */
export function documentTable(parent, { rows, sort, onsort, list }) {
  let table = parent.querySelector("table");
  if (!table) {
    table = h("table", { class: "documents", role: "table", "aria-label": "Documents" }, h("thead", { role: "rowgroup" }), h("tbody", { role: "rowgroup" }));
    show(parent, table);
  }
  const [head, body] = [table.tHead, table.tBodies[0]];
  show(head, h("tr", { role: "row" }, COLUMNS.map((column) => heading(column, sort, onsort)), h("th", { scope: "col", role: "columnheader", class: "col-actions" }, h("span", { class: "sr-only" }, "Actions"))));
  const before = new Map([...body.rows].map((row) => [row.dataset.row, row]));
  const made = rows.map((document) => {
    const drawn = JSON.stringify(document) + ago(document.uploaded);
    const old = before.get(document.document_id);
    if (old?.drawn === drawn) return old;
    const row = documentRow(document, list);
    row.drawn = drawn;
    return row;
  });
  const focused = body.contains(globalThis.document.activeElement) ? globalThis.document.activeElement : null;
  const place = focused && { id: focused.closest("[data-row]").dataset.row, action: focused.dataset.action };
  if (made.length !== body.rows.length || made.some((row, index) => row !== body.rows[index])) body.replaceChildren(...made);
  if (place && !body.contains(globalThis.document.activeElement)) {
    const row = made.find((one) => one.dataset.row === place.id);
    (row?.querySelector(`[data-action="${place.action}"]`) || row)?.focus({ preventScroll: true });
  }
}

function heading([by, label], sort, onsort) {
  const isSorted = sort.by === by;
  const order = isSorted ? (sort.isDescending ? "descending" : "ascending") : null;
  return h("th", { scope: "col", role: "columnheader", class: `col-${by}`, "aria-sort": order },
    h("button", { class: "sort", type: "button", onclick: () => onsort(by) }, label, isSorted && icon(sort.isDescending ? "down" : "up")));
}

function documentRow(one, list) {
  const canOpen = one.state === "ready" || one.pages_done > 0;
  const open = () => openViewer({ documentId: one.document_id, filename: one.filename, page: 1, pages: one.pages });
  const stage = stageText(one);
  const name = canOpen
    ? h("button", { class: "document-name link", type: "button", dataset: { action: "open" }, onclick: open }, one.filename)
    : h("span", { class: "document-name" }, one.filename);
  return h("tr", { role: "row", dataset: { row: one.document_id, state: one.state }, tabIndex: -1, "aria-label": `${one.filename}, ${one.state}` },
    h("td", { role: "cell", class: "col-filename" }, h("div", { class: "document" }, h("span", { class: "kind", "aria-hidden": "true" }, kindOf(one.media_type)),
      h("div", { class: "document-text" }, name, labelsOf(one),
        one.state === "failed" && h("div", { class: "reason small" }, one.error?.message || "", one.error && h("code", {}, one.error.code)),
        one.state !== "failed" && stage && h("div", { class: "small muted" }, stage),
        (one.warnings || []).map((warning) => h("div", { class: "warning small" }, icon("warning"), h("span", {}, warning)))))),
    h("td", { role: "cell", class: "col-state" }, statePill(one.state)),
    h("td", { role: "cell", class: "col-pages tabular" }, pagesCell(one)),
    h("td", { role: "cell", class: "col-size tabular" }, bytes(one.size_bytes)),
    h("td", { role: "cell", class: "col-uploaded" }, h("time", { datetime: one.uploaded, title: dateTime(one.uploaded) }, ago(one.uploaded))),
    h("td", { role: "cell", class: "col-actions" }, session.mayWrite && actions(one, list)));
}

function labelsOf({ tags = [], metadata = {}, key }) {
  const labels = [...tags.map((tag) => `#${tag}`), ...Object.entries(metadata).map(([name, value]) => `${name}: ${value}`), ...(key ? [`key: ${key}`] : [])];
  return labels.length > 0 && h("div", { class: "labels" }, labels.slice(0, 6).map((label) => h("span", { class: "label" }, label)), labels.length > 6 && h("span", { class: "label" }, `+${labels.length - 6}`));
}

function actions(one, list) {
  const named = (text) => `${text} ${one.filename}`;
  return h("div", { class: "row-actions" },
    one.state === "failed" && iconButton("letters", named("Dead letter of"), () => router.go("dead-letters", { document: one.document_id }), { dataset: { action: "letter" } }),
    mayCancel(one) && iconButton("stop", named("Cancel"), () => cancel(one, list), { dataset: { action: "cancel" } }),
    !mayCancel(one) && iconButton("again", named("Upload again"), () => uploadAgain(one), { dataset: { action: "again" } }),
    mayDelete(one) && iconButton("trash", named("Delete"), () => remove(one, list), { dataset: { action: "delete" } }));
}

const cancel = (one, list) => attempt(async () => list.take({ ...one, ...(await call(`/documents/${one.document_id}/cancel`, { method: "POST" })) }));

const remove = (one, list) => deleteLater({
  title: "Delete this document?",
  text: `“${one.filename}” leaves all searches, with its pages and its file. You can undo this for a few seconds.`,
  name: `“${one.filename}”`,
  path: `/documents/${one.document_id}`,
  hide: (is) => list.setHidden(one.document_id, is),
  deleted: () => list.take({ ...one, state: "deleted" }),
});
