/** The page: sign in, then the shell with one view at a time. */
import { h, show } from "./dom.js";
import { signIn } from "./api.js";
import { session } from "./session.js";
import { router } from "./router.js";
import { settings } from "./settings.js";
import { endAll } from "./stream.js";
import { uploads } from "./uploads.js";
import { takeDrops } from "./dropped.js";
import { always, inView, showShortcuts } from "./shortcuts.js";
import { undoDelete } from "./pending_deletes.js";
import { closeDialogs } from "./dialogs.js";
import { toast } from "./toasts.js";
import { countLetters, markView, shell } from "./shell.js";
import { signInView } from "./sign_in_view.js";
import { uploadFiles } from "./upload_actions.js";
import * as documents from "./documents_view.js";
import * as search from "./search_view.js";
import * as collections from "./collections_view.js";
import * as deadLetters from "./dead_letters_view.js";
import * as health from "./health_view.js";
import * as settingsView from "./settings_view.js";

const VIEWS = { documents, search, collections, "dead-letters": deadLetters, health, settings: settingsView };
const NEEDS_NO_KEY = ["health", "settings"];
const app = document.getElementById("app");
let close = () => {};
let isInShell = false;

function showView({ focus = true } = {}) {
  const name = VIEWS[router.view] ? router.view : "documents";
  if (!session.caller && !NEEDS_NO_KEY.includes(name)) return showSignIn();
  if (!isInShell) show(app, shell());
  isInShell = true;
  close();
  const { view, keys = [], close: end = () => {}, title } = VIEWS[name].open();
  close = end;
  inView(keys);
  show(document.getElementById("main"), view);
  markView(name);
  countLetters();
  document.title = `${title} · Pagemill`;
  if (focus) (view.querySelector("[data-autofocus]") || view.querySelector("h1"))?.focus({ preventScroll: true });
  scrollTo(0, 0);
  return undefined;
}

function showSignIn(reason = "") {
  close();
  close = () => {};
  isInShell = false;
  inView();
  show(app, signInView(reason));
  document.title = "Sign in · Pagemill";
  app.querySelector("[data-autofocus]")?.focus();
}

session.addEventListener("in", () => { isInShell = false; showView(); });
session.addEventListener("out", (event) => {
  endAll();
  closeDialogs();
  uploads.forget();
  showSignIn(event.detail);
});
router.addEventListener("change", () => showView());
settings.addEventListener("change", (event) => { if (["pageSize", "results", "mode"].includes(event.detail) && router.view !== "settings") showView({ focus: false }); });

const signedIn = (action) => () => { if (session.caller) action(); };
always([
  ["/", "search", signedIn(() => (router.view === "search" ? document.querySelector("[data-query]").select() : router.go("search")))],
  ["u", "upload files", signedIn(() => session.mayWrite && uploadFiles())],
  ["g d", "documents", signedIn(() => router.go("documents"))],
  ["g s", "search", signedIn(() => router.go("search"))],
  ["g c", "collections", signedIn(() => router.go("collections"))],
  ["g l", "dead letters", signedIn(() => router.go("dead-letters"))],
  ["g h", "health", () => router.go("health")],
  ["g t", "settings", () => router.go("settings")],
  ["z", "undo a delete", undoDelete],
  ["?", "this list", showShortcuts],
]);
takeDrops(() => session.mayWrite, (files) => uploadFiles(files));

if (session.maySignIn) {
  show(app, h("div", { class: "boot", role: "status" }, h("span", { class: "sr-only" }, "Signing in")));
  signIn().catch((error) => {
    if (error.status === 401) return; // the session has ended, and says why
    showSignIn(error.message);
    toast(error.message, { kind: "error" });
  });
} else {
  showView();
}
