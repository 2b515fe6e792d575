/** Icons as paths of 24 by 24 units. */
import { s } from "./dom.js";

const PATHS = {
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14ZM20 20l-4-4",
  documents: "M7 3h7l5 5v11a2 2 0 0 1-2 2H7a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2ZM14 3v5h5M9 13h6M9 17h4",
  collections: "M4 7l8-4 8 4-8 4-8-4ZM4 12l8 4 8-4M4 17l8 4 8-4",
  letters: "M3 8l9 6 9-6M5 5h14a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2Z",
  health: "M3 12h4l2.5-7 5 14 2.5-7h4",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.8v4.4M9 14.8v4.4",
  upload: "M12 16V4M7 9l5-5 5 5M4 16v3a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-3",
  folder: "M3 7a2 2 0 0 1 2-2h4l2 2.5h8a2 2 0 0 1 2 2V17a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V7Z",
  close: "M6 6l12 12M18 6L6 18",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  stop: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18ZM9 9h6v6H9z",
  again: "M4 12a8 8 0 0 1 14-5.3L20 9M20 4v5h-5M20 12a8 8 0 0 1-14 5.3L4 15M4 20v-5h5",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  up: "M6 15l6-6 6 6",
  down: "M6 9l6 6 6-6",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  check: "M5 12.5l4.5 4.5L19 7.5",
  warning: "M12 4l9 16H3L12 4ZM12 10v4M12 17.2v.3",
  marks: "M4 20h16M6 16l9-11 4 3.5L10 18H6v-2Z",
  text: "M5 6h14M5 10h14M5 14h9M5 18h6",
  filter: "M4 5h16l-6 8v6l-4-2v-4L4 5Z",
  help: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18ZM9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.4-1 .9-1 1.7M12 16.8v.2",
  out: "M14 4h4a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2h-4M10 8l-4 4 4 4M6 12h10",
  key: "M15 4a5 5 0 1 0-4.6 7L4 17.4V20h3v-2h2v-2h2l2-2A5 5 0 0 0 15 4ZM16 8v.2",
};

/** The icon `name`. It says nothing to a screen reader: its button has a name of its own. */
export function icon(name, className = "") {
  return s("svg", { viewBox: "0 0 24 24", class: `icon ${className}`, "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}

/** The mark of the product: a sheet that leaves the mill. */
export function logo() {
  return s("svg", { viewBox: "0 0 24 24", class: "logo", "aria-hidden": "true" },
    s("rect", { x: 2, y: 2, width: 20, height: 20, rx: 6, class: "logo-ground" }),
    s("path", { d: "M8 6.5h5.2L16.5 10v7.5h-8.5z", class: "logo-sheet" }),
    s("path", { d: "M10.2 12.2h4.2M10.2 14.8h2.8", class: "logo-line" }));
}
