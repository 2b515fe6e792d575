/** What a person may change. It is stored in this browser. */

const STORED = "pagemill-settings";
export const DEFAULTS = { theme: "system", density: "comfortable", pageSize: 50, mode: "", results: 12, collection: "default" };

class Settings extends EventTarget {
  #values = { ...DEFAULTS };

  constructor() {
    super();
    try { Object.assign(this.#values, JSON.parse(localStorage.getItem(STORED))); } catch { /* not JSON: the defaults */ }
    this.apply();
  }

  get(name) { return this.#values[name]; }

  set(name, value) {
    if (this.#values[name] === value) return;
    this.#values[name] = value;
    localStorage.setItem(STORED, JSON.stringify(this.#values));
    this.apply();
    this.dispatchEvent(new CustomEvent("change", { detail: name }));
  }

  apply() {
    document.documentElement.dataset.theme = this.#values.theme;
    document.documentElement.dataset.density = this.#values.density;
  }
}

export const settings = new Settings();
