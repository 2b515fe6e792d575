/** Uploads: a file a request, a few at once. What becomes of a file comes over the stream of its collection. */
import { apiUrl, call, part, Problem, signedOut } from "./api.js";
import { session } from "./session.js";
import { follow } from "./stream.js";
import { isWorking } from "./states.js";

const AT_ONCE = 3;
const MOST_TRIES = 6;

/** One file. `phase`: waiting, sending, accepted, refused, settled or stopped. */
class Upload {
  sent = 0;
  phase = "waiting";
  documentId = "";
  view = null;
  error = null;
  note = "";
  #tries = 0;

  /** `labels`: filename, metadata, tags and key of the document that it is uploaded again for. */
  constructor(file, collection, labels = {}) {
    Object.assign(this, { file, collection, labels, name: labels.filename || file.name });
  }

  get isOpen() { return ["waiting", "sending", "accepted"].includes(this.phase); }
  get hasFailed() { return this.phase === "refused" || this.view?.state === "failed"; }

  /** Send the file. Rejects with a Problem; a server that is busy is asked again. */
  async send(changed) {
    for (;;) {
      try {
        return await this.#post(changed);
      } catch (problem) {
        this.#tries += 1;
        const isBusy = [0, 429, 503].includes(problem.status) && problem.code !== "quota_exceeded";
        if (!isBusy || this.#tries >= MOST_TRIES || this.phase === "stopped") throw problem;
        this.note = `${problem.message} Trying again.`;
        changed();
        await new Promise((resolve) => setTimeout(resolve, (problem.retryAfter || this.#tries) * 1000));
        if (this.phase === "stopped") throw problem;
      }
    }
  }

  #post(changed) {
    const form = new FormData();
    const { metadata, tags, key } = this.labels;
    if (metadata && Object.keys(metadata).length) form.append("metadata", JSON.stringify(metadata));
    for (const tag of tags || []) form.append("tags", tag);
    if (key) form.append("key", key);
    form.append("files", this.file, this.name);
    const xhr = this.xhr = new XMLHttpRequest(); // `fetch` does not tell how much of a body was sent.
    return new Promise((resolve, reject) => {
      const fail = (status, body = {}) => {
        const problem = new Problem(status, body, Number(xhr.getResponseHeader("Retry-After")));
        if (status === 401) session.end(signedOut(problem));
        reject(problem);
      };
      xhr.upload.onprogress = (event) => { this.sent = event.loaded / event.total; changed(); };
      xhr.onload = () => {
        const body = parsed(xhr.responseText);
        if (xhr.status !== 202) fail(xhr.status, body.refused?.length ? { ...body, detail: body.refused[0].detail } : body);
        else resolve(body.documents[0]);
      };
      xhr.onerror = () => fail(0, { detail: "The connection broke off." });
      xhr.onabort = () => fail(0, { detail: "Stopped." });
      xhr.open("POST", apiUrl(`/collections/${part(this.collection)}/documents`));
      for (const [name, value] of Object.entries(session.headers)) xhr.setRequestHeader(name, value);
      xhr.send(form);
    });
  }
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return {}; }
}

class Uploads extends EventTarget {
  all = [];
  #running = 0;
  #follows = new Map();
  #byDocument = new Map();

  add(files, collection, labels) {
    const added = files.map((file) => new Upload(file, collection, labels));
    this.all.push(...added);
    this.dispatchEvent(new Event("added"));
    this.#changed();
    this.#pump();
    return added;
  }

  /** Stop what is not accepted yet. An accepted document is cancelled through the API. */
  stop(upload) {
    if (!["waiting", "sending"].includes(upload.phase)) return;
    upload.phase = "stopped";
    upload.xhr?.abort();
    this.#changed();
  }

  again(upload) {
    this.all.splice(this.all.indexOf(upload), 1);
    this.add([upload.file], upload.collection, upload.labels);
  }

  /** Forget the uploads that are finished. */
  clear() {
    this.all = this.all.filter((one) => one.isOpen);
    this.#byDocument = new Map(this.all.filter((one) => one.documentId).map((one) => [one.documentId, one]));
    this.#changed();
  }

  /** Stop and forget all: the user has signed out. */
  forget() {
    for (const upload of this.all) this.stop(upload);
    this.all = [];
    this.#byDocument.clear();
    this.#changed();
  }

  #pump() {
    for (const upload of this.all) {
      if (this.#running >= AT_ONCE) return;
      if (upload.phase === "waiting") this.#run(upload);
    }
  }

  async #run(upload) {
    this.#running += 1;
    upload.phase = "sending";
    this.#changed();
    try {
      const accepted = await upload.send(() => this.#changed());
      Object.assign(upload, { documentId: accepted.document_id, phase: "accepted", note: "", view: accepted });
      if (accepted.duplicate_of) upload.note = "the collection has these bytes already, under another name";
      this.#byDocument.set(accepted.document_id, upload);
      this.#follow(upload.collection);
      this.#read(upload);
    } catch (problem) {
      if (upload.phase !== "stopped") Object.assign(upload, { phase: "refused", error: problem, note: "" });
    } finally {
      this.#running -= 1;
      this.#changed();
      this.#pump();
    }
  }

  /** Take the events of the collection until its uploads are settled. */
  #follow(collection) {
    if (!this.#follows.has(collection)) this.#follows.set(collection, follow(collection, { document: (view) => this.#take(view) }, { replay: false }));
  }

  /** Read the document once: it may have been settled before the stream began. An event that came since is newer. */
  async #read(upload) {
    const before = upload.view;
    try {
      const view = await call(`/documents/${upload.documentId}`);
      if (upload.view === before) this.#take(view);
    } catch { /* the stream tells */ }
  }

  #take(view) {
    const upload = this.#byDocument.get(view.document_id);
    if (!upload) return;
    upload.view = view;
    upload.phase = isWorking(view) ? "accepted" : "settled";
    this.#changed();
  }

  #changed() {
    for (const [collection, end] of this.#follows) {
      if (!this.all.some((one) => one.isOpen && one.collection === collection)) {
        this.#follows.delete(collection);
        end();
      }
    }
    this.dispatchEvent(new Event("change"));
  }
}

export const uploads = new Uploads();
