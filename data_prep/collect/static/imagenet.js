/**
 * Browse and select: photos in three columns; a press selects with its point and time, a second press deselects.
 *
 * Each photo is a button of exactly the photo's size, so what is hovered, pressed and recorded is the photo itself and never the margin around it.
 */

import { Crosshair } from "./crosshair.js";
import { announce, h, mark, plural, toast } from "./dom.js";
import { fitToBox, timeOf } from "./geometry.js";
import { Hover, pressOn } from "./hover.js";
import { documentRect, pointOn } from "./recorder.js";

const PRESS_MEMORY_MS = 1500; // a click belongs to the pointerup just before it

/** One place on the page, with the photo that is shown there now. */
class Place {
  constructor(page, number, picture) {
    this.page = page;
    this.number = number;
    this.button = h("button", { type: "button", class: "photo", "aria-pressed": "false", "data-place": number });
    this.note = h("div", { class: "feedback", hidden: true });
    this.cell = h("li", { class: "cell" }, this.button, h("span", { class: "badge", "aria-hidden": "true" }, mark("check")), this.note);
    this.dot = h("span", { class: "dot", "aria-hidden": "true", hidden: true });
    this.selected = false;
    this.point = null;
    this.onScreen = false;
    this.hover = new Hover({ recorder: page.recorder, settings: page.settings, photo: () => this.image, index: () => this.picture.index });
    this.listen();
    this.show(picture);
  }

  show(picture) {
    this.picture = picture;
    this.state = "loading";
    this.tries = 0;
    const size = fitToBox(picture.width, picture.height);
    this.image = h("img", { width: size.width, height: size.height, alt: "", draggable: "false", decoding: "async", fetchpriority: this.number < 9 ? "high" : undefined });
    this.image.style.aspectRatio = `${size.width} / ${size.height}`; // of the rounded size, as on the published page
    this.button.dataset.index = picture.index;
    this.button.replaceChildren(this.image, this.dot);
    this.button.hidden = false;
    this.cell.querySelector(".failed")?.remove();
    this.image.addEventListener("load", () => this.loaded());
    this.image.addEventListener("error", () => this.failed());
    this.image.src = picture.url;
    this.label();
  }

  loaded() {
    this.state = "loaded";
    this.cell.dataset.state = "loaded";
    const rect = this.image.getBoundingClientRect();
    this.page.recorder.event("image_loaded", { i: this.picture.index, r: documentRect(rect), nw: this.image.naturalWidth, nh: this.image.naturalHeight });
    this.page.changed();
  }

  failed() {
    this.tries += 1;
    if (this.tries === 1) {
      const again = new URL(this.picture.url, location.href);
      again.searchParams.set("retry", "1");
      setTimeout(() => (this.image.src = again.href), this.page.retryMs);
      return;
    }
    this.page.recorder.event("image_failed", { i: this.picture.index, tries: this.tries });
    const reserve = this.page.reserve.shift();
    this.setSelected(false, null);
    if (reserve) {
      this.page.recorder.event("replace", { i: this.picture.index, by: reserve.index });
      this.page.excluded += 1;
      this.show(reserve);
    } else {
      this.state = "failed";
      this.cell.dataset.state = "failed";
      this.button.hidden = true;
      this.cell.append(h("div", { class: "failed" }, mark("alert"), h("span", {}, "This photo could not be loaded. It has been reported and does not count.")));
      this.page.excluded += 1;
    }
    this.page.changed();
  }

  listen() {
    const on = (kind, handler) => this.button.addEventListener(kind, handler);
    on("pointerenter", (event) => this.hover.pointer(event, true));
    on("pointermove", (event) => this.hover.pointer(event));
    on("pointerleave", (event) => this.hover.leave(event));
    on("pointercancel", (event) => { this.pressed = null; this.hover.leave(event); });
    on("pointerup", (event) => { if (event.button <= 0) this.pressed = { ...pressOn(this.image, event), time: timeOf(event) }; });
    on("click", (event) => this.clicked(event));
    on("keydown", (event) => this.key(event));
    on("blur", () => this.leaveCrosshair());
    on("dragstart", (event) => event.preventDefault());
  }

  clicked(event) {
    if (this.state !== "loaded" || this.page.locked) return;
    const pressed = this.pressed;
    this.pressed = null;
    const now = timeOf(event);
    if (pressed && now - pressed.time < PRESS_MEMORY_MS) {
      const { time, ...point } = pressed;
      this.toggle(point, time);
    } else {
      // Assistive technology pressed the button: there is no pointer and so no point.
      this.toggle({ in: "keyboard" }, now);
    }
  }

  key(event) {
    if (this.page.locked || this.state !== "loaded") return;
    if (this.crosshair) {
      if (this.crosshair.key(event)) this.page.recorder.event("key", { key: event.key }, timeOf(event));
      return;
    }
    if ((event.key !== "Enter" && event.key !== " ") || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (event.repeat) return;
    this.page.recorder.event("key", { key: event.key }, timeOf(event));
    this.startCrosshair(event);
  }

  startCrosshair(event) {
    this.crosshair = new Crosshair(this.image, this.button, {
      start: this.point ?? undefined,
      onMove: (client, moved) => this.hover.aim(client, moved),
      onChoose: (client, chosen) => {
        this.toggle(pointOn(this.image, { clientX: client.x, clientY: client.y }, "keyboard"), timeOf(chosen));
        this.leaveCrosshair(chosen);
      },
      onLeave: (left) => this.leaveCrosshair(left),
    });
    this.button.classList.add("aiming");
    this.hover.aim(this.crosshair.client(), event, true);
    announce(`Cross-hair on. Arrow keys move it, with Shift in larger steps. Enter ${this.selected ? "deselects" : "selects"}, Escape leaves.`);
  }

  leaveCrosshair(event) {
    if (!this.crosshair) return;
    this.crosshair.remove();
    this.crosshair = null;
    this.button.classList.remove("aiming");
    this.hover.stopAiming(event ?? { timeStamp: performance.now() });
  }

  toggle(point, time) {
    this.note.hidden = true;
    const kind = this.selected ? "deselect" : "select";
    this.page.history.push({ place: this, picture: this.picture, kind, point: this.point });
    this.page.recorder.event(kind, { i: this.picture.index, ...point }, time, true);
    this.setSelected(!this.selected, kind === "select" && point.x !== undefined ? { x: point.x, y: point.y } : null);
    this.page.changed();
    announce(`Photo ${this.number + 1} ${kind === "select" ? "selected" : "not selected"}. ${this.page.countText()}.`);
  }

  setSelected(selected, point) {
    this.selected = selected;
    this.point = point;
    this.button.setAttribute("aria-pressed", String(selected));
    this.cell.classList.toggle("selected", selected);
    this.dot.hidden = !point;
    if (point) {
      this.dot.style.left = `${point.x * 100}%`;
      this.dot.style.top = `${point.y * 100}%`;
    }
    this.label();
  }

  label() {
    this.button.setAttribute("aria-label", `Photo ${this.number + 1} of ${this.page.total}`);
  }

  showFeedback({ expected, got }) {
    const right = expected === got;
    const name = this.page.task.class.name;
    const text = right
      ? expected ? `Right: this shows ${name}` : "Right: nothing to select here"
      : expected ? `Missed: this shows ${name}` : `Not ${name}: deselect it`;
    this.note.className = `feedback ${right ? "right" : "wrong"}`;
    this.note.replaceChildren(mark(right ? "check" : "cross"), h("span", {}, text));
    this.note.hidden = false;
  }
}

/** The page as a whole. `mount` draws it into an element; `answer` is what a submit says. */
export class ImagenetPage {
  constructor(task, { recorder, settings, onChange, readOnly = false }) {
    this.task = task;
    this.recorder = recorder;
    this.settings = settings;
    this.onChange = onChange;
    this.readOnly = readOnly;
    this.locked = readOnly;
    this.retryMs = 400;
    this.history = [];
    this.excluded = 0;
    this.reserve = [...(task.reserve ?? [])];
    this.total = task.pictures.length;
    this.places = [];
    this.unseen = [];
  }

  mount(view) {
    const resume = this.task.resume ?? { fresh: true };
    const pictures = new Map([...this.task.pictures, ...(this.task.reserve ?? [])].map((picture) => [picture.index, picture]));
    const shown = this.task.pictures.map((picture) => {
      let index = picture.index;
      while (resume.replaced?.[index] !== undefined) {
        index = resume.replaced[index];
        this.excluded += 1;
      }
      return pictures.get(index);
    });
    const used = new Set(shown.map((picture) => picture.index));
    this.reserve = this.reserve.filter((picture) => !used.has(picture.index));
    this.grid = h("ul", { class: "grid", "aria-label": `Photos: which show ${this.task.class.name}?` });
    view.append(this.question(), this.grid);
    this.recorder.begin({ restored: !resume.fresh });
    this.places = shown.map((picture, number) => new Place(this, number, picture));
    this.grid.append(...this.places.map((place) => place.cell));
    this.setState(resume.selected ?? []);
    this.watchScreen();
    this.keyListener = (event) => this.shortcut(event);
    document.addEventListener("keydown", this.keyListener);
    this.changed();
  }

  unmount() {
    document.removeEventListener("keydown", this.keyListener);
    this.observer?.disconnect();
    this.recorder.end();
  }

  question() {
    const { name, synonyms = [], gloss = "" } = this.task.class;
    return h(
      "section",
      { class: "question", "aria-labelledby": "question" },
      h("h1", { id: "question" }, "Select every photo that shows ", h("em", {}, name)),
      synonyms.length ? h("p", { class: "names" }, `Also called: ${synonyms.join(", ")}`) : undefined,
      gloss ? h("p", { class: "gloss" }, gloss) : undefined,
      h(
        "details",
        { class: "help" },
        h("summary", {}, "How to select"),
        h(
          "div",
          {},
          h(
            "ul",
            {},
            h("li", {}, "Press on the object itself. If there are several, any one of them will do."),
            h("li", {}, "It counts however small, hidden or crowded the object is, but only in photographs: not drawn, painted or as a toy."),
            h("li", {}, "Press again to deselect. Take your time: accuracy matters more than speed."),
          ),
          h(
            "dl",
            { class: "keys" },
            h("dt", {}, h("kbd", {}, "Tab")), h("dd", {}, "next photo"),
            h("dt", {}, h("kbd", {}, "Enter")), h("dd", {}, "start the cross-hair on the photo; again to select or deselect at that point"),
            h("dt", {}, h("kbd", {}, "←"), h("kbd", {}, "↑"), h("kbd", {}, "→"), h("kbd", {}, "↓")), h("dd", {}, "move the cross-hair by 1 px, with Shift by 10 px"),
            h("dt", {}, h("kbd", {}, "Ctrl"), h("kbd", {}, "Z")), h("dd", {}, "undo"),
          ),
        ),
      ),
    );
  }

  watchScreen() {
    this.observer = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) if (entry.isIntersecting) this.places[Number(entry.target.dataset.place)].onScreen = true;
      },
      { threshold: 0.5 },
    );
    for (const place of this.places) this.observer.observe(place.button);
  }

  shortcut(event) {
    if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey || this.locked) return;
    event.preventDefault();
    this.recorder.event("key", { key: "Ctrl+Z" }, timeOf(event));
    this.undo(timeOf(event));
  }

  get canUndo() {
    return this.history.some((step) => step.place.picture === step.picture);
  }

  /** Takes the last choice back: the opposite event, marked, without a point. */
  undo(time, input = "keyboard") {
    let step = this.history.pop();
    while (step && step.place.picture !== step.picture) step = this.history.pop(); // its photo was replaced
    if (!step) return;
    const kind = step.kind === "select" ? "deselect" : "select";
    this.recorder.event(kind, { i: step.picture.index, in: input, undo: true }, time, true);
    step.place.setSelected(kind === "select", kind === "select" ? step.point : null);
    this.changed();
    toast(`Undone: photo ${step.place.number + 1} is ${kind === "select" ? "selected" : "not selected"}`);
  }

  changed() {
    this.onChange(this);
  }

  countText() {
    const count = this.places.filter((place) => place.selected).length;
    return `${plural(count, "photo")} selected`;
  }

  /** Undefined if the page can be submitted, else what is missing. */
  blocker() {
    const loading = this.places.filter((place) => place.state === "loading").length;
    return loading ? `Loading ${plural(loading, "photo")}…` : undefined;
  }

  /** A question to ask once before submitting, or undefined. */
  doubt() {
    const unseen = this.places.filter((place) => !place.onScreen && place.state === "loaded").length;
    if (this.places.some((place) => place.selected) || unseen * 2 < this.places.length) return undefined;
    return { title: "Nothing selected yet", text: `${plural(unseen, "photo")} of ${this.total} have not been on your screen. Scroll down to look at all of them. Submit the page all the same?` };
  }

  answer() {
    const shown = this.places.filter((place) => place.selected).map((place) => place.picture.index);
    return { selected: [...shown, ...this.unseen].sort((a, b) => a - b) };
  }

  setState(selected) {
    const chosen = new Map(selected.map((item) => [item.index, item]));
    const shown = new Set(this.places.map((place) => place.picture.index));
    this.unseen = [...chosen.keys()].filter((index) => !shown.has(index)); // selected while they could still be read
    this.history = [];
    for (const place of this.places) {
      const item = chosen.get(place.picture.index);
      place.setSelected(item !== undefined, item && item.x !== null && item.x !== undefined ? { x: item.x, y: item.y } : null);
    }
  }

  applyState(state) {
    this.setState((state.selected ?? []).map((item) => (typeof item === "number" ? { index: item } : item)));
    this.changed();
  }

  showFeedback(feedback) {
    for (const item of feedback) this.places.find((place) => place.picture.index === item.index)?.showFeedback(item);
    const wrong = feedback.filter((item) => item.expected !== item.got);
    if (wrong.length) this.places.find((place) => place.picture.index === wrong[0].index)?.cell.scrollIntoView({ block: "center", behavior: "smooth" });
  }
}
