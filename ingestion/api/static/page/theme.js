"use strict";
// Before the first paint: the page does not flash in the other theme.
try {
  const stored = JSON.parse(localStorage.getItem("pagemill-settings")) || {};
  document.documentElement.dataset.theme = stored.theme || "system";
  document.documentElement.dataset.density = stored.density || "comfortable";
} catch { /* the defaults of the style sheet */ }
