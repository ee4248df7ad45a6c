/**
 * What points at a photo: enter, leave and the trace in between, from mouse, pen, touch or cross-hair.
 *
 * A browser also reports pointers that are up to a pixel beside an element. Here a pointer is over a photo only while its point is inside the photo's
 * rectangle, measured at that moment, so that no ratio of a hover or a trace lies outside 0 ... 1.
 */

import { timeOf } from "./geometry.js";
import { inputOf, pointOn } from "./recorder.js";

export class Hover {
  /**
   * @param {object} options
   * @param {import("./recorder.js").Recorder} options.recorder
   * @param {object} options.settings of the session
   * @param {() => HTMLElement} options.photo the element whose rectangle counts
   * @param {() => number} options.index of the photo in the protocol
   */
  constructor({ recorder, settings, photo, index }) {
    Object.assign(this, { recorder, settings, photo, index });
    this.over = false;
    this.last = null;
    this.aiming = false;
  }

  /** pointerenter and pointermove. `entering`: a pointerenter, which is no sample of the trace. */
  pointer(event, entering = false) {
    const coalesced = this.settings.coalesced && !entering ? event.getCoalescedEvents() : [];
    for (const sample of coalesced.length ? coalesced : [event]) {
      const point = pointOn(this.photo(), sample, inputOf(event));
      if (point.x < 0 || point.x >= 1 || point.y < 0 || point.y >= 1) {
        this.leave(sample);
        continue;
      }
      this.last = point;
      const time = timeOf(sample);
      if (!this.over) {
        this.over = true;
        this.recorder.event("enter", { i: this.index(), ...point }, time);
      }
      if (!entering) this.recorder.sample("move", { i: this.index(), in: point.in }, time, point.x, point.y, coalesced.length > 0);
    }
  }

  /** pointerleave and pointercancel, and whatever else ends a hover. */
  leave(event) {
    if (!this.over) return;
    this.over = false;
    const { x, y, in: input } = this.last;
    this.recorder.event("leave", { i: this.index(), x, y, in: input }, timeOf(event));
  }

  /** The cross-hair starts at, or moves to, a viewport point. Returns the point for a choice there. */
  aim(client, event, starting = false) {
    const point = pointOn(this.photo(), { clientX: client.x, clientY: client.y }, "keyboard");
    this.last = point;
    if (starting && !this.over) {
      this.over = true;
      this.aiming = true;
      this.recorder.event("enter", { i: this.index(), ...point }, timeOf(event));
    }
    if (!starting) this.recorder.sample("move", { i: this.index(), in: "keyboard" }, timeOf(event), point.x, point.y, true);
    return point;
  }

  /** The cross-hair is gone; a mouse that rests on the photo stays over it. */
  stopAiming(event) {
    if (this.aiming) this.leave(event);
    this.aiming = false;
  }
}

/** A press that counts lies on the photo: the browser's pixel of tolerance is moved onto its edge. */
export function pressOn(photo, event) {
  const point = pointOn(photo, event);
  const bound = (value) => Math.min(1, Math.max(0, value));
  return { ...point, x: bound(point.x), y: bound(point.y) };
}
