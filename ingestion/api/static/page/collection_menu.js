/** Choose the collection in use, or name a new one: it exists from its first upload on. */
import { h, show } from "./dom.js";
import { call } from "./api.js";
import { count, counted } from "./format.js";
import { openDialog } from "./dialogs.js";
import { icon } from "./icons.js";
import { router } from "./router.js";
import { session } from "./session.js";
import { failure, skeletons } from "./widgets.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/;

export const totalDocuments = (one) => Object.values(one.documents).reduce((sum, number) => sum + number, 0);

export function openCollectionMenu() {
  return openDialog("Collections", (close) => {
    const choose = (name) => { close(); router.choose(name); };
    const list = h("ul", { class: "menu-list" });
    const hint = h("p", { class: "small muted", id: "collection-hint" });
    const input = h("input", { class: "input", type: "text", autofocus: true, placeholder: session.mayWrite ? "Find, or name a new one" : "Find a collection", maxlength: 100, "aria-label": "Collection", "aria-describedby": "collection-hint", autocomplete: "off", spellcheck: "false" });
    let all = [];
    const item = (one) => h("li", {}, h("button", { class: "menu-item", type: "button", "aria-current": one.collection === router.collection ? "true" : null, onclick: () => choose(one.collection) },
      icon("collections"), h("span", { class: "ellipsis" }, one.collection), h("span", { class: "muted small tabular" }, counted(totalDocuments(one), "document"))));
    const draw = () => {
      const name = input.value.trim();
      const found = all.filter((one) => one.collection.toLowerCase().includes(name.toLowerCase()));
      const isNew = name && !all.some((one) => one.collection === name);
      const isValid = NAME.test(name);
      show(list, found.slice(0, 200).map(item), isNew && isValid && session.mayWrite && h("li", {}, h("button", { class: "menu-item menu-new", type: "button", onclick: () => choose(name) }, icon("plus"), h("span", { class: "ellipsis" }, `Use “${name}”`), h("span", { class: "muted small" }, "new"))));
      hint.textContent = isNew && !isValid ? "A name has letters, digits, _ and -, and begins with a letter or digit." : found.length || isNew ? `${count(found.length)} of ${counted(all.length, "collection")}` : "No collection yet. Type a name, then upload the first file.";
    };
    const load = async () => {
      show(list, skeletons(3, "skeleton-lines"));
      try {
        all = (await call("/collections")).collections;
        draw();
      } catch (error) { show(list, failure(error, load)); }
    };
    const enter = (event) => {
      event.preventDefault();
      (list.querySelector(".menu-new") || list.querySelector(".menu-item"))?.click();
    };
    input.addEventListener("input", draw);
    load();
    return h("form", { class: "dialog-body", onsubmit: enter }, input, hint, list);
  });
}
