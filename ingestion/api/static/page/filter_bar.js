/** The field for a filter, in the grammar of the API, with examples. */
import { h } from "./dom.js";
import { openDialog } from "./dialogs.js";
import { icon } from "./icons.js";
import { button, emptyState, iconButton } from "./widgets.js";

const EXAMPLES = [
  ['filename like "*manual*"', "the name has “manual” in it"],
  ['uploaded > "2026-01-31"', "uploaded after a day"],
  ["pages between 10 and 50", "its number of pages"],
  ['tags has "draft"', "it has a tag"],
  ['team = "legal" and year >= 2020', "by its metadata"],
  ['state = "failed" or not key exists', "joined with and, or, not"],
];
const FIELDS = "document_id, filename, state, uploaded, media_type, pages, key, tags, and the keys of the metadata";
let serial = 0;

/** What a view shows in place of its results. `remove` takes the filter away. */
export const unreadableFilter = (remove) => emptyState("filter", "The filter cannot be read", "Mend it above, or remove it.", button("Remove the filter", remove));

/** `onapply(text)`: at Enter, and when the field is cleared. */
export function filterBar({ value = "", onapply, label = "Filter" }) {
  serial += 1;
  const id = `filter-error-${serial}`;
  const error = h("p", { class: "field-error small", id, role: "alert", hidden: true });
  const input = h("input", { class: "filter-input", type: "search", value, placeholder: 'Filter: filename like "*.pdf" and pages > 10', "aria-label": label, "aria-describedby": id, autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: 4000 });
  const apply = (event) => { event?.preventDefault(); error.hidden = true; onapply(input.value.trim()); };
  input.addEventListener("search", () => { if (!input.value && value) apply(); });
  const help = () => openDialog("Filters", (close) => h("div", { class: "dialog-body" },
    h("p", { class: "muted" }, `Fields: ${FIELDS}.`),
    h("ul", { class: "menu-list" }, EXAMPLES.map(([text, meaning]) => h("li", {},
      h("button", { class: "menu-item", type: "button", onclick: () => { close(); input.value = text; input.focus(); } }, h("code", {}, text), h("span", { class: "muted small" }, meaning)))))));
  return {
    element: h("form", { class: "filter", onsubmit: apply }, h("span", { class: "filter-box" }, icon("filter"), input, iconButton("help", "How to write a filter", help)), error),
    get value() { return input.value.trim(); },
    focus: () => input.focus(),
    showError: (text) => { error.textContent = text; error.hidden = false; input.setAttribute("aria-invalid", "true"); },
  };
}
