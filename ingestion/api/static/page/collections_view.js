/** The collections of the tenant, with totals. */
import { h, show, throttled } from "./dom.js";
import { call, part } from "./api.js";
import { bytes, count, counted } from "./format.js";
import { openCollectionMenu, totalDocuments } from "./collection_menu.js";
import { deleteLater } from "./pending_deletes.js";
import { every } from "./polling.js";
import { router } from "./router.js";
import { session } from "./session.js";
import { moveFocus } from "./shortcuts.js";
import { button, emptyState, failure, iconButton, skeletons, viewHead } from "./widgets.js";

const TONES = [["ready", "good"], ["failed", "bad"], ["cancelled", "off"]];
const REFRESH_MS = 5000;

export function open() {
  const abort = new AbortController();
  const body = h("div", {}, skeletons(4, "skeleton-tiles"));
  const hidden = new Set();
  let all = null;
  const draw = () => {
    const shown = all.filter((one) => !hidden.has(one.collection));
    show(body, shown.length ? h("ul", { class: "tiles", "aria-label": "Collections" }, shown.map((one) => tile(one, hide, load))) : nothing());
  };
  const hide = (name, is) => {
    if (is) hidden.add(name);
    else hidden.delete(name);
    draw();
  };
  const redraw = throttled(() => { if (!body.contains(document.activeElement)) draw(); }, 0);
  async function load() {
    try {
      all = (await call("/collections", { signal: abort.signal })).collections;
      redraw();
    } catch (error) {
      if (error.name !== "AbortError" && !all) show(body, failure(error, load));
    }
  }
  const end = every(REFRESH_MS, load);
  return {
    title: "Collections",
    view: h("div", { class: "view" }, viewHead("Collections", "Documents that are searched together.", session.mayWrite && button("New collection", openCollectionMenu, { kind: "primary", icon: "plus" })), body),
    keys: [["j", "next collection", () => moveFocus(".tile-link", 1)], ["k", "previous collection", () => moveFocus(".tile-link", -1)]],
    close: () => { end(); abort.abort(); },
  };
}

const nothing = () => emptyState("collections", "No collections yet", session.mayWrite ? "A collection begins with its first upload. Give it a name, then drop files." : "This key may read only, and there is nothing to read yet.",
  session.mayWrite && button("New collection", openCollectionMenu, { kind: "primary", icon: "plus" }));

function tile(one, hide, load) {
  const total = totalDocuments(one);
  const working = total - TONES.reduce((sum, [state]) => sum + (one.documents[state] || 0), 0);
  const name = one.collection;
  return h("li", { class: "tile" },
    h("div", { class: "tile-head" }, h("a", { class: "tile-link ellipsis", href: router.href("documents", { c: name }), title: name }, name),
      iconButton("search", `Search ${name}`, () => router.go("search", { c: name })),
      session.mayWrite && iconButton("trash", `Delete ${name}`, () => remove(one, total, hide, load))),
    h("p", { class: "tile-number tabular" }, count(one.pages), h("span", { class: "muted small" }, one.pages === 1 ? " page" : " pages")),
    h("p", { class: "muted small tabular" }, `${counted(total, "document")} · ${bytes(one.size_bytes)}`),
    shares(one, total, working),
    h("p", { class: "tile-states small" }, working > 0 && h("span", {}, `${count(working)} working`),
      TONES.filter(([state]) => one.documents[state]).map(([state, tone]) => h("span", { class: `tone-${tone}` }, `${count(one.documents[state])} ${state}`))));
}

/** A bar of the states' shares. */
function shares(one, total, working) {
  const parts = [...TONES.map(([state, tone]) => [one.documents[state] || 0, tone]), [working, "busy"]];
  return h("div", { class: "shares", "aria-hidden": "true" }, parts.filter(([number]) => number).map(([number, tone]) => {
    const share = h("span", { class: `share share-${tone}` });
    share.style.flexGrow = String(number / total);
    return share;
  }));
}

const remove = (one, total, hide, load) => deleteLater({
  title: `Delete “${one.collection}”?`,
  text: `All of it: ${counted(total, "document")} with ${counted(one.pages, "page")}, and their files. You can undo this for a few seconds.`,
  name: `the collection “${one.collection}”`,
  path: `/collections/${part(one.collection)}`,
  hide: (is) => hide(one.collection, is),
  deleted: load,
});
