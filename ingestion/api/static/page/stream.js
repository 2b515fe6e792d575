/** Server-sent events through `fetch`: an EventSource cannot send the key. One connection for each collection. */
import { part, request } from "./api.js";
import { shown } from "./polling.js";
import { isWorking } from "./states.js";

const LONGEST_WAIT_MS = 15000;
/** A tab that is hidden for so long gives its connection back: a browser has six for a server, in all tabs. */
const HIDDEN_MS = 20000;
const watches = new Map();

/** Blocks of a stream of events, as `{event, id, data}`. */
async function* blocks(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const found = (rest + value).split(/\r?\n\r?\n/);
    rest = found.pop();
    for (const block of found) {
      const fields = {};
      for (const line of block.split(/\r?\n/)) {
        const at = line.indexOf(":");
        if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).replace(/^ /, "");
      }
      if (fields.data) yield fields;
    }
  }
}

let hidden = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (document.hidden) hidden = setTimeout(() => { for (const watch of watches.values()) watch.pause(); }, HIDDEN_MS);
});

class Watch {
  listeners = new Set();
  /** The last event of each document that is not settled. */
  seen = new Map();
  /** null until the first connection is made or has failed. */
  isConnected = null;
  #stop = new AbortController();
  #pause = new AbortController();
  #lastId = "";

  constructor(collection) {
    this.path = `/collections/${part(collection)}/events`;
    this.#run();
  }

  end() { this.#stop.abort(); }
  pause() { this.#pause.abort(); }

  async #run() {
    let wait = 1000;
    while (!this.#stop.signal.aborted) {
      await shown();
      this.#pause = new AbortController();
      try {
        const headers = this.#lastId ? { "Last-Event-ID": this.#lastId } : {};
        const response = await request(this.path, { headers, signal: AbortSignal.any([this.#stop.signal, this.#pause.signal]) });
        this.#connected(true);
        wait = 1000;
        for await (const block of blocks(response)) this.#take(block);
      } catch (error) {
        if (this.#stop.signal.aborted || error.status === 401 || error.status === 403) return;
      }
      if (this.#stop.signal.aborted) return;
      if (this.#pause.signal.aborted) continue;
      this.#connected(false);
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  }

  #take({ event, id, data }) {
    if (id) this.#lastId = id;
    if (event !== "document") return;
    const document = JSON.parse(data);
    if (isWorking(document)) this.seen.set(document.document_id, document);
    else this.seen.delete(document.document_id);
    for (const listener of this.listeners) listener.document(document);
  }

  #connected(is) {
    this.isConnected = is;
    for (const listener of this.listeners) listener.connected?.(is);
  }
}

/**
 * Follow the documents of a collection: `listener.document(view)` at each change, `listener.connected(is)`.
 * Returns a function that ends it. All listeners of a collection share one connection. `replay`: begin with the last
 * event of each document that is not settled.
 */
export function follow(collection, listener, { replay = true } = {}) {
  if (!watches.has(collection)) watches.set(collection, new Watch(collection));
  const watch = watches.get(collection);
  watch.listeners.add(listener);
  if (watch.isConnected !== null) listener.connected?.(watch.isConnected);
  if (replay) for (const document of watch.seen.values()) listener.document(document);
  return () => {
    watch.listeners.delete(listener);
    if (watch.listeners.size || watches.get(collection) !== watch) return;
    watch.end();
    watches.delete(collection);
  };
}

/** End all connections: the user has signed out. */
export function endAll() {
  for (const watch of watches.values()) watch.end();
  watches.clear();
}
