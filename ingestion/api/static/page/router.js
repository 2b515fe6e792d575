/** The address: `#/view?c=collection&name=value`. A view can be opened in another tab, and Back works. */
import { settings } from "./settings.js";

const DEFAULT_VIEW = "documents";

class Router extends EventTarget {
  constructor() {
    super();
    addEventListener("hashchange", () => this.dispatchEvent(new Event("change")));
  }

  get #parts() { return location.hash.replace(/^#\/?/, "").split("?"); }
  get view() { return this.#parts[0] || DEFAULT_VIEW; }
  get params() { return new URLSearchParams(this.#parts[1] || ""); }
  get collection() { return this.params.get("c") || settings.get("collection"); }

  /** The address of a view. Values that are empty are left out. */
  href(view, params = {}) {
    const all = { c: this.collection, ...params };
    const query = new URLSearchParams(Object.entries(all).filter(([, value]) => value));
    return `#/${view}?${query}`;
  }

  go(view, params) { location.hash = this.href(view, params); }

  /** Change the address without a new entry in the history, and without an event. */
  replace(view, params) { history.replaceState(null, "", this.href(view, params)); }

  choose(collection) {
    settings.set("collection", collection);
    this.go(["collections", "health", "settings"].includes(this.view) ? DEFAULT_VIEW : this.view, { c: collection });
  }
}

export const router = new Router();
