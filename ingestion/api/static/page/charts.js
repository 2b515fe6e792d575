/** Small charts as SVG. Each has a text for screen readers. */
import { s } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 72;

/** Stacked bars. `bars`: `[{values: [number, …], title}, …]`; `tones`: a class for each of the values. */
export function stackedBars(bars, tones, label) {
  const top = Math.max(1, ...bars.map(({ values }) => values.reduce((a, b) => a + b, 0)));
  const step = WIDTH / bars.length;
  const thickness = Math.max(2, step - 4);
  return frame(label, bars.flatMap(({ values, title }, index) => {
    let y = HEIGHT;
    const x = index * step + (step - thickness) / 2;
    const rects = values.map((value, place) => {
      const height = value ? Math.max(2, (value / top) * (HEIGHT - 4)) : 0;
      y -= height;
      return value > 0 && s("rect", { x, y, width: thickness, height, rx: Math.min(3, thickness / 2), class: `chart-${tones[place]}` });
    });
    const ground = s("rect", { x, y: 0, width: thickness, height: HEIGHT, rx: 3, class: "chart-ground" });
    return s("g", {}, s("title", {}, title), ground, rects);
  }));
}

/** A line with the area below it. `values`: oldest first, `room` of them fill the width. */
export function line(values, room, label) {
  const top = Math.max(1, ...values);
  const step = WIDTH / Math.max(1, room - 1);
  const start = WIDTH - (values.length - 1) * step;
  const points = values.map((value, index) => `${(start + index * step).toFixed(1)},${(HEIGHT - 3 - (value / top) * (HEIGHT - 10)).toFixed(1)}`);
  return frame(label, points.length > 1
    ? [s("path", { d: `M${start},${HEIGHT}L${points.join("L")}L${WIDTH},${HEIGHT}Z`, class: "chart-area" }), s("path", { d: `M${points.join("L")}`, class: "chart-line" })]
    : [s("path", { d: `M0,${HEIGHT - 3}H${WIDTH}`, class: "chart-line chart-line-new" })]);
}

const frame = (label, children) => s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, children);
