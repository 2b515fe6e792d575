/** One page that a search found. Its image and its marks are fetched when it comes into view. */
import { h } from "./dom.js";
import { pageImage } from "./images.js";
import { mark } from "./marks.js";

const WIDTH = 640;
const loads = new WeakMap();
const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    loads.get(target)?.();
  }
}, { rootMargin: "300px" });

const versionOf = (hit) => new URL(hit.page_image_url, document.baseURI).searchParams.get("v") || "";

export function hitCard(hit, query, open) {
  const title = `${hit.filename}, page ${hit.page}`;
  const picture = h("img", { class: "sheet", alt: "", hidden: true });
  const frame = h("div", { class: "frame skeleton" }, picture);
  const stage = h("div", { class: "hit-stage" }, frame);
  loads.set(stage, async () => {
    try {
      picture.src = await pageImage(hit.document_id, hit.page, WIDTH, versionOf(hit));
      await picture.decode();
      picture.hidden = false;
      frame.classList.remove("skeleton");
      await mark(frame, { documentId: hit.document_id, page: hit.page, query, width: WIDTH });
      center(stage, frame);
    } catch (error) {
      frame.classList.remove("skeleton");
      if (picture.hidden) frame.replaceChildren(h("p", { class: "small muted" }, `No image: ${error.message}`));
    }
  });
  observer.observe(stage);
  return h("li", {}, h("button", { class: "hit", type: "button", "aria-label": `${title}. ${hit.snippet}`, onclick: open },
    stage,
    h("span", { class: "hit-text" },
      h("span", { class: "hit-title" }, h("span", { class: "ellipsis", title: hit.filename }, hit.filename), h("span", { class: "hit-page tabular" }, `p. ${hit.page}`)),
      h("span", { class: "hit-snippet" }, ...marked(hit.snippet, query)),
      (hit.tags || []).length > 0 && h("span", { class: "labels" }, hit.tags.slice(0, 4).map((tag) => h("span", { class: "label" }, `#${tag}`))),
      h("span", { class: "hit-score small muted tabular", title: "Scores of different questions cannot be compared" }, `score ${hit.score.toPrecision(3)}`))));
}

/** Scroll a card's picture to the first mark: a card shows the upper part of a page only. */
function center(stage, frame) {
  const box = frame.querySelector(".boxes rect");
  if (!box) return;
  const y = Number(box.getAttribute("y")) * frame.clientHeight;
  const most = Math.max(0, frame.clientHeight - stage.clientHeight);
  frame.style.translate = `0 ${-Math.min(most, Math.max(0, y - stage.clientHeight * 0.4))}px`;
}

/** The words of the query in a text, as `<mark>`. */
export function marked(text, query) {
  const all = query.match(/[\p{L}\p{N}]{2,}/gu) || [];
  const long = all.filter((word) => word.length > 3 || /\d/.test(word));
  const words = long.length ? long : all;
  if (!words.length) return [text];
  const pattern = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "giu");
  return text.split(pattern).map((piece, index) => (index % 2 ? h("mark", {}, piece) : piece));
}
