/** The frame of all views: navigation, the collection in use, who is signed in. */
import { h, show } from "./dom.js";
import { icon, logo } from "./icons.js";
import { session } from "./session.js";
import { call } from "./api.js";
import { router } from "./router.js";
import { showShortcuts } from "./shortcuts.js";
import { iconButton } from "./widgets.js";
import { openCollectionMenu } from "./collection_menu.js";
import { tray } from "./upload_tray.js";

const VIEWS = [
  ["search", "Search", "search"], ["documents", "Documents", "documents"], ["collections", "Collections", "collections"],
  ["dead-letters", "Dead letters", "letters"], ["health", "Health", "health"], ["settings", "Settings", "settings"],
];
const ROLES = { read: "may read", write: "may read and write", admin: "administrator" };
const COUNT_MS = 20000;
const links = new Map();
let counted = { collection: "", at: 0 };
const collectionName = h("span", { class: "ellipsis" });

function navigation() {
  links.clear();
  counted = { collection: "", at: 0 };
  return h("nav", { class: "nav", "aria-label": "Views" }, VIEWS.map(([view, label, name]) => {
    const link = h("a", { class: "nav-link", href: router.href(view) }, icon(name), h("span", { class: "nav-label" }, label), h("span", { class: "nav-count tabular", dataset: { count: view } }));
    links.set(view, link);
    return link;
  }));
}

function collectionButton() {
  return h("button", { class: "collection-button", type: "button", "aria-haspopup": "dialog", onclick: openCollectionMenu },
    h("span", { class: "collection-label small muted" }, "Collection"), h("span", { class: "collection-name" }, collectionName, icon("down")));
}

function account() {
  const { caller } = session;
  if (!caller) return h("div", { class: "account" }, h("a", { class: "button", href: router.href("documents") }, "Sign in"));
  return h("div", { class: "account" },
    h("div", { class: "account-text" }, h("strong", { class: "ellipsis" }, caller.tenant), h("span", { class: "small muted" }, ROLES[caller.role] || caller.role)),
    iconButton("help", "Keyboard shortcuts", showShortcuts),
    iconButton("out", "Sign out", () => session.end()));
}

export const shell = () => h("div", { class: "shell" },
  h("aside", { class: "sidebar" },
    h("a", { class: "brand", href: router.href("documents"), "aria-label": "Pagemill" }, logo(), h("span", {}, "Pagemill")),
    session.caller && collectionButton(), navigation(), account()),
  h("main", { id: "main", class: "main", tabIndex: -1 }), tray);

/** Mark the view in the navigation, and name the collection. */
export function markView(name) {
  for (const [view, link] of links) {
    link.href = router.href(view);
    if (view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  show(collectionName, router.collection);
}

/** Count the open dead letters of the collection anew, beside the view's name; at most every COUNT_MS, unless `now`. */
export async function countLetters(now = false) {
  const { collection } = router;
  if (!session.caller || (!now && counted.collection === collection && Date.now() - counted.at < COUNT_MS)) return;
  counted = { collection, at: Date.now() };
  const answer = await call(`/dead-letters?${new URLSearchParams({ collection, limit: 100 })}`).catch(() => null);
  const shown = document.querySelector('[data-count="dead-letters"]');
  if (!answer || !shown || router.collection !== collection) return;
  const number = answer.dead_letters.length;
  shown.textContent = number ? `${number}${answer.next && number >= 100 ? "+" : ""}` : "";
}
