/** Page images. They need the key, so they come by `fetch`, and are shown as blobs. The newest are kept. */
import { part, request, whenFree } from "./api.js";
import { session } from "./session.js";

const MOST_KEPT = 150;
const AT_ONCE = 6;
const WIDTHS = [160, 320, 640, 960, 1280, 1600];
const kept = new Map();
const waiting = [];
let running = 0;

session.addEventListener("out", () => {
  for (const found of kept.values()) found.then(URL.revokeObjectURL, () => {});
  kept.clear();
});

/** The smallest width that the API makes for `px` pixels of the page. */
export const widthFor = (px) => WIDTHS.find((width) => width >= px * Math.min(devicePixelRatio, 2)) || WIDTHS.at(-1);

async function slot(action) {
  if (running >= AT_ONCE) await new Promise((resolve) => waiting.push(resolve));
  running += 1;
  try {
    return await action();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

const blobOf = async (path) => URL.createObjectURL(await (await whenFree(() => request(path))).blob());

/** The address of a blob with what `path` answers. The same path is fetched once. */
export function image(path) {
  const known = kept.get(path);
  kept.delete(path);
  const found = known || slot(() => blobOf(path));
  kept.set(path, found);
  found.catch(() => kept.delete(path));
  if (kept.size > MOST_KEPT) {
    const [oldest, address] = kept.entries().next().value;
    kept.delete(oldest);
    address.then(URL.revokeObjectURL, () => {});
  }
  return found;
}

/** `version`: the `v` of an address that the API gave; lets the browser keep the image. */
export function pageImage(documentId, page, width, version = "") {
  const query = new URLSearchParams({ width, ...(version ? { v: version } : {}) });
  return image(`/documents/${part(documentId)}/pages/${page}/image?${query}`);
}
