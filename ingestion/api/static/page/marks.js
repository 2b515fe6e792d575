/** The place on a page that a query matches: boxes of words, or a heat map where the embedder sees pages. */
import { h, s } from "./dom.js";
import { call, part, whenFree } from "./api.js";
import { image } from "./images.js";
import { session } from "./session.js";

const MOST_KEPT = 200;
const kept = new Map();

session.addEventListener("out", () => kept.clear());

/** The answer of /highlights, once for each page and query. */
function marksOf(documentId, page, query) {
  const path = `/documents/${part(documentId)}/pages/${page}/highlights?${new URLSearchParams({ query })}`;
  if (!kept.has(path)) {
    const found = whenFree(() => call(`${path}&format=json`));
    kept.set(path, found);
    found.catch(() => kept.delete(path));
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  }
  return kept.get(path);
}

/** Lay the marks over the image in `frame`, where it still shows this page. Resolves to what they are, for people. */
export async function mark(frame, { documentId, page, query, width = 640 }) {
  const token = `${documentId}/${page}/${query}`;
  frame.dataset.marks = token;
  const found = await marksOf(documentId, page, query);
  if (frame.dataset.marks !== token) return "";
  const layers = [];
  if (found.heat) {
    const path = `/documents/${part(documentId)}/pages/${page}/highlights?${new URLSearchParams({ query, format: "png", part: "heat", width })}`;
    layers.push(h("img", { class: "heat", src: await image(path), alt: "" }));
  }
  const words = telling(found.words || []);
  if (words.length) layers.push(boxes(words));
  if (frame.dataset.marks !== token) return "";
  unmark(frame);
  frame.dataset.marks = token;
  frame.append(...layers);
  return said(found.heat, words);
}

/** Without short words such as “the”, where longer ones are marked. */
function telling(words) {
  const long = words.filter(({ term }) => term.length > 3 || /\d/.test(term));
  return long.length ? long : words;
}

export function unmark(frame) {
  delete frame.dataset.marks;
  for (const layer of frame.querySelectorAll(".heat, .boxes")) layer.remove();
}

function boxes(words) {
  const pad = 0.003;
  return s("svg", { class: "boxes", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" }, words.map(({ box: [left, top, right, bottom] }) =>
    s("rect", { x: left - pad, y: top - pad / 2, width: right - left + 2 * pad, height: bottom - top + pad })));
}

function said(heat, words) {
  const texts = [...new Set(words.map((word) => word.text.toLowerCase()))];
  const parts = [heat && "heat map", texts.length && `marked: ${texts.slice(0, 8).join(", ")}`].filter(Boolean);
  return parts.join("; ") || "no place marked on this page";
}
