/** Files and folders that are dropped on the page, or chosen. */
import { h } from "./dom.js";

/** The files of a drop; those of folders, too, at any depth. Hidden files are left out. */
async function droppedFiles(transfer) {
  // Entries must be taken before the event ends.
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() || item.getAsFile());
  const found = [];
  for (const entry of entries) if (entry) await collect(entry, found);
  return found;
}

async function collect(entry, found) {
  if (entry instanceof File) return void found.push(entry);
  if (entry.name.startsWith(".")) return undefined;
  if (entry.isFile) return void found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!some.length) return undefined;
    for (const one of some) await collect(one, found);
  }
}

/** Ask for files, or for a folder. Resolves to the files; to none where the user leaves. */
export function chooseFiles({ folder = false, several = true } = {}) {
  return new Promise((resolve) => {
    const input = h("input", { type: "file", class: "sr-only", tabIndex: -1, "aria-hidden": "true", multiple: several && !folder, webkitdirectory: folder });
    const end = (files) => { input.remove(); resolve(files.filter((file) => !file.name.startsWith("."))); };
    input.addEventListener("change", () => end([...input.files]));
    input.addEventListener("cancel", () => end([]));
    document.body.append(input);
    input.click();
  });
}

/** Call `onfiles` with what is dropped anywhere on the page, where `may()`. A frame shows that a drop is taken. */
export function takeDrops(may, onfiles) {
  const hint = h("div", { class: "drop-hint", hidden: true }, h("div", {}, h("strong", {}, "Drop to upload"), h("span", {}, "files or whole folders")));
  document.body.append(hint);
  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  addEventListener("dragenter", (event) => { if (hasFiles(event) && may()) { depth += 1; hint.hidden = false; } });
  addEventListener("dragleave", (event) => { if (hasFiles(event) && (depth = Math.max(0, depth - 1)) === 0) hint.hidden = true; });
  addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    hint.hidden = true;
    if (may()) onfiles(await droppedFiles(event.dataTransfer));
  });
}
