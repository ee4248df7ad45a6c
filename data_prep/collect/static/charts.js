/** Plots as inline SVG: bars over time, a heat map. Colours come from the style sheet. */

import { h, svg } from "./dom.js";

const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });

/** A round step so that at most `count` lines cover 0 … `top`. */
function niceStep(top, count) {
  const raw = Math.max(top / count, 1e-9);
  const power = 10 ** Math.floor(Math.log10(raw));
  return Math.max(1, [1, 2, 5, 10].find((factor) => factor * power >= raw) * power);
}

/** Bars of [[ms, value], …] with one bar an hour; the last `hours` hours up to now. */
export function hourBars(rows, { unit, hours = 48, now = Date.now() }) {
  const width = 720, height = 220, left = 44, bottom = 30, top = 12;
  const end = Math.ceil(now / 3600000);
  const values = new Map(rows.map(([ms, value]) => [Math.floor(ms / 3600000), value]));
  const most = Math.max(1, ...values.values());
  const step = niceStep(most, 4);
  const high = Math.ceil(most / step) * step;
  const y = (value) => top + (height - top - bottom) * (1 - value / high);
  const slot = (width - left) / hours;
  const parts = [];
  for (let value = 0; value <= high; value += step) {
    parts.push(svg("line", { class: value ? "gridline" : "axis", x1: left, x2: width, y1: y(value), y2: y(value) }), svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (let k = 0; k < hours; k += 1) {
    const at = end - hours + k;
    const value = values.get(at) ?? 0;
    const start = new Date(at * 3600000);
    if (value) {
      parts.push(svg("rect", { class: "bar", x: left + k * slot + slot * 0.12, width: slot * 0.76, y: y(value), height: y(0) - y(value), rx: Math.min(3, slot * 0.2) }, svg("title", {}, `${day.format(start)}, ${hour.format(start)}: ${value} ${unit}`)));
    }
    if (start.getHours() % 12 === 0) {
      const text = start.getHours() === 0 ? day.format(start) : hour.format(start);
      parts.push(svg("line", { class: "axis", x1: left + k * slot, x2: left + k * slot, y1: y(0), y2: y(0) + 4 }), svg("text", { x: left + k * slot, y: height - 8, "text-anchor": "middle" }, text));
    }
  }
  const total = [...values.entries()].filter(([at]) => at >= end - hours).reduce((sum, [, value]) => sum + value, 0);
  return svg("svg", { class: "chart bars", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Bars, one an hour: ${total} ${unit} in the last ${hours} hours, at most ${most} in one hour` }, ...parts);
}

/** A size x size grid of counts (rows from the top) and points, in a unit square; drawn over a photo or alone. */
export function heatMap({ size, counts, points }, { frame = true } = {}) {
  const most = Math.max(1, ...counts.flat());
  const parts = frame ? [svg("rect", { class: "frame", x: 0, y: 0, width: 100, height: 100 })] : [];
  const cell = 100 / size;
  counts.forEach((row, j) =>
    row.forEach((count, i) => {
      if (!count) return;
      parts.push(svg("rect", { class: "cell", x: i * cell, y: j * cell, width: cell, height: cell, "fill-opacity": (0.15 + 0.75 * (count / most)).toFixed(3) }, svg("title", {}, `${count} at ${Math.round((i + 0.5) * cell)} % across, ${Math.round((j + 0.5) * cell)} % down`)));
    }),
  );
  const radius = points.length > 300 ? 0.4 : 0.75;
  for (const [x, y] of points) parts.push(svg("ellipse", { class: "point", cx: x * 100, cy: y * 100, rx: radius, ry: radius }));
  return svg("svg", { class: "chart", viewBox: "0 0 100 100", preserveAspectRatio: frame ? "xMidYMid meet" : "none", role: "img", "aria-label": `Heat map of ${counts.flat().reduce((a, b) => a + b, 0)} clicks` }, ...parts);
}

/** A bar with its number beside it. `share` in 0 … 1. */
export function meter(share, label) {
  const bar = h("span", {});
  bar.style.width = `${Math.round(Math.min(1, Math.max(0, share)) * 100)}%`;
  return h("div", { class: "meter", role: "img", "aria-label": label }, bar);
}
