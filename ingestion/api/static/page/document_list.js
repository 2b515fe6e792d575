/** The documents of a collection, as the table shows them: read, then kept up to date by the stream. */
import { call } from "./api.js";
import { follow } from "./stream.js";

const PAGE = 1000;
const CONNECT_MS = 300;
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
  #abort = new AbortController();
  #reads = 0;
  /** The events that came while the list is read: its answer may be older. Null while it is not read. */
  #since = null;

  constructor(collection, filter) {
    super();
    Object.assign(this, { collection, filter });
  }

  /** The stream begins before the list is read: else what changes between the two would be missed. */
  async load() {
    await new Promise((resolve) => {
      setTimeout(resolve, CONNECT_MS);
      this.#end = follow(this.collection, { document: (view) => this.take(view), connected: (is) => { resolve(); this.#connected(is); } });
    });
    if (!this.#reads) await this.#read();
  }

  /** At each connection the list is read: the stream does not tell what was deleted, or settled, before it. */
  async #connected(is) {
    this.isConnected = is;
    if (is) await this.#read();
    else this.#tell();
  }

  close() {
    this.#abort.abort();
    this.#end();
  }

  async #read() {
    this.#reads += 1;
    const read = this.#reads;
    this.#since = new Map();
    try {
      const { found, isCut } = await this.#readAll();
      if (read !== this.#reads) return;
      Object.assign(this, { documents: found, isCut, isLoaded: true, error: null });
      for (const view of this.#since.values()) this.#put(view);
    } catch (error) {
      if (error.name === "AbortError" || read !== this.#reads || this.isLoaded) return;
      this.error = error;
    } finally {
      if (read === this.#reads) this.#since = null;
      this.#tell();
    }
  }

  async #readAll() {
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
    return { found, isCut: Boolean(after) };
  }

  /** A document as it is now. */
  take(view) {
    this.#since?.set(view.document_id, view);
    this.#put(view);
    this.#tell();
  }

  /** A new document is shown where no filter leaves documents out. */
  #put(view) {
    if (view.state === "deleted") this.documents.delete(view.document_id);
    else if (this.documents.has(view.document_id) || (!this.filter && !this.isCut)) this.documents.set(view.document_id, view);
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
