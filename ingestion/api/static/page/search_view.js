/** Search: pages that answer a question, with the place on each page marked. */
import { announce, h, show } from "./dom.js";
import { call, part } from "./api.js";
import { counted } from "./format.js";
import { filterBar, unreadableFilter } from "./filter_bar.js";
import { hitCard } from "./hit_card.js";
import { icon } from "./icons.js";
import { moveFocus } from "./shortcuts.js";
import { router } from "./router.js";
import { session } from "./session.js";
import { settings } from "./settings.js";
import { openViewer } from "./viewer.js";
import { uploadFiles } from "./upload_actions.js";
import { button, choice, emptyState, failure, skeletons } from "./widgets.js";

export const MODES = [["", "Default"], ["hybrid", "Words and meaning"], ["semantic", "Meaning"], ["lexical", "Words"]];

export function open() {
  const collection = router.collection;
  const params = router.params;
  const query = params.get("q") || "";
  const filter = params.get("filter") || "";
  let mode = params.get("mode") ?? settings.get("mode");
  const abort = new AbortController();
  const input = h("input", { class: "search-input", type: "search", value: query, placeholder: `Ask “${collection}” a question`, "aria-label": "Question", autocomplete: "off", maxlength: 4000, dataset: query ? { query: "" } : { query: "", autofocus: "" } });
  const go = (changes = {}) => router.go("search", { c: collection, q: input.value.trim(), mode, filter: filters.value, ...changes });
  const filters = filterBar({ value: filter, onapply: () => go(), label: "Filter of the search" });
  const results = h("div", { class: "results", "aria-busy": "false" });

  const submit = (event) => {
    event.preventDefault();
    if (!input.value.trim()) return input.focus();
    const before = location.hash;
    go();
    if (location.hash === before) run();
    return undefined;
  };
  const choose = (value) => { mode = value; if (input.value.trim()) go(); };

  async function run() {
    if (!query) return show(results, await welcome(collection));
    results.setAttribute("aria-busy", "true");
    show(results, skeletons(6, "skeleton-cards"));
    try {
      const json = { query, top_k: settings.get("results"), mode: mode || null, filter: filter || null, with_metadata: true };
      const answer = await call(`/collections/${part(collection)}/search`, { method: "POST", json, signal: abort.signal });
      drawHits(answer);
    } catch (error) {
      if (error.name === "AbortError") return undefined;
      if (error.code === "bad_filter") {
        filters.showError(error.message);
        show(results, unreadableFilter(() => go({ filter: "" })));
      } else show(results, failure(error, run));
    } finally { results.setAttribute("aria-busy", "false"); }
    return undefined;
  }

  function drawHits(answer) {
    const { hits } = answer;
    const text = hits.length ? counted(hits.length, "page") : "No page was found";
    const used = MODES.find(([value]) => value === answer.mode)?.[1].toLowerCase() || answer.mode;
    const view = (index) => openViewer({ hits, index, query });
    show(results,
      hits.length > 0 && h("p", { class: "results-head muted", role: "status" }, `${text}, best first, by ${used}`),
      answer.notes.map((note) => h("p", { class: "note small" }, icon("warning"), h("span", {}, note))),
      hits.length ? h("ol", { class: "hits", "aria-label": "Pages found" }, hits.map((hit, index) => hitCard(hit, query, () => view(index))))
        : emptyState("search", "No page was found", filter ? "The filter may leave out the page that answers this." : "Other words may find it, or another mode. Documents that are not ready are not searched.",
          filter && button("Search without the filter", () => go({ filter: "" }))));
    announce(text);
  }

  run();
  return {
    title: "Search",
    view: h("div", { class: "view" }, h("h1", { class: "sr-only", tabIndex: -1 }, "Search"),
      h("form", { class: "search-form", role: "search", onsubmit: submit },
        h("div", { class: "search-box" }, icon("search"), input, h("button", { class: "button button-primary" }, "Search"))),
      h("div", { class: "search-options" }, choice("mode", "Search by", MODES, mode, choose), filters.element),
      results),
    keys: [["j", "next page", () => moveFocus(".hit", 1)], ["k", "previous page", () => moveFocus(".hit", -1)], ["Enter", "open it", () => document.activeElement.click()], ["f", "filter", () => filters.focus()]],
    close: () => abort.abort(),
  };
}

/** What to do where nothing was asked yet. */
async function welcome(collection) {
  const { collections = [] } = (await call("/collections").catch(() => ({})));
  const found = collections.find((one) => one.collection === collection);
  const ready = found?.documents.ready || 0;
  if (ready) return emptyState("search", "Ask a question", `${counted(ready, "document")} with ${counted(found.pages, "page")} can be searched. Write a question or some words; the pages that answer come first.`);
  return emptyState("upload", "Nothing to search yet", `“${collection}” has no document that is ready.`, session.mayWrite && button("Upload files", () => uploadFiles(), { kind: "primary", icon: "upload" }));
}
