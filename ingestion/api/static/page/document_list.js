/** The documents of a collection, as the table shows them: read once, then kept up to date by the stream. */
import { call } from "./api.js";
import { follow } from "./stream.js";

const PAGE = 1000;
export const MOST = 5000;
const ORDER = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const VALUES = {
  filename: (one) => one.filename, state: (one) => one.state, pages: (one) => one.pages, size: (one) => one.size_bytes ?? 0,
  uploaded: (one) => Date.parse(one.uploaded) || 0,
};

export class DocumentList extends EventTarget {
  documents = new Map();
  isLoaded = false;
  /** Whether the collection has more documents than are read here. */
  isCut = false;
  isConnected = true;
  error = null;
  /** Documents that a delete hides until its time to undo is over. */
  hidden = new Set();
  #end = () => {};
  #wasConnected = false;
  #abort = new AbortController();

  constructor(collection, filter) {
    super();
    Object.assign(this, { collection, filter });
  }

  async load() {
    try {
      await this.#read();
      this.isLoaded = true;
      this.#end = follow(this.collection, {
        document: (view) => this.take(view),
        connected: (is) => this.#connected(is),
      });
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error;
    }
    this.#tell();
  }

  /** After a gap the list is read again: the stream does not tell what was deleted meanwhile. */
  async #connected(is) {
    const hadGap = is && this.#wasConnected;
    this.isConnected = is;
    this.#wasConnected ||= is;
    if (hadGap) await this.#read().catch(() => {});
    this.#tell();
  }

  close() {
    this.#abort.abort();
    this.#end();
  }

  async #read() {
    const found = new Map();
    let after = "";
    do {
      const query = new URLSearchParams({ collection: this.collection, limit: PAGE });
      if (after) query.set("after", after);
      if (this.filter) query.set("filter", this.filter);
      const answer = await call(`/documents?${query}`, { signal: this.#abort.signal });
      for (const one of answer.documents) found.set(one.document_id, one);
      after = answer.next;
    } while (after && found.size < MOST);
    this.documents = found;
    this.isCut = Boolean(after);
  }

  /** A document as it is now. A new one is shown where no filter leaves documents out. */
  take(view) {
    if (view.state === "deleted") this.documents.delete(view.document_id);
    else if (this.documents.has(view.document_id) || (!this.filter && !this.isCut)) this.documents.set(view.document_id, view);
    this.#tell();
  }

  setHidden(id, is) {
    if (is) this.hidden.add(id);
    else this.hidden.delete(id);
    this.#tell();
  }

  sorted(by, isDescending) {
    const value = VALUES[by];
    const shown = [...this.documents.values()].filter((one) => !this.hidden.has(one.document_id));
    const sign = isDescending ? -1 : 1;
    return shown.sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      const order = typeof left === "string" ? ORDER.compare(left, right) : left - right;
      return sign * order || ORDER.compare(a.filename, b.filename);
    });
  }

  #tell() { this.dispatchEvent(new Event("change")); }
}
