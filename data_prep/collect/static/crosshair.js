/**
 * Pointing without a pointer: a cross-hair over a photo, moved by the arrow keys (1 px, with Shift 10 px), that gives real points.
 *
 * The photo's rectangle is read at each step, so the point stays true under zoom and scroll. Enter or Space chooses, Escape leaves.
 */
import { clamp } from "./geometry.js";
import { announceNow, svg } from "./dom.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Crosshair {
  /**
   * @param {HTMLElement} photo element whose rectangle the points refer to
   * @param {HTMLElement} layer positioned element around the photo that takes the cross-hair's drawing
   * @param {{ start?: {x: number, y: number}, onMove: Function, onChoose: Function, onLeave: Function }} options called with (client point, keyboard event)
   */
  constructor(photo, layer, options) {
    this.photo = photo;
    this.options = options;
    const start = options.start ?? { x: 0.5, y: 0.5 };
    const rect = photo.getBoundingClientRect();
    this.offset = { x: start.x * rect.width, y: start.y * rect.height };
    this.element = svg(
      "svg",
      { class: "crosshair", width: 48, height: 48, viewBox: "-24 -24 48 48", "aria-hidden": "true" },
      ...["crosshair-halo", "crosshair-line"].map((name) => svg("path", { class: name, d: "M-22 0H-5M5 0H22M0-22V-5M0 5V22M-1 0H1", fill: "none" })),
    );
    layer.append(this.element);
    this.layer = layer;
    this.draw();
  }

  /** Viewport point of the cross-hair now. */
  client() {
    const rect = this.photo.getBoundingClientRect();
    return { x: rect.left + this.offset.x, y: rect.top + this.offset.y };
  }

  draw() {
    const rect = this.photo.getBoundingClientRect();
    const base = this.layer.getBoundingClientRect();
    this.element.style.left = `${rect.left - base.left + this.offset.x - 24}px`;
    this.element.style.top = `${rect.top - base.top + this.offset.y - 24}px`;
  }

  /** Handles a keydown; true if it was the cross-hair's. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const step = STEPS[event.key];
    if (step) {
      const rect = this.photo.getBoundingClientRect();
      const length = event.shiftKey ? 10 : 1;
      this.offset.x = clamp(this.offset.x + step[0] * length, 0, rect.width);
      this.offset.y = clamp(this.offset.y + step[1] * length, 0, rect.height);
      this.draw();
      announceNow(`${Math.round((this.offset.x / rect.width) * 100)} % across, ${Math.round((this.offset.y / rect.height) * 100)} % down`);
      this.options.onMove(this.client(), event);
    } else if (event.key === "Enter" || event.key === " ") {
      if (!event.repeat) this.options.onChoose(this.client(), event);
    } else if (event.key === "Escape") {
      this.options.onLeave(event);
    } else {
      return false;
    }
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  remove() {
    this.element.remove();
  }
}
