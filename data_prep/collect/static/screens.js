/** The screens around the work: consent, waiting, problems, the end. Each returns an element; what to do next is the caller's. */

import { h, mark, plural } from "./dom.js";
import { BASE } from "./api.js";

export function loading(text = "Loading…") {
  return h("div", { class: "stack centre narrow", role: "status" }, h("div", { class: "spinner", "aria-hidden": "true" }), h("p", { class: "muted" }, text));
}

/** A card with a heading, paragraphs and buttons. */
export function card({ title, paragraphs = [], kind, buttons = [] }) {
  return h(
    "section",
    { class: "card stack narrow", "data-screen": kind },
    h("h1", { tabindex: "-1" }, title),
    paragraphs.map((text) => (typeof text === "string" ? h("p", {}, text) : text)),
    buttons.length ? h("div", { class: "row" }, buttons) : undefined,
  );
}

export function button(label, run, style = "") {
  return h("button", { type: "button", class: `button ${style}`.trim(), onclick: run }, label);
}

/** What is recorded, for what and by whom; nothing is recorded before it is accepted. */
export function consentScreen({ project, consent, onAnswer }) {
  const box = h("input", { type: "checkbox", id: "agree" });
  const start = h("button", { type: "submit", class: "button", id: "consent-agree" }, "Agree and start");
  const note = h("p", { class: "small muted", role: "alert" });
  const form = h(
    "form",
    { class: "card stack narrow", "data-screen": "consent", novalidate: true },
    h("p", { class: "muted small" }, project.title),
    h("h1", { tabindex: "-1" }, consent.title),
    ...(project.instructions ?? []).map((text) => h("p", {}, text)),
    project.content_warning ? h("div", { class: "notice warn" }, mark("alert"), h("p", {}, project.content_warning)) : undefined,
    h("dl", { class: "facts" }, consent.items.flatMap((item) => [h("dt", {}, item.heading), h("dd", {}, item.text)])),
    h("label", { class: "check", for: "agree" }, box, h("span", {}, "I have read this, and I agree to take part.")),
    note,
    h("div", { class: "row" }, start, h("button", { type: "button", class: "button quiet", id: "consent-decline", onclick: () => onAnswer(false) }, "Decline")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!box.checked) {
      note.textContent = "Tick the box first if you agree.";
      box.focus();
      return;
    }
    start.disabled = true;
    onAnswer(true);
  });
  return form;
}

/** The end: a code to copy, a link back to the platform, or a form for it. */
export function doneScreen({ completion, progress }) {
  const done = progress?.pages_done ? `You finished ${plural(progress.pages_done, "page")}. ` : "";
  const parts = [h("p", {}, `${done}Everything has been saved.`)];
  if (completion?.kind === "code") {
    const code = h("output", { class: "code", id: "completion-code" }, completion.code);
    const note = h("span", { class: "small muted", role: "status" });
    const copy = button("Copy code", async () => {
      try {
        await navigator.clipboard.writeText(completion.code);
        note.textContent = "Copied.";
      } catch {
        getSelection().selectAllChildren(code);
        note.textContent = "The code is selected: copy it with Ctrl+C.";
      }
    });
    parts.push(h("p", {}, "Enter this code on the page that sent you here:"), code, h("div", { class: "row" }, copy, note));
  } else if (completion?.kind === "redirect") {
    parts.push(h("p", {}, "One step is left: go back, so that your work is counted."), h("div", { class: "row" }, h("a", { class: "button", id: "completion-link", href: completion.url }, "Finish and go back")));
  } else if (completion?.kind === "form") {
    parts.push(
      h("p", {}, "One step is left: hand the assignment in."),
      h(
        "form",
        { method: "post", action: completion.action, id: "completion-form", class: "row" },
        Object.entries(completion.fields).map(([name, value]) => h("input", { type: "hidden", name, value })),
        h("button", { type: "submit", class: "button" }, "Hand in the assignment"),
      ),
    );
  } else {
    parts.push(h("p", { class: "muted" }, "You can close this tab."));
  }
  return h("section", { class: "card stack narrow", "data-screen": "done" }, h("h1", { tabindex: "-1" }, "Thank you"), parts);
}

const PROBLEMS = {
  no_link: ["This link is not complete", "Open the link from your invitation once more, or copy all of it into the address bar."],
  bad_token: ["This link is not valid", "Open the link from your invitation once more. If that does not help, ask for a new one."],
  no_token: ["This link is not complete", "Open the link from your invitation once more."],
  no_worker: ["This visit is not known any more", "The server was set back to an earlier state. Load this page again, or open the link from your invitation once more; what you submitted since may have to be done again."],
  expired_token: ["This link has expired", "Ask for a new link. What you have submitted is kept."],
  blocked: ["You cannot take part any more", "The owner of this project has ended your participation. What you have submitted is kept."],
  withdrawn: ["You have withdrawn", "No further page is shown, and your work is kept out of the results."],
};

export function problemScreen(error, contact) {
  const [title, text] = PROBLEMS[error.code] ?? ["Something went wrong", error.message];
  const own = error.message && PROBLEMS[error.code] && error.code === "blocked" && error.details?.reason ? [error.details.reason] : [];
  const paragraphs = [text, ...own];
  if (contact) paragraphs.push(`Questions: ${contact}`);
  return card({ title, paragraphs, kind: "problem", buttons: PROBLEMS[error.code] ? [] : [button("Try again", () => location.reload())] });
}

export const iconPath = (name) => `${BASE}icons/${name}.svg`;
