/** Building blocks of the pages: elements (never from HTML text), announcements, toasts, dialogs. */

/** An element: `h("button", { class: "button", onclick: f, "aria-pressed": "false" }, "Text", child)`. Undefined and false attributes are left out. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  return fill(element, attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else element.setAttribute(key, String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

const PATHS = {
  check: "M4 10.5l4 4 8-9",
  cross: "M5 5l10 10M15 5L5 15",
  alert: "M10 6v5M10 14v.01M10 2l9 16H1z",
  info: "M10 9v5M10 6v.01M10 1.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17z",
  clock: "M10 5v5l3.5 2M10 1.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17z",
  left: "M12.5 4l-6 6 6 6",
  right: "M7.5 4l6 6-6 6",
  undo: "M4 8h8a4.5 4.5 0 0 1 0 9H8M7.5 4.5L4 8l3.5 3.5",
  cloud: "M6 15.5a4 4 0 0 1-.5-8 5 5 0 0 1 9.5 1.5 3.3 3.3 0 0 1 0 6.5z",
};

/** A line icon of 20 px; decoration only, since text always stands beside it. */
export function mark(name) {
  return svg(
    "svg",
    { class: "mark", viewBox: "0 0 20 20", width: 20, height: 20, "aria-hidden": "true", focusable: "false" },
    svg("path", { d: PATHS[name], fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round", "stroke-linejoin": "round" }),
  );
}

/** Reads `text` out to users of screen readers, after what is being read. */
export function announce(text) {
  const region = byId("live");
  if (!region) return;
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = text));
}

export function announceNow(text) {
  const region = byId("live-now");
  if (region) region.textContent = text;
}

let toastTimer = 0;

/** A short message at the bottom, with at most one action. Also announced. */
export function toast(text, action) {
  const place = byId("toast");
  place.replaceChildren(h("span", {}, text), action ? h("button", { type: "button", class: "toast-action", onclick: () => { hideToast(); action.run(); } }, action.label) : "");
  place.hidden = false;
  announce(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(hideToast, action ? 7000 : 4500);
}

export function hideToast() {
  clearTimeout(toastTimer);
  byId("toast").hidden = true;
}

/** Asks in a modal dialog; resolves to the chosen button's value, or to undefined on Escape. */
export function ask({ title, text, buttons }) {
  return new Promise((resolve) => {
    let answer;
    const dialog = h(
      "dialog",
      { "aria-labelledby": "ask-title", "aria-describedby": "ask-text" },
      h(
        "div",
        { class: "stack" },
        h("h2", { id: "ask-title" }, title),
        h("p", { id: "ask-text" }, text),
        h(
          "div",
          { class: "row" },
          buttons.map((button) =>
            h("button", { type: "button", class: `button ${button.class ?? "quiet"}`, onclick: () => { answer = button.value; dialog.close(); } }, button.label),
          ),
        ),
      ),
    );
    dialog.addEventListener("close", () => { dialog.remove(); resolve(answer); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** "45 s", "12 min", "1 h 05 min"; `fine`: "1 min 34 s" below ten minutes. */
export function duration(seconds, fine = false) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (fine && whole < 600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
