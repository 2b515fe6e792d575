"use strict";
const POLL_INTERVAL_MS = 1000;
const SETTLED_STATES = ["ready", "failed", "deleted"];
const byId = (id) => document.getElementById(id);
const rows = new Map(); // document id -> table row
let isPolling = false;

byId("key").value = sessionStorage.getItem("pagemill-key") || "";
byId("key").addEventListener("input", () => sessionStorage.setItem("pagemill-key", byId("key").value));

/** A new element. Its content is text, never markup: file names and snippets are not trusted. */
function element(name, text = "") {
  const created = document.createElement(name);
  created.textContent = text;
  return created;
}

const showNotice = (text) => { byId("notice").textContent = text; };

/** Call the API. Resolves to the JSON of the answer, rejects with the detail of the problem document. */
async function callApi(path, options = {}) {
  const key = new TextEncoder().encode(byId("key").value.trim());
  const headers = { ...options.headers, Authorization: "Bearer " + String.fromCharCode(...key) };
  const response = await fetch("api/v1" + path, { ...options, headers });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(refusedFiles(body.refused) || body.detail || response.statusText);
  return body;
}

const refusedFiles = (refused = []) => refused.map((file) => `${file.filename}: ${file.detail}`).join("\n");
const collectionPath = () => "/collections/" + encodeURIComponent(byId("collection").value.trim());

/** Await `action`, and show its error where it fails. */
async function showErrors(action) {
  showNotice("");
  try { await action(); } catch (error) { showNotice(error.message); }
}

function showDocument(found) {
  const row = rows.get(found.document_id) || byId("documents").appendChild(element("tr"));
  const pages = element("td", ` ${found.pages_done} of ${found.pages}`);
  const bar = element("progress");
  bar.max = Math.max(found.pages, 1);
  bar.value = found.pages_done;
  bar.setAttribute("aria-label", `${found.filename}: pages done`);
  pages.prepend(bar);
  const texts = found.text_pages;
  if (texts && texts.ocr + texts.none) pages.append(element("div", `text: ${texts.file} file, ${texts.ocr} OCR, ${texts.none} none`));
  for (const warning of found.warnings || []) pages.append(element("div", `Warning: ${warning}`));
  const error = found.error ? `${found.error.stage}: ${found.error.message} (${found.error.code})` : "";
  row.replaceChildren(element("td", found.filename), element("td", found.state), pages, element("td", error));
  row.dataset.state = found.state;
  rows.set(found.document_id, row);
}

const unsettledIds = () =>
  [...rows].filter(([, row]) => !SETTLED_STATES.includes(row.dataset.state)).map(([id]) => id);

/** Update the unsettled documents until all documents are settled. */
async function poll() {
  if (isPolling) return;
  isPolling = true;
  try {
    for (let ids = unsettledIds(); ids.length; ids = unsettledIds()) {
      for (const id of ids) {
        const found = await callApi("/documents/" + id);
        if (rows.has(id)) showDocument(found); // The user may have chosen another collection meanwhile.
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
    }
  } finally { isPolling = false; }
}

async function listDocuments() {
  rows.clear();
  byId("documents").replaceChildren();
  let after = "";
  do {
    const query = new URLSearchParams({ collection: byId("collection").value.trim(), limit: 500 });
    if (after) query.set("after", after);
    const page = await callApi("/documents?" + query);
    page.documents.forEach(showDocument);
    after = page.next;
  } while (after);
  if (!rows.size) showNotice("This collection has no documents.");
  await poll();
}

async function upload(files) {
  if (!files.length) return;
  const form = new FormData();
  for (const file of files) form.append("files", file);
  showNotice(`Uploading ${files.length} file(s)…`);
  const answer = await callApi(collectionPath() + "/documents", { method: "POST", body: form });
  showNotice([`${answer.documents.length} accepted.`, refusedFiles(answer.refused)].filter(Boolean).join("\n"));
  for (const accepted of answer.documents) showDocument(await callApi("/documents/" + accepted.document_id));
  await poll();
}

async function search() {
  byId("hits").replaceChildren();
  const answer = await callApi(collectionPath() + "/search", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query: byId("query").value, top_k: 12, mode: byId("mode").value || null }),
  });
  byId("hits").replaceChildren(...answer.hits.map(hitCard));
  showNotice([answer.hits.length ? "" : "No page was found.", ...answer.notes].filter(Boolean).join("\n"));
}

function hitCard(hit) {
  const card = element("li");
  const title = `${hit.filename}, page ${hit.page}`;
  const link = element("a");
  const image = element("img");
  if (/^https?:/.test(hit.image_url)) link.href = image.src = hit.image_url;
  image.alt = title;
  image.loading = "lazy";
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  link.append(image);
  card.append(link, element("h3", title), element("p", hit.snippet), element("p", `score ${hit.score.toPrecision(4)}`));
  return card;
}

/** Run `action` at each `event` of the element `id`, in place of the browser's default. */
function on(id, event, action) {
  byId(id).addEventListener(event, (happened) => { happened.preventDefault(); showErrors(() => action(happened)); });
}

on("access", "submit", listDocuments);
on("search", "submit", search);
on("files", "change", async () => { await upload([...byId("files").files]); byId("files").value = ""; });
for (const event of ["dragover", "dragleave", "drop"]) {
  byId("drop-zone").addEventListener(event, (happened) => {
    happened.preventDefault();
    byId("drop-zone").classList.toggle("over", event === "dragover");
  });
}
on("drop-zone", "drop", (dropped) => upload([...dropped.dataTransfer.files]));
