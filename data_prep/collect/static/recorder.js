/**
 * The log of one page: turns what happens in the document into events of the protocol (docs/collect-protocol.md §5) and pushes them to the queue.
 *
 * A run of moves over one photo is one `move` event, closed by the next event of another kind. Ratios keep 8 decimals, times 1 microsecond.
 */

import { ratioIn, timeNow, timeOf } from "./geometry.js";

const round = (value, digits) => Number(value.toFixed(digits));
export const roundRatio = (value) => round(value, 8);
const roundTime = (value) => round(value, 3);
const LOW = -0.5;
const HIGH = 1.5;

export class Recorder {
  constructor(queue, settings) {
    this.queue = queue;
    this.settings = settings;
    this.run = null;
    this.lastEvent = timeNow();
    this.stops = new AbortController();
    queue.beforeCut = () => this.closeRun();
  }

  /** Begins a page: the first event of the document on it, and the listeners for what concerns the whole document. */
  begin({ restored }) {
    this.event("page", { ...viewport(), touch: navigator.maxTouchPoints > 0, restored });
    const options = { signal: this.stops.signal, passive: true };
    let lastScroll = -Infinity;
    let trailing = 0;
    const scrolled = (event) => {
      const now = timeOf(event);
      clearTimeout(trailing);
      if (now - lastScroll < 100) {
        trailing = setTimeout(() => scrolled({ timeStamp: performance.now() }), 110);
        return;
      }
      lastScroll = now;
      this.event("scroll", { sx: round(window.scrollX, 2), sy: round(window.scrollY, 2) }, now);
    };
    this.stops.signal.addEventListener("abort", () => clearTimeout(trailing));
    window.addEventListener("scroll", scrolled, options);
    window.addEventListener("resize", (event) => this.event("resize", viewport(), timeOf(event)), options);
    document.addEventListener("visibilitychange", (event) => this.event(document.visibilityState === "hidden" ? "hidden" : "visible", {}, timeOf(event)), options);
    const beat = setInterval(() => {
      if (document.visibilityState === "visible" && timeNow() - this.lastEvent >= this.settings.heartbeat_ms) this.event("heartbeat");
    }, 1000);
    this.stops.signal.addEventListener("abort", () => clearInterval(beat));
  }

  end() {
    this.stops.abort();
    this.closeRun();
  }

  event(kind, fields = {}, time = timeNow(), urgent = false) {
    this.closeRun();
    this.lastEvent = timeNow();
    this.queue.push({ k: kind, t: roundTime(time), ...fields }, urgent);
  }

  /** A sample of a run of `kind` ("move" or "drag_move"); `identity` says what it belongs to ({i, in} or {c, in}). */
  sample(kind, identity, time, x, y, everySample = false) {
    const name = `${kind} ${identity.i ?? identity.c} ${identity.in}`;
    if (this.run && this.run.name !== name) this.closeRun();
    if (!this.run) {
      this.run = { name, last: time, event: { k: kind, t: roundTime(time), ...identity, p: [] } };
      this.run.last = this.run.event.t;
    } else if (!everySample && time - this.run.last < this.settings.sample_ms / 2) {
      // Screens of more than 60 Hz: below half of the interval a sample adds nothing that the export keeps.
      return;
    }
    const dt = roundTime(Math.max(0, time - this.run.last));
    this.run.last = roundTime(this.run.last + dt);
    this.run.event.p.push([dt, roundRatio(x), roundRatio(y)]);
    this.lastEvent = time;
    if (this.run.event.p.length >= 500) this.closeRun();
  }

  closeRun() {
    const run = this.run;
    this.run = null;
    if (run) this.queue.push(run.event);
  }
}

/** Practice pages and previews record nothing. */
export class NoRecorder {
  begin() {}
  end() {}
  event() {}
  sample() {}
}

export function viewport() {
  const fields = { vw: window.innerWidth, vh: window.innerHeight, dpr: round(window.devicePixelRatio, 4) };
  if (window.visualViewport) fields.scale = round(window.visualViewport.scale, 4);
  return fields;
}

/** {x, y, px, py, r, in} of a pointer event (or of {clientX, clientY}) on `photo`, measured now. */
export function pointOn(photo, event, input = inputOf(event)) {
  const rect = photo.getBoundingClientRect();
  const ratio = ratioIn(rect, event.clientX, event.clientY);
  return {
    x: roundRatio(Math.min(HIGH, Math.max(LOW, ratio.x))),
    y: roundRatio(Math.min(HIGH, Math.max(LOW, ratio.y))),
    in: input,
    px: round(event.clientX, 5),
    py: round(event.clientY, 5),
    r: documentRect(rect),
  };
}

export function documentRect(rect) {
  return [round(rect.left + window.scrollX, 4), round(rect.top + window.scrollY, 4), round(rect.width, 4), round(rect.height, 4)];
}

export function inputOf(event) {
  return event.pointerType === "touch" || event.pointerType === "pen" ? event.pointerType : "mouse";
}
