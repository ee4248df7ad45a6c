/**
 * Replay of one showing: the photos as they were shown, the pointer's trace drawn over time, selections and icons as they came.
 *
 * The state at any time is a fold of the events up to it, so the slider can go back as well.
 */

import { duration, h, mark, svg } from "./dom.js";

const SPEEDS = [0.5, 1, 2, 4, 8];
const QUIET = new Set(["move", "drag_move", "heartbeat", "scroll", "resize", "key"]);
const ROLES = { candidate: "", distractor: "distractor", positive: "control: shows it", negative: "control: does not", reserve: "from the reserve" };

function describe(event) {
  const photo = event.i === undefined ? "" : ` photo ${event.i + 1}`;
  const undo = event.undo ? " (undo)" : "";
  const texts = {
    page: "page opened", image_loaded: `loaded${photo}`, image_failed: `failed to load${photo}`, replace: `photo ${event.i + 1} replaced by ${event.by + 1}`,
    enter: `over${photo}`, leave: `left${photo}`, select: `selected${photo}${undo}`, deselect: `deselected${photo}${undo}`,
    set_shown: `set ${event.s + 1} shown`, drag_start: `drag of ${event.c}`, drop: `drop of ${event.c}${event.inside ? "" : " outside"}`, drag_cancel: `drag of ${event.c} cancelled`,
    add: `${event.c} placed${undo}`, move_icon: `${event.c} moved${undo}`, remove: `${event.c} removed (${event.why})`,
    hidden: "tab hidden", visible: "tab visible", submit: "submitted", lost: `${event.count} events lost`,
  };
  return texts[event.k] ?? event.k;
}

/** One photo of the replay and its layers. */
class Shot {
  constructor(picture, number) {
    this.picture = picture;
    this.image = h("img", { class: "photo-still", src: picture.url, alt: `Photo ${number + 1}`, width: picture.width ?? undefined, height: picture.height ?? undefined, loading: "lazy" });
    this.trace = svg("svg", { class: "trace", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.pins = h("div", {});
    const role = ROLES[picture.role] ?? picture.role;
    const words = [`${number + 1}`, picture.state === "failed" ? "failed to load" : picture.state === "replaced" ? "replaced" : role].filter(Boolean);
    this.element = h("li", { class: "shot" }, h("figure", {}, this.image, this.trace, this.pins), h("div", { class: "chosen-mark" }, mark("check")), h("div", {}, h("span", { class: "small muted" }, words.join(" · "))));
  }

  draw({ path, drags, pins, hovered, chosen, pointer }) {
    const d = (points) => `M${points.map(([x, y]) => `${x} ${y}`).join("L")}`;
    const lines = [...path.map((points) => ["path", points]), ...drags.map((points) => ["path drag", points])].filter(([, points]) => points.length > 1);
    this.trace.replaceChildren(...lines.flatMap(([name, points]) => [svg("path", { class: "path-halo", d: d(points) }), svg("path", { class: name, d: d(points) })]));
    this.pins.replaceChildren(...pins.map((pin) => place(pin)), ...(pointer ? [place({ x: pointer[0], y: pointer[1], name: "pointer" })] : []));
    this.element.classList.toggle("hovered", hovered);
    this.element.classList.toggle("chosen", chosen);
  }
}

function place({ x, y, name = "", icon, text }) {
  const element = h("span", { class: `pin ${name} ${text ? "icon-pin" : ""}`.trim(), title: text }, icon ? h("img", { src: icon, alt: text }) : text ? h("span", { class: "letter" }, text.slice(0, 2)) : "");
  element.style.left = `${x * 100}%`;
  element.style.top = `${y * 100}%`;
  return element;
}

export class Replay {
  constructor(record) {
    this.record = record;
    this.length = Math.max(1, record.end_ms - record.start_ms, ...record.events.map((event) => event.at));
    this.at = 0;
    this.speed = 2;
    this.playing = false;
    this.shots = new Map(record.pictures.map((picture, number) => [picture.index, new Shot(picture, number)]));
  }

  /** The parts of the page; the caller puts them into place. */
  elements() {
    this.toggle = h("button", { type: "button", class: "button compact", id: "play", onclick: () => this.play(!this.playing) }, "Play");
    this.slider = h("input", { type: "range", min: 0, max: Math.ceil(this.length), step: 10, value: 0, "aria-label": "Time in the showing", oninput: () => { this.play(false); this.seek(Number(this.slider.value)); } });
    this.clock = h("span", { class: "replay-time" });
    const speed = h("select", { "aria-label": "Speed", onchange: (event) => (this.speed = Number(event.target.value)) }, SPEEDS.map((value) => h("option", { value, selected: value === this.speed }, `${value}×`)));
    const bar = h("div", { class: "replay-bar", role: "group", "aria-label": "Replay" }, this.toggle, this.slider, this.clock, speed);
    const grid = h("ul", { class: `replay-grid${this.shots.size === 1 ? " single" : ""}` }, [...this.shots.values()].map((shot) => shot.element));
    this.loud = this.record.events.filter((event) => !QUIET.has(event.k) && event.k !== "image_loaded");
    this.list = h("ol", { class: "event-list", tabindex: "0", "aria-label": "Events" }, this.loud.map((event) => h("li", {}, h("span", { class: "time" }, `${(event.at / 1000).toFixed(1)} s`), h("span", {}, describe(event)))));
    this.seek(this.length);
    return { bar, body: h("div", { class: "replay" }, grid, this.list) };
  }

  play(on) {
    if (on === this.playing) return;
    this.playing = on;
    this.toggle.textContent = on ? "Pause" : "Play";
    if (!on) return;
    if (this.at >= this.length) this.at = 0;
    let last = performance.now();
    const frame = (now) => {
      if (!this.playing || !this.toggle.isConnected) return;
      this.seek(Math.min(this.length, this.at + (now - last) * this.speed));
      last = now;
      if (this.at >= this.length) this.play(false);
      else requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  seek(at) {
    this.at = at;
    this.slider.value = String(at);
    this.clock.textContent = `${(at / 1000).toFixed(1)} s of ${duration(this.length / 1000)}`;
    const states = this.fold(at);
    for (const [index, shot] of this.shots) shot.draw(states.get(index));
    let now = -1;
    [...this.list.children].forEach((item, k) => {
      const past = this.loud[k].at <= at;
      item.className = past ? "past" : "";
      if (past) now = k;
    });
    if (now >= 0) {
      const item = this.list.children[now];
      item.classList.add("now");
      this.list.scrollTop = item.offsetTop - this.list.offsetTop - this.list.clientHeight / 2;
    }
  }

  /** What each photo shows at `at` ms. */
  fold(at) {
    const states = new Map([...this.shots.keys()].map((index) => [index, { path: [], drags: [], pins: [], hovered: false, chosen: false, pointer: null, undone: null }]));
    const icons = new Map();
    let pointer = null;
    for (const event of this.record.events) {
      if (event.at > at) break;
      const state = states.get(event.i ?? 0);
      if (!state) continue;
      if (event.k === "enter") { state.hovered = true; state.path.push([]); }
      else if (event.k === "leave") state.hovered = false;
      else if (event.k === "move" || event.k === "drag_move") {
        const points = event.p.filter(([when]) => when <= at).map(([, x, y]) => [x, y]);
        if (event.k === "drag_move") (state.drags.at(-1) ?? state.drags[state.drags.push([]) - 1]).push(...points);
        else (state.path.at(-1) ?? state.path[state.path.push([]) - 1]).push(...points);
        if (points.length) pointer = [event.i ?? 0, points.at(-1)];
      } else if (event.k === "drag_start") state.drags.push([[event.x, event.y]]);
      else if (event.k === "drop") state.drags.at(-1)?.push([event.x, event.y]);
      else if (event.k === "select") { state.chosen = true; if (event.x !== undefined && event.x !== null) state.pins.push({ x: event.x, y: event.y }); }
      else if (event.k === "deselect") { state.chosen = false; if (event.x !== undefined && event.x !== null) state.pins.push({ x: event.x, y: event.y, name: "off" }); }
      else if (event.k === "add" || event.k === "move_icon") icons.set(event.c, event);
      else if (event.k === "remove") icons.delete(event.c);
    }
    if (pointer && at < this.length) states.get(pointer[0]).pointer = pointer[1];
    for (const [c, event] of icons) states.get(0).pins.push({ x: event.x, y: event.y, icon: this.iconOf(c), text: c });
    return states;
  }

  iconOf(c) {
    return this.record.icons?.[c] ?? undefined;
  }
}
