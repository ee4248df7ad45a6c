/**
 * Drag and drop: icons of the classes, in sets, are placed on the objects of one photo. One icon per class.
 *
 * Drags use pointer events with capture, so the whole path is seen from mouse, pen and touch alike, and a drop is judged by the photo's rectangle alone:
 * icons that are already there are never in the way. Without a drag, an icon is pressed and then the place on the photo, or the cross-hair is used.
 */

import { Crosshair } from "./crosshair.js";
import { announce, byId, h, mark, plural, toast } from "./dom.js";
import { fitToBoard, isInside, timeNow, timeOf } from "./geometry.js";
import { Hover, pressOn } from "./hover.js";
import { documentRect, inputOf, pointOn, roundRatio } from "./recorder.js";

const DRAG_START_PX = { mouse: 3, pen: 5, touch: 6 };
const LIMIT = 100; // ratios of a drag, far outside the photo

/** Headings of the published sets, which the log and the release know by these names. */
const TITLES = {
  PersonAccessory: "People and accessories", Animal: "Animals", Vehicle: "Vehicles", OutdoorObj: "Outdoors", Sports: "Sports", Kitchenware: "Kitchenware",
  Food: "Food", Furniture: "Furniture", Appliance: "Appliances", Electronics: "Electronics", IndoorObjects: "Indoors",
};
const titleOf = (set) => TITLES[set.name] ?? set.name;

export function iconImage(entry) {
  if (entry.icon) return h("img", { src: entry.icon, alt: "", draggable: "false" });
  return h("span", { class: "letter", "aria-hidden": "true" }, entry.name.slice(0, 2));
}

export class CocoPage {
  constructor(task, { recorder, settings, onChange, readOnly = false }) {
    this.task = task;
    this.recorder = recorder;
    this.settings = settings;
    this.onChange = onChange;
    this.locked = readOnly;
    this.picture = task.pictures[0];
    this.sets = task.sets;
    this.entries = new Map(task.sets.flatMap((set) => set.classes.map((entry) => [entry.c, entry])));
    this.state = "loading";
    this.tries = 0;
    this.placed = new Map(); // class -> {x, y}
    this.seen = new Set();
    this.set = -1;
    this.history = [];
    this.excluded = 0;
    this.armed = null;
    this.drag = null;
    this.stops = new AbortController();
    this.hover = new Hover({ recorder, settings, photo: () => this.scene, index: () => 0 });
  }

  // ---- drawing

  mount(view) {
    this.scene = h("img", { class: "scene", alt: "The photo to annotate", draggable: "false" });
    this.layer = h("div", { class: "placed-layer" });
    this.board = h("div", { class: "board", id: "board", role: "group", "aria-label": "Photo with the placed icons" }, this.scene, this.layer);
    this.place = h("div", { class: "board-place" }, this.board);
    this.containsList = h("ul", { id: "contains" });
    this.containsEmpty = h("p", { class: "muted small" }, "Nothing placed yet.");
    const contains = h("section", { class: "contains", "aria-labelledby": "contains-title" }, h("h2", { id: "contains-title" }, "In this photo"), this.containsEmpty, this.containsList);
    view.append(this.question(), h("div", { class: "coco" }, h("div", { class: "stage" }, this.place, contains), this.palette()));
    this.recorder.begin({ restored: !(this.task.resume?.fresh ?? true) });
    this.fit();
    this.listen();
    this.loadScene();
    for (const icon of this.task.resume?.icons ?? []) this.placed.set(icon.c, { x: icon.x, y: icon.y });
    this.drawPlaced();
    this.showSet(this.task.resume?.set ?? 0, false);
    this.changed();
  }

  unmount() {
    this.stops.abort();
    this.ghost?.remove();
    this.recorder.end();
  }

  question() {
    return h(
      "section",
      { class: "question", "aria-labelledby": "question" },
      h("h1", { id: "question" }, "Place an icon on every kind of thing that you see"),
      h("p", { class: "gloss" }, "Drag an icon onto the object; any one will do if there are several. Look through all sets."),
      h(
        "details",
        { class: "help" },
        h("summary", {}, "How to place icons"),
        h(
          "div",
          {},
          h(
            "ul",
            {},
            h("li", {}, "Drag an icon to the object, or press the icon and then press the object."),
            h("li", {}, "Drag a placed icon to move it. Press it, or drag it off the photo, to remove it."),
            h("li", {}, "Icons may share a spot: a person and the person's tie."),
          ),
          h(
            "dl",
            { class: "keys" },
            h("dt", {}, h("kbd", {}, "←"), h("kbd", {}, "→")), h("dd", {}, "previous and next set"),
            h("dt", {}, h("kbd", {}, "Tab"), h("kbd", {}, "Enter")), h("dd", {}, "choose an icon: a cross-hair appears on the photo"),
            h("dt", {}, h("kbd", {}, "↑"), h("kbd", {}, "↓"), h("kbd", {}, "Shift")), h("dd", {}, "move the cross-hair by 1 px, with Shift by 10 px; Enter places"),
            h("dt", {}, h("kbd", {}, "Delete")), h("dd", {}, "remove the icon that has the focus"),
            h("dt", {}, h("kbd", {}, "Ctrl"), h("kbd", {}, "Z")), h("dd", {}, "undo"),
          ),
        ),
      ),
    );
  }

  palette() {
    this.previous = h("button", { type: "button", class: "round", id: "previous-set", "aria-label": "Previous set", onclick: (event) => this.showSet(this.set - 1, false, timeOf(event)) }, mark("left"));
    this.following = h("button", { type: "button", class: "round", id: "next-set", "aria-label": "Next set", onclick: (event) => this.showSet(this.set + 1, false, timeOf(event)) }, mark("right"));
    this.setTitle = h("span", {});
    this.setCount = h("span", { class: "muted numeric small" });
    this.tabs = this.sets.map((set, index) =>
      h("button", { type: "button", class: "tab", role: "tab", id: `set-${index}`, "aria-controls": "icons", "aria-selected": "false", "aria-label": `Set ${index + 1}: ${titleOf(set)}`, tabindex: "-1", onclick: (event) => this.showSet(index, false, timeOf(event)) }, String(index + 1)),
    );
    this.icons = h("div", { class: "icons", id: "icons", role: "tabpanel" });
    return h(
      "section",
      { class: "palette", "aria-label": "Icons" },
      h("div", { class: "palette-head" }, this.previous, h("h2", {}, this.setTitle, " ", this.setCount), h("div", { class: "tabs", role: "tablist", "aria-label": "Sets of icons" }, this.tabs), this.following),
      this.icons,
    );
  }

  /** Sizes the board for the room there is; also after the window's width changed. */
  fit() {
    const size = fitToBoard(this.picture.width, this.picture.height, this.place.clientWidth - 4);
    this.scene.width = size.width;
    this.scene.height = size.height;
  }

  loadScene() {
    const signal = { signal: this.stops.signal };
    this.scene.addEventListener("load", () => {
      this.state = "loaded";
      this.board.dataset.state = "loaded";
      this.recorder.event("image_loaded", { i: 0, r: documentRect(this.scene.getBoundingClientRect()), nw: this.scene.naturalWidth, nh: this.scene.naturalHeight });
      this.changed();
    }, signal);
    this.scene.addEventListener("error", () => {
      this.tries += 1;
      if (this.tries === 1) {
        const again = new URL(this.picture.url, location.href);
        again.searchParams.set("retry", "1");
        setTimeout(() => (this.scene.src = again.href), 400);
        return;
      }
      this.state = "failed";
      this.board.dataset.state = "failed";
      this.recorder.event("image_failed", { i: 0, tries: this.tries });
      this.excluded = 1;
      this.board.replaceChildren(h("div", { class: "failed" }, mark("alert"), h("span", {}, "This photo could not be loaded. It has been reported and does not count. Submit to go on.")));
      this.changed();
    }, signal);
    this.scene.src = this.picture.url;
  }

  showSet(index, keyboard, time = timeNow()) {
    if (index < 0 || index >= this.sets.length || index === this.set) return;
    const hadFocus = document.activeElement?.classList.contains("tab");
    this.set = index;
    this.seen.add(index);
    this.recorder.event("set_shown", { s: index, kb: keyboard }, time);
    this.setTitle.textContent = titleOf(this.sets[index]);
    this.setCount.textContent = `${index + 1} / ${this.sets.length}`;
    this.previous.disabled = index === 0;
    this.following.disabled = index === this.sets.length - 1;
    this.tabs.forEach((tab, k) => {
      tab.setAttribute("aria-selected", String(k === index));
      tab.tabIndex = k === index ? 0 : -1;
      if (this.seen.has(k)) {
        tab.classList.add("seen");
        tab.setAttribute("aria-label", `Set ${k + 1}: ${titleOf(this.sets[k])}${k === index ? "" : ", looked at"}`);
      }
    });
    if (hadFocus) this.tabs[index].focus();
    this.icons.setAttribute("aria-labelledby", `set-${index}`);
    this.icons.replaceChildren(...this.sets[index].classes.map((entry) => this.iconButton(entry)));
    this.disarm();
    announce(`${titleOf(this.sets[index])}, set ${index + 1} of ${this.sets.length}`);
    this.changed();
  }

  iconButton(entry) {
    const button = h(
      "button",
      { type: "button", class: "icon", "data-c": entry.c },
      h("span", { class: "tile" }, iconImage(entry)),
      h("span", {}, entry.name),
      " ",
      h("span", { class: "used-note" }, "placed", h("span", { class: "visually-hidden" }, ", press to remove")),
    );
    this.listenIcon(button, entry, "panel");
    this.markUsed(button, entry);
    return button;
  }

  markUsed(button, entry) {
    const used = this.placed.has(entry.c);
    button.classList.toggle("used", used);
  }

  drawPlaced() {
    for (const button of [...this.layer.children]) if (button.dataset.c && !this.placed.has(button.dataset.c)) button.remove();
    for (const [c, point] of this.placed) {
      let button = this.placedButton(c);
      if (!button) {
        const entry = this.entries.get(c);
        button = h("button", { type: "button", class: "placed", "data-c": c, title: entry.name, "aria-label": `${entry.name}. Enter moves, Delete removes` }, iconImage(entry));
        this.listenIcon(button, entry, "board");
        this.layer.append(button);
      }
      button.style.left = `${point.x * 100}%`;
      button.style.top = `${point.y * 100}%`;
    }
    this.containsEmpty.hidden = this.placed.size > 0;
    this.containsList.replaceChildren(
      ...[...this.placed.keys()].map((c) => {
        const entry = this.entries.get(c);
        return h(
          "li",
          { "data-c": c },
          h("span", { class: "tile" }, iconImage(entry)),
          h("span", { class: "name" }, entry.name),
          h("button", { type: "button", class: "icon-button", "aria-label": `Remove ${entry.name}`, onclick: (event) => !this.locked && this.remove(c, event.detail ? "click" : "key", event.detail ? inputOf(event) : "keyboard", timeOf(event)) }, mark("cross")),
        );
      }),
    );
    for (const button of this.icons?.children ?? []) this.markUsed(button, this.entries.get(button.dataset.c));
  }

  placedButton(c) {
    return [...this.layer.children].find((button) => button.dataset.c === c);
  }

  // ---- the pointer over the photo

  listen() {
    const options = { signal: this.stops.signal };
    const board = (kind, handler) => this.board.addEventListener(kind, handler, options);
    board("pointerenter", (event) => this.hover.pointer(event, true));
    board("pointermove", (event) => this.drag || this.hover.pointer(event));
    board("pointerleave", (event) => this.hover.leave(event));
    board("pointerdown", (event) => (this.boardDown = event.button === 0 ? event.pointerId : null));
    board("pointercancel", (event) => { this.boardDown = null; this.hover.leave(event); });
    board("pointerup", (event) => this.boardPressed(event));
    document.addEventListener("keydown", (event) => this.shortcut(event), options);
    window.addEventListener("resize", () => this.state !== "failed" && this.fit(), options);
    document.addEventListener("dragstart", (event) => event.preventDefault(), options);
  }

  /** The second press of "press the icon, then the object". Not a click: browsers send none for a tap that soon follows a touch. */
  boardPressed(event) {
    const down = this.boardDown;
    this.boardDown = null;
    if (this.locked || !this.armed || this.state !== "loaded" || down !== event.pointerId || event.target.closest(".placed")) return;
    const point = pressOn(this.scene, event);
    const c = this.armed;
    this.disarm();
    this.putAt(c, point, point.in, timeOf(event));
  }

  // ---- an icon, in the panel or on the photo

  listenIcon(button, entry, from) {
    const c = entry.c;
    button.addEventListener("pointerdown", (event) => this.press(event, button, c, from));
    button.addEventListener("pointermove", (event) => this.dragMoved(event));
    button.addEventListener("pointerup", (event) => this.released(event));
    button.addEventListener("pointercancel", (event) => this.cancelDrag(event));
    button.addEventListener("lostpointercapture", (event) => this.drag?.pointer === event.pointerId && this.cancelDrag(event));
    button.addEventListener("click", (event) => this.iconClicked(event, button, c, from));
    button.addEventListener("keydown", (event) => this.iconKey(event, button, c, from));
    button.addEventListener("blur", () => this.leaveCrosshair());
  }

  press(event, button, c, from) {
    if (event.button !== 0 || this.locked || this.state !== "loaded" || this.drag) return;
    this.drag = { pointer: event.pointerId, button, c, from, input: inputOf(event), start: event, started: false, time: timeOf(event), x: event.clientX, y: event.clientY };
    this.drag.origin = this.ratio(event);
    button.setPointerCapture(event.pointerId);
  }

  ratio(event) {
    const rect = this.scene.getBoundingClientRect();
    const bound = (value) => roundRatio(Math.min(LIMIT, Math.max(-LIMIT, value)));
    return { x: bound((event.clientX - rect.left) / rect.width), y: bound((event.clientY - rect.top) / rect.height) };
  }

  dragMoved(event) {
    const drag = this.drag;
    if (!drag || drag.pointer !== event.pointerId) return;
    if (!drag.started) {
      if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < DRAG_START_PX[drag.input]) return;
      this.startDrag(drag);
    }
    const coalesced = this.settings.coalesced ? event.getCoalescedEvents() : [];
    for (const sample of coalesced.length ? coalesced : [event]) {
      const point = this.ratio(sample);
      this.recorder.sample("drag_move", { c: drag.c, in: drag.input }, timeOf(sample), point.x, point.y, coalesced.length > 0);
    }
    this.drawGhost(event);
  }

  startDrag(drag) {
    drag.started = true;
    this.disarm();
    this.recorder.event("drag_start", { c: drag.c, in: drag.input, from: drag.from, ...drag.origin }, drag.time);
    this.ghost = h("div", { class: "ghost", "aria-hidden": "true" }, iconImage(this.entries.get(drag.c)));
    document.body.append(this.ghost);
    this.placedButton(drag.c)?.classList.add("dragging");
  }

  drawGhost(event) {
    const inside = isInside(this.scene.getBoundingClientRect(), event.clientX, event.clientY);
    this.ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px)`;
    this.ghost.classList.toggle("away", !inside);
    this.board.classList.toggle("target", inside);
  }

  released(event) {
    const drag = this.drag;
    if (!drag || drag.pointer !== event.pointerId || event.button > 0) return;
    this.drag = null;
    if (!drag.started) {
      this.iconPressed(drag.button, drag.c, drag.from, drag.input, event);
      return;
    }
    this.endGhost(drag);
    const time = timeOf(event);
    const inside = isInside(this.scene.getBoundingClientRect(), event.clientX, event.clientY);
    const point = this.ratio(event);
    this.recorder.event("drop", { c: drag.c, in: drag.input, ...point, inside }, time, true);
    if (inside) this.putAt(drag.c, point, drag.input, time);
    else if (this.placed.has(drag.c)) this.remove(drag.c, "outside", drag.input, time);
  }

  cancelDrag(event) {
    const drag = this.drag;
    if (!drag || (event.pointerId !== undefined && drag.pointer !== event.pointerId)) return;
    this.drag = null;
    if (!drag.started) return;
    this.endGhost(drag);
    this.recorder.event("drag_cancel", { c: drag.c, in: drag.input }, timeOf(event));
  }

  endGhost(drag) {
    this.ghost?.remove();
    this.ghost = null;
    this.board.classList.remove("target");
    this.placedButton(drag.c)?.classList.remove("dragging");
  }

  /** A press without a drag: takes a placed icon away, or takes one from the panel in hand. */
  iconPressed(button, c, from, input, event) {
    if (this.placed.has(c)) this.remove(c, "click", input, timeOf(event));
    else if (from === "panel") this.arm(button, c);
  }

  /** A click without a pointer comes from assistive technology; those of pointers are known by their pointerup. */
  iconClicked(event, button, c, from) {
    if (event.detail || this.locked || this.state !== "loaded") return;
    if (this.placed.has(c)) this.remove(c, "key", "keyboard", timeOf(event));
    else if (from === "panel") this.startCrosshair(event, button, c);
  }

  /** After a press on an icon, the next press on the photo places it. */
  arm(button, c) {
    const again = this.armed === c;
    this.disarm();
    if (again) return;
    this.armed = c;
    button.classList.add("armed");
    this.board.classList.add("armed");
    announce(this.hint());
    this.changed();
  }

  /** What to do next, while an icon is in hand. */
  hint() {
    return this.armed ? `Now press the ${this.entries.get(this.armed).name} in the photo` : undefined;
  }

  disarm() {
    if (!this.armed) return;
    this.armed = null;
    this.board.classList.remove("armed");
    this.icons.querySelector(".armed")?.classList.remove("armed");
    this.changed();
  }

  // ---- the keyboard

  iconKey(event, button, c, from) {
    if (this.locked || this.state !== "loaded") return;
    if (this.crosshair) {
      if (this.crosshair.key(event)) this.recorder.event("key", { key: event.key }, timeOf(event));
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const placed = this.placed.has(c);
    if (placed && (event.key === "Delete" || event.key === "Backspace")) {
      event.preventDefault();
      this.recorder.event("key", { key: event.key }, timeOf(event));
      this.remove(c, "key", "keyboard", timeOf(event));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (event.repeat) return;
      this.recorder.event("key", { key: event.key }, timeOf(event));
      if (from === "panel" && placed) this.remove(c, "key", "keyboard", timeOf(event));
      else this.startCrosshair(event, button, c);
    }
  }

  startCrosshair(event, button, c) {
    this.disarm();
    const name = this.entries.get(c).name;
    this.scene.scrollIntoView({ block: "nearest" });
    this.crosshair = new Crosshair(this.scene, this.layer, {
      start: this.placed.get(c),
      onMove: (client, moved) => this.hover.aim(client, moved),
      onChoose: (client, chosen) => {
        const point = pointOn(this.scene, { clientX: client.x, clientY: client.y }, "keyboard");
        this.leaveCrosshair(chosen);
        this.putAt(c, point, "keyboard", timeOf(chosen));
        (button.isConnected ? button : this.placedButton(c))?.focus();
      },
      onLeave: (left) => this.leaveCrosshair(left),
    });
    this.aiming = button;
    button.classList.add("aiming");
    this.hover.aim(this.crosshair.client(), event, true);
    announce(`Cross-hair on the photo for ${name}. Arrow keys move it, with Shift in larger steps. Enter places, Escape leaves.`);
  }

  leaveCrosshair(event) {
    if (!this.crosshair) return;
    this.crosshair.remove();
    this.crosshair = null;
    this.aiming.classList.remove("aiming");
    this.hover.stopAiming(event ?? { timeStamp: performance.now() });
  }

  shortcut(event) {
    if (this.locked || event.defaultPrevented) return;
    if (event.key === "Escape" && this.drag) {
      const { button, pointer } = this.drag;
      this.cancelDrag(event);
      button.releasePointerCapture(pointer);
    } else if (event.key === "Escape" && this.armed) {
      this.disarm();
    } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this.recorder.event("key", { key: "Ctrl+Z" }, timeOf(event));
      this.undo(timeOf(event));
    } else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest?.("input, select, textarea, dialog")) {
      event.preventDefault();
      this.recorder.event("key", { key: event.key }, timeOf(event));
      this.showSet(this.set + (event.key === "ArrowLeft" ? -1 : 1), true, timeOf(event));
    }
  }

  // ---- actions

  /** Adds the icon of class `c`, or moves it. */
  putAt(c, { x, y }, input, time, undo = false) {
    const before = this.placed.get(c);
    const mark_ = undo ? { undo: true } : {};
    if (before) this.recorder.event("move_icon", { c, fx: before.x, fy: before.y, x, y, in: input, ...mark_ }, time, true);
    else this.recorder.event("add", { c, x, y, in: input, ...mark_ }, time, true);
    this.placed.set(c, { x, y });
    if (!undo) this.history.push({ c, before });
    this.drawPlaced();
    this.changed();
    announce(`${this.entries.get(c).name} ${before ? "moved" : "placed"}`);
  }

  remove(c, why, input, time) {
    const before = this.placed.get(c);
    if (!before) return;
    this.recorder.event("remove", { c, fx: before.x, fy: before.y, in: input, why }, time, true);
    this.placed.delete(c);
    if (why !== "undo") this.history.push({ c, before });
    const hadFocus = document.activeElement === this.placedButton(c);
    this.drawPlaced();
    if (hadFocus) byId("undo")?.focus();
    this.changed();
    if (why !== "undo") toast(`Removed ${this.entries.get(c).name}`, { label: "Undo", run: () => this.undo(timeNow(), "mouse") });
  }

  get canUndo() {
    return this.history.length > 0;
  }

  undo(time, input = "keyboard") {
    const step = this.history.pop();
    if (!step) return;
    if (step.before) this.putAt(step.c, step.before, input, time, true);
    else this.remove(step.c, "undo", input, time);
    announce(`Undone: ${this.entries.get(step.c).name}`);
  }

  changed() {
    this.onChange(this);
  }

  countText() {
    return `${plural(this.placed.size, "icon")} placed`;
  }

  blocker() {
    if (this.state === "failed") return undefined;
    if (this.state === "loading") return "Loading the photo…";
    const left = this.sets.length - this.seen.size;
    return left ? `Look through the sets of icons: ${left} of ${this.sets.length} left` : undefined;
  }

  doubt() {
    return undefined;
  }

  answer() {
    return { icons: [...this.placed].map(([c, point]) => ({ c, x: point.x, y: point.y })).sort((a, b) => (a.c < b.c ? -1 : 1)) };
  }

  applyState(state) {
    this.placed = new Map((state.icons ?? []).map((icon) => [icon.c, { x: icon.x, y: icon.y }]));
    this.history = [];
    this.drawPlaced();
    this.changed();
  }

  showFeedback(feedback) {
    const name = (item) => this.entries.get(item.c)?.name ?? item.c;
    const missed = feedback.filter((item) => item.expected && !item.got).map(name);
    const wrong = feedback.filter((item) => !item.expected && item.got).map(name);
    const beside = feedback.filter((item) => item.expected && item.got && item.inside === false).map(name);
    const lines = [
      missed.length && ["cross", `Also there: ${missed.join(", ")}`],
      wrong.length && ["cross", `Not there: ${wrong.join(", ")}`],
      beside.length && ["cross", `Not on the object: ${beside.join(", ")}`],
    ].filter(Boolean);
    this.verdict?.remove();
    this.verdict = h("div", { class: `notice ${lines.length ? "bad" : "good"}` }, mark(lines.length ? "cross" : "check"), h("div", {}, lines.length ? lines.map(([, text]) => h("p", {}, text)) : h("p", {}, "All right.")));
    this.place.parentElement.before(this.verdict);
  }
}
