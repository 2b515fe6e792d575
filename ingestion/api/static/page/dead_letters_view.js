/** Dead letters: documents that could not be ingested, why, and what to do with them. */
import { h, show } from "./dom.js";
import { call } from "./api.js";
import { ago, dateTime } from "./format.js";
import { openLetter } from "./letter_dialog.js";
import { router } from "./router.js";
import { countLetters } from "./shell.js";
import { moveFocus } from "./shortcuts.js";
import { button, chips, emptyState, failure, skeletons, viewHead } from "./widgets.js";

const PAGE = 50;
/** A page of the API may be empty and name a next one: read so many before the user is asked. */
const MOST_EMPTY = 5;
const STATES = [["open", "Open"], ["replayed", "Replayed"], ["discarded", "Discarded"], ["moved-on", "Moved on"], ["all", "All"]];

export function open() {
  const params = router.params;
  const isOne = Boolean(params.get("document"));
  const state = params.get("state") || (isOne ? "all" : "open");
  const isEverywhere = params.get("all") === "1" || isOne;
  const abort = new AbortController();
  const list = h("ul", { class: "letters panel", "aria-label": "Dead letters", hidden: true });
  const foot = h("div", { class: "documents-foot" });
  const body = h("div", {}, skeletons(4, "skeleton-rows"));
  const letters = new Map();
  let next = null;
  const go = (changes) => router.go("dead-letters", { state, all: isEverywhere ? "1" : "", ...changes });

  async function load() {
    foot.replaceChildren();
    try {
      for (let pages = 0; pages < MOST_EMPTY; pages += 1) {
        const query = new URLSearchParams({ state, limit: PAGE });
        if (!isEverywhere) query.set("collection", router.collection);
        if (next) query.set("after", next);
        const answer = await call(`/dead-letters?${query}`, { signal: abort.signal });
        const found = answer.dead_letters.filter((one) => !isOne || one.document_id === params.get("document"));
        for (const one of found) letters.set(one.letter, one);
        next = answer.next;
        if (found.length || !next) break;
      }
      draw();
    } catch (error) {
      if (error.name !== "AbortError") show(body, failure(error, load));
    }
  }

  function draw() {
    const shown = [...letters.values()];
    list.hidden = shown.length === 0;
    show(list, shown.map((one) => row(one, changed)));
    show(body, shown.length === 0 && nothing());
    show(foot, next && button("Older letters", load));
  }

  function changed(letter) {
    if (state === "all" || letter.state === state) letters.set(letter.letter, letter);
    else letters.delete(letter.letter);
    countLetters(true);
    draw();
  }

  function nothing() {
    if (isOne) return emptyState("letters", "This document has no dead letter", "Its letter is older than those that are kept, or it did not fail.", button("All dead letters", () => go({ document: "" })));
    if (state !== "open") return emptyState("letters", "None of these", "Letters in other states may be there.", button("Show all", () => go({ state: "all" })));
    return emptyState("check", "No open dead letters", isEverywhere ? "Every document that failed was dealt with." : `Nothing in “${router.collection}” waits for you.`,
      !isEverywhere && button("Look in all collections", () => go({ all: "1" })));
  }

  load();
  return {
    title: "Dead letters",
    view: h("div", { class: "view" }, viewHead("Dead letters", "Documents that could not be ingested, and why."),
      isOne ? h("p", {}, button("All dead letters", () => go({ document: "", state: "open" }), { icon: "left" }))
        : h("div", { class: "toolbar toolbar-apart" }, chips("States", STATES, state, (value) => go({ state: value })),
          chips("Collections", [["", `In “${router.collection}”`], ["1", "All collections"]], isEverywhere ? "1" : "", (value) => go({ all: value }))),
      list, body, foot),
    keys: [["j", "next letter", () => moveFocus(".letter-open", 1)], ["k", "previous letter", () => moveFocus(".letter-open", -1)], ["Enter", "open it", () => document.activeElement.click()]],
    close: () => abort.abort(),
  };
}

function row(one, changed) {
  const name = one.filename || "A record that is no job";
  return h("li", { class: "letter", dataset: { letter: one.letter, state: one.state } },
    h("button", { class: "letter-open", type: "button", "aria-label": `${name}: ${one.message}`, onclick: async () => { const now = await openLetter(one); if (now) changed(now); } },
      h("span", { class: "letter-main" }, h("strong", { class: "letter-name" }, name), h("span", { class: "reason small" }, one.message)),
      h("span", { class: "letter-facts small muted" }, h("code", {}, one.code), one.stage && h("span", {}, one.stage), one.collection && h("span", {}, one.collection), h("time", { datetime: one.time, title: dateTime(one.time) }, ago(one.time)),
        one.state !== "open" && h("span", { class: "label" }, one.state))));
}
