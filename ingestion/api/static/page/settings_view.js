/** What a person may change: stored in this browser only. */
import { h } from "./dom.js";
import { MODES } from "./search_view.js";
import { DEFAULTS, settings } from "./settings.js";
import { router } from "./router.js";
import { session } from "./session.js";
import { showShortcuts } from "./shortcuts.js";
import { button, choice, viewHead } from "./widgets.js";

const ROWS = [
  ["theme", "Theme", "Light, dark, or as the system says.", [["system", "System"], ["light", "Light"], ["dark", "Dark"]]],
  ["density", "Density", "How close the rows of tables are.", [["comfortable", "Comfortable"], ["compact", "Compact"]]],
  ["pageSize", "Rows", "Documents on a page of the table.", [[25, "25"], [50, "50"], [100, "100"], [250, "250"]]],
  ["mode", "Search by", "The mode that a search begins with. “Default” is that of the server.", MODES],
  ["results", "Results", "Pages that a search shows.", [[6, "6"], [12, "12"], [24, "24"], [48, "48"]]],
];

export function open() {
  const rows = ROWS.map(([name, label, text, options]) => h("div", { class: "setting" },
    h("div", {}, h("h2", {}, label), h("p", { class: "muted small" }, text)),
    choice(`setting-${name}`, label, options, settings.get(name), (value) => settings.set(name, value))));
  const reset = () => {
    for (const [name] of ROWS) settings.set(name, DEFAULTS[name]);
    router.dispatchEvent(new Event("change"));
  };
  return {
    title: "Settings",
    view: h("div", { class: "view" }, viewHead("Settings", "Kept in this browser. Other people and browsers do not see them."),
      h("div", { class: "panel" }, rows),
      h("div", { class: "settings-foot" }, button("Back to the defaults", reset), button("Keyboard shortcuts", showShortcuts), h("a", { class: "button", href: "docs" }, "API documentation"),
        session.caller && button("Sign out", () => session.end()))),
  };
}
