/** Documents of the collection in use: filter, sort, pages of a table that the stream keeps up to date. */
import { h, show, throttled } from "./dom.js";
import { call } from "./api.js";
import { totalDocuments } from "./collection_menu.js";
import { count, counted } from "./format.js";
import { DocumentList, MOST } from "./document_list.js";
import { documentTable } from "./document_table.js";
import { filterBar, unreadableFilter } from "./filter_bar.js";
import { moveFocus } from "./shortcuts.js";
import { router } from "./router.js";
import { session } from "./session.js";
import { settings } from "./settings.js";
import { GROUPS, groupFilter } from "./states.js";
import { uploadFiles } from "./upload_actions.js";
import { button, chips, emptyState, failure, skeletons, viewHead, iconButton } from "./widgets.js";

const REDRAW_MS = 150;
const TOTALS_MS = 1500;

/** Both conditions; null where there is none. */
const both = (left, right) => (left && right ? `(${left}) and (${right})` : left || right || null);

export function open() {
  const collection = router.collection;
  const params = router.params;
  const group = params.get("group") || "";
  const typed = params.get("filter") || "";
  const sort = { by: params.get("sort") || "uploaded", isDescending: params.get("order") !== "up" };
  let page = Math.max(1, Number(params.get("page")) || 1);
  const list = new DocumentList(collection, both(groupFilter(group), typed));
  const place = () => ({ c: collection, group, filter: typed, sort: sort.by === "uploaded" ? "" : sort.by, order: sort.isDescending ? "" : "up" });
  const go = (changes) => router.go("documents", { ...place(), ...changes });

  const body = h("div", { class: "documents-body" }, skeletons(6, "skeleton-rows"));
  const counts = new Map(GROUPS.map(([id]) => [id, h("span", { class: "chip-count tabular" })]));
  const groups = chips("States", GROUPS.map(([id, label]) => [id, label, counts.get(id)]), group, (id) => go({ group: id }));
  const filter = filterBar({ value: typed, onapply: (text) => go({ filter: text }) });
  const lost = h("p", { class: "lost small", role: "status", hidden: true }, "The connection is lost. What you see may be old; it goes on by itself.");
  const subtitle = h("span", {}, " ");

  const sortBy = (by) => {
    if (sort.by === by) sort.isDescending = !sort.isDescending;
    else Object.assign(sort, { by, isDescending: by !== "filename" && by !== "state" });
    page = 1;
    keep();
    draw();
  };
  const keep = () => router.replace("documents", { ...place(), page: page > 1 ? String(page) : "" });
  const turn = (to) => { page = to; keep(); draw(); document.querySelector("tbody [data-row]")?.focus({ preventScroll: true }); scrollTo(0, 0); };

  function draw() {
    lost.hidden = list.isConnected || Boolean(list.error);
    if (list.error) return drawError();
    if (!list.isLoaded) return undefined;
    const shown = list.sorted(sort.by, sort.isDescending);
    if (!shown.length) return show(body, nothing());
    const size = settings.get("pageSize");
    const pages = Math.max(1, Math.ceil(shown.length / size));
    page = Math.min(page, pages);
    const rows = shown.slice((page - 1) * size, page * size);
    documentTable(body, { rows, sort, onsort: sortBy, list });
    show(footer, pages > 1 && pager(shown.length, pages), list.isCut && h("p", { class: "small muted" }, `Only ${count(MOST)} documents are shown and sorted here. A filter finds the others.`));
    return undefined;
  }

  function drawError() {
    if (list.error.code === "bad_filter") {
      filter.showError(list.error.message);
      show(body, unreadableFilter(() => go({ filter: "" })));
    } else show(body, failure(list.error, () => router.dispatchEvent(new Event("change"))));
    show(footer);
  }

  const pager = (total, pages) => h("nav", { class: "pager", "aria-label": "Pages of the table" },
    iconButton("left", "Previous page", () => turn(page - 1), { disabled: page <= 1 }),
    h("span", { class: "tabular" }, `${count((page - 1) * settings.get("pageSize") + 1)}–${count(Math.min(total, page * settings.get("pageSize")))} of ${count(total)}`),
    iconButton("right", "Next page", () => turn(page + 1), { disabled: page >= pages }));

  function nothing() {
    show(footer);
    if (typed || group) return emptyState("filter", "No document matches", "Other documents of this collection may.", button("Show all documents", () => go({ filter: "", group: "" })));
    if (!session.mayWrite) return emptyState("documents", "No documents yet", "This key may read only. Choose another collection, or ask for a key with the role write.");
    return h("div", { class: "drop-zone" }, emptyState("upload", "Drop files or a folder here", `PDFs, pictures, office files and texts. “${collection}” begins with its first file.`,
      button("Choose files", () => uploadFiles(), { kind: "primary", icon: "upload" }), button("Choose a folder", () => uploadFiles(null, { folder: true }), { icon: "folder" })));
  }

  const loadTotals = throttled(async () => {
    try {
      const { collections } = await call("/collections");
      const found = collections.find((one) => one.collection === collection);
      for (const [id, , states] of GROUPS) {
        const numbers = Object.entries(found?.documents || {}).filter(([state]) => !states || states.includes(state)).map(([, number]) => number);
        const sum = numbers.reduce((all, one) => all + one, 0);
        counts.get(id).textContent = sum ? count(sum) : "";
      }
      show(subtitle, found ? `${counted(totalDocuments(found), "document")}, ${counted(found.pages, "page")} in “${collection}”` : `“${collection}” is empty`);
    } catch { /* the list tells what is wrong */ }
  }, TOTALS_MS);

  const footer = h("div", { class: "documents-foot" });
  const redraw = throttled(draw, REDRAW_MS);
  list.addEventListener("change", () => { redraw(); loadTotals(); });
  list.load();
  loadTotals();
  const actions = session.mayWrite ? [
    button("Folder", () => uploadFiles(null, { folder: true }), { icon: "folder", className: "wide-only" }),
    button("Upload", () => uploadFiles(), { kind: "primary", icon: "upload" }),
  ] : [];
  return {
    title: "Documents",
    view: h("div", { class: "view" }, viewHead("Documents", subtitle, actions), h("div", { class: "toolbar" }, groups, filter.element), lost, body, footer),
    keys: [
      ["j", "next document", () => moveFocus("[data-row]", 1)], ["k", "previous document", () => moveFocus("[data-row]", -1)],
      ["Enter", "open it", () => pressIn("open")],
      ["f", "filter", () => filter.focus()],
      ...(session.mayWrite ? [["c", "cancel its work", () => pressIn("cancel")], ["r", "upload it again", () => pressIn("again")], ["Delete", "delete it", () => pressIn("delete")]] : []),
    ],
    close: () => list.close(),
  };
}

/** Press a button of the row that has the focus. */
function pressIn(action) {
  document.activeElement?.closest("[data-row]")?.querySelector(`[data-action="${action}"]`)?.click();
}
