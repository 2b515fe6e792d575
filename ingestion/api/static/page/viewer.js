/** The large view of a page: next and previous page, next and previous hit, marks, text, sizes. */
import { announce, h, show } from "./dom.js";
import { call, part } from "./api.js";
import { pageImage, widthFor } from "./images.js";
import { mark, unmark } from "./marks.js";
import { attempt } from "./toasts.js";
import { iconButton } from "./widgets.js";
import { marked } from "./hit_card.js";

const ZOOMS = [1, 1.5, 2, 3];
const KEYS = { ArrowLeft: "previous", ArrowRight: "next", PageUp: "previous", PageDown: "next", k: "previousHit", j: "nextHit", m: "marks", t: "text", "+": "larger", "=": "larger", "-": "smaller", 0: "fit" };

/** Open the page of `{documentId, filename, page, pages}`, or the hit `index` of `hits`, found by `query`. */
export function openViewer({ documentId, filename, page = 1, pages = 0, hits = [], index = 0, query = "" }) {
  if (document.querySelector("dialog.viewer")) return;
  new Viewer({ hits, index, query, at: { documentId, filename, page, pages } });
}

class Viewer {
  #zoom = 0;
  #hasMarks = true;
  #hasText = false;
  #drawn = 0;

  constructor({ hits, index, query, at }) {
    Object.assign(this, { hits, index, query, at });
    this.image = h("img", { class: "sheet", alt: "" });
    this.frame = h("div", { class: "frame" }, this.image);
    this.stage = h("div", { class: "viewer-stage", tabIndex: 0, "aria-label": "Page" }, this.frame);
    this.title = h("h2", { id: "viewer-title", class: "ellipsis" });
    this.place = h("input", { class: "page-number tabular", type: "text", inputmode: "numeric", "aria-label": "Page number", onchange: () => this.#jump() });
    this.total = h("span", { class: "tabular muted" });
    this.note = h("p", { class: "viewer-note small", role: "status" });
    this.text = h("aside", { class: "viewer-text", "aria-label": "Text of the page", hidden: true });
    this.buttons = this.#buttons();
    this.dialog = h("dialog", { class: "viewer", "aria-labelledby": "viewer-title", onclose: () => this.dialog.remove(), onkeydown: (event) => this.#key(event) },
      this.#head(), h("div", { class: "viewer-body" }, this.stage, this.text), this.note);
    document.body.append(this.dialog);
    this.dialog.showModal();
    if (hits.length) this.#hit(index);
    else this.#show();
    this.stage.focus();
  }

  #buttons() {
    const make = (name, label, action, more) => iconButton(name, label, () => this.actions[action](), more);
    return {
      previous: make("left", "Previous page", "previous"), next: make("right", "Next page", "next"),
      previousHit: make("up", "Previous hit", "previousHit"), nextHit: make("down", "Next hit", "nextHit"),
      marks: make("marks", "Marks", "marks", { "aria-pressed": "true" }), text: make("text", "Text of the page", "text", { "aria-pressed": "false" }),
      smaller: make("minus", "Smaller", "smaller"), larger: make("plus", "Larger", "larger"),
    };
  }

  #head() {
    const { previous, next, previousHit, nextHit, marks, text, smaller, larger } = this.buttons;
    return h("header", { class: "viewer-head" }, this.title,
      h("div", { class: "viewer-tools" },
        h("div", { class: "tool-group" }, previous, this.place, this.total, next),
        this.hits.length > 1 && h("div", { class: "tool-group" }, previousHit, nextHit),
        h("div", { class: "tool-group tool-zoom" }, smaller, larger),
        h("div", { class: "tool-group" }, this.query && marks, text)),
      iconButton("close", "Close", () => this.dialog.close(), { className: "viewer-close" }));
  }

  actions = {
    previous: () => this.#turn(-1), next: () => this.#turn(1),
    previousHit: () => this.#hit(this.index - 1), nextHit: () => this.#hit(this.index + 1),
    larger: () => this.#size(this.#zoom + 1), smaller: () => this.#size(this.#zoom - 1), fit: () => this.#size(0),
    marks: () => { this.#hasMarks = !this.#hasMarks; this.buttons.marks.setAttribute("aria-pressed", String(this.#hasMarks)); this.#marks(); },
    text: () => { this.#hasText = !this.#hasText; this.buttons.text.setAttribute("aria-pressed", String(this.#hasText)); this.#showText(); },
  };

  #key(event) {
    const isField = event.target.matches("input");
    const action = this.actions[KEYS[event.key]];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || isField) return;
    event.preventDefault();
    action();
  }

  #turn(step) { this.#go(this.at.page + step); }
  #jump() { this.#go(Math.round(Number(this.place.value))); }

  #go(page) {
    if (page >= 1 && page <= (this.at.pages || Infinity)) Object.assign(this.at, { page });
    this.#show();
  }

  #hit(index) {
    const hit = this.hits[index];
    if (!hit) return;
    const isSame = hit.document_id === this.at.documentId;
    this.index = index;
    this.at = { documentId: hit.document_id, filename: hit.filename, page: hit.page, pages: isSame ? this.at.pages : 0 };
    this.#show();
  }

  #size(zoom) {
    if (!ZOOMS[zoom]) return;
    this.#zoom = zoom;
    this.frame.style.setProperty("--zoom", ZOOMS[zoom]);
    this.stage.classList.toggle("is-zoomed", zoom > 0);
    this.#state();
    if (zoom) this.#sharpen();
  }

  #state() {
    const { page, pages } = this.at;
    this.buttons.previous.disabled = page <= 1;
    this.buttons.next.disabled = Boolean(pages) && page >= pages;
    this.buttons.previousHit.disabled = this.index <= 0;
    this.buttons.nextHit.disabled = this.index >= this.hits.length - 1;
    this.buttons.smaller.disabled = this.#zoom === 0;
    this.buttons.larger.disabled = this.#zoom === ZOOMS.length - 1;
    this.place.value = String(page);
    this.total.textContent = pages ? `of ${pages}` : "";
  }

  get #width() { return widthFor(this.stage.clientWidth > 900 ? 800 : this.stage.clientWidth); }

  async #show() {
    const drawing = (this.#drawn += 1);
    const { documentId, filename, page } = this.at;
    this.title.textContent = filename;
    this.title.title = filename;
    this.#state();
    unmark(this.frame);
    this.frame.classList.add("skeleton");
    try {
      const view = await call(`/documents/${part(documentId)}/pages/${page}`);
      if (drawing !== this.#drawn) return;
      this.at.pages = view.pages;
      this.view = view;
      this.version = new URL(view.image_url, document.baseURI).searchParams.get("v") || "";
      this.frame.style.setProperty("--aspect", `${view.width_px} / ${view.height_px}`);
      this.frame.style.setProperty("--ratio", view.width_px / view.height_px);
      this.#state();
      const address = await pageImage(documentId, page, this.#width, this.version);
      if (drawing !== this.#drawn) return;
      this.image.src = address;
      this.image.alt = view.text ? `Page ${page}: ${view.text.slice(0, 300)}` : `Page ${page}, without text`;
      await this.image.decode().catch(() => {});
      if (drawing !== this.#drawn) return;
      this.frame.classList.remove("skeleton");
      announce(`${filename}, page ${page} of ${view.pages}`);
      this.#showText();
      this.#marks();
      this.#ahead();
    } catch (error) {
      if (drawing !== this.#drawn) return;
      this.frame.classList.remove("skeleton");
      this.image.removeAttribute("src");
      this.note.textContent = error.message;
    }
  }

  /** Fetch the next page's image before it is asked for. */
  #ahead() {
    const { documentId, page, pages } = this.at;
    if (page < pages) pageImage(documentId, page + 1, this.#width).catch(() => {});
  }

  async #sharpen() {
    const { documentId, page } = this.at;
    const drawing = this.#drawn;
    const address = await attempt(() => pageImage(documentId, page, 1600, this.version));
    if (address && drawing === this.#drawn) this.image.src = address;
  }

  async #marks() {
    this.note.textContent = "";
    unmark(this.frame);
    if (!this.query || !this.#hasMarks) return;
    const drawing = this.#drawn;
    try {
      const said = await mark(this.frame, { ...this.at, query: this.query, width: 960 });
      if (drawing === this.#drawn && said) this.note.textContent = said[0].toUpperCase() + said.slice(1);
    } catch (error) {
      if (drawing === this.#drawn) this.note.textContent = `No marks: ${error.message}`;
    }
  }

  #showText() {
    this.text.hidden = !this.#hasText;
    if (!this.#hasText || !this.view) return;
    const source = { ocr: "Read from the image (OCR)", file: "From the file", none: "" }[this.view.text_source] || "";
    show(this.text, h("h3", {}, "Text"), source && h("p", { class: "small muted" }, source),
      h("p", { class: "page-text" }, ...(this.view.text ? marked(this.view.text, this.query) : ["This page has no text."])));
  }
}
