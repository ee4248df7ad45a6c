/**
 * The annotator's side: opens the session, asks for consent, then shows page after page until nothing is left.
 *
 * The link's token is in the fragment (invitations) or in the query (platforms). It is kept in sessionStorage, and the session token only in memory.
 */

import { AnnotatorApi, ApiError, pauseOrOnline, sleep, untilAnswered } from "./api.js";
import { CocoPage } from "./coco.js";
import { announce, ask, byId, duration, h, mark, plural } from "./dom.js";
import { timeNow } from "./geometry.js";
import { ImagenetPage } from "./imagenet.js";
import { Queue } from "./queue.js";
import { NoRecorder, Recorder } from "./recorder.js";
import { button, card, consentScreen, doneScreen, loading, problemScreen } from "./screens.js";

const PAGES = { imagenet: ImagenetPage, coco: CocoPage };
const SETTLE_MS = 700; // a new page takes no submit before this: the second half of a double press must not send it

const tab = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const view = byId("view");
let api, session, queue, current;
let banners = {};

function show(...elements) {
  view.replaceChildren(...elements);
  byId("dock-place").replaceChildren();
  const heading = view.querySelector("h1[tabindex]");
  heading?.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

/** Banners by name, so that each is shown once and in a fixed order. `null` takes one away. */
function banner(name, content) {
  if (JSON.stringify(banners[name]?.key) === JSON.stringify(content?.text)) return;
  if (content) {
    const element = h("div", { class: `banner ${content.kind}`, role: content.kind === "bad" ? "alert" : "status", "data-banner": name }, h("div", { class: "banner-inner" }, mark(content.kind === "info" ? "info" : "alert"), h("span", {}, content.text), content.button));
    banners[name]?.element.remove();
    banners[name] = { key: content.text, element };
    byId("banners").append(element);
  } else if (banners[name]) {
    banners[name].element.remove();
    delete banners[name];
  }
}

function linkFromAddress() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const query = new URLSearchParams(location.search);
  const token = fragment.get("t") ?? query.get("k");
  if (token) {
    query.delete("k");
    return { token, params: Object.fromEntries(query) };
  }
  return null;
}

function link() {
  const found = linkFromAddress();
  try {
    if (found) sessionStorage.setItem("luab-link", JSON.stringify(found));
    return found ?? JSON.parse(sessionStorage.getItem("luab-link"));
  } catch {
    return found;
  }
}

function awayText(error) {
  const kept = queue?.persistent === false ? "Your work is kept in this tab: do not close it." : "Your work is kept in this browser and will be sent as soon as possible.";
  if (error.code === "disk_full") return `The server has no space left. ${kept}`;
  if (!navigator.onLine || error.status === 0) return `${navigator.onLine ? "The server cannot be reached." : "You are offline."} ${kept}`;
  return `The server is busy. ${kept}`;
}

function onAway(error) {
  banner("away", { kind: "warn", text: awayText(error) });
}

async function start() {
  show(loading());
  window.addEventListener("hashchange", () => location.reload()); // another link in the same tab
  const found = link();
  if (!found) {
    show(problemScreen({ code: "no_link" }));
    return;
  }
  document.querySelector(".skip").addEventListener("click", (event) => { // the fragment holds the link's token
    event.preventDefault();
    byId("main").focus();
  });
  api = new AnnotatorApi({ ...found, tab });
  try {
    session = await untilAnswered(() => api.openSession(), onAway);
    banner("away", null);
    document.title = session.project.title;
    byId("project-name").textContent = session.project.title;
    if (session.preview) {
      showPreview();
      return;
    }
    if (!session.consent.given && !(await askConsent())) return;
    await openQueue();
    await work();
  } catch (error) {
    stop(error);
  }
}

function stop(error) {
  if (!(error instanceof ApiError)) console.error(error);
  current?.unmount();
  current = null;
  byId("topbar").hidden = true;
  show(problemScreen(error, session?.project?.contact));
}

function askConsent() {
  return new Promise((resolve, reject) => {
    const form = consentScreen({
      project: session.project,
      consent: session.consent,
      onAnswer: async (agreed) => {
        try {
          await untilAnswered(() => api.post("api/consent", { version: session.consent.version, agreed }), onAway);
          banner("away", null);
          if (!agreed) show(card({ kind: "declined", title: "You have declined", paragraphs: ["Nothing has been recorded. You can close this tab, or reload it if you change your mind."] }));
          resolve(agreed);
        } catch (error) {
          reject(error);
        }
      },
    });
    show(form);
  });
}

async function openQueue() {
  queue = new Queue({ api, tab, worker: session.worker, settings: session.settings, onState, onAcknowledged, onStopped: stop });
  await queue.open();
}

function onState({ waiting, away, persistent }) {
  const saved = byId("saved");
  const [kind, icon, text] = away ? ["is-warn", "cloud", `${plural(waiting, "change")} kept here`] : waiting ? ["", "cloud", "Saving…"] : ["is-good", "check", "All saved"];
  if (saved.dataset.text !== text) {
    saved.dataset.text = text;
    saved.className = kind;
    saved.replaceChildren(mark(icon), text);
  }
  banner("away", away ? { kind: "warn", text: awayText(away) } : null);
  banner("memory", persistent ? null : { kind: "warn", text: "This browser does not keep data on this device (a private window?). Wait for “All saved” before you close the tab." });
}

function onAcknowledged(answer, batch) {
  if (!current || batch.assignment !== current.task.assignment || batch.tab !== tab) return;
  lease = { ends: performance.now() + answer.lease.left_ms, state: answer.lease.state };
  banner("paused", answer.paused ? { kind: "info", text: "The owner has paused the project. You can finish this page; no further one is given out for now." } : null);
  if (answer.holder === false) {
    banner("holder", {
      kind: "warn",
      text: "This page is also open in another tab, which is the one that counts.",
      button: button("Continue here", () => current?.reopen?.(), "quiet compact"),
    });
  }
  drawLease();
}

// ---- the lease and the progress

let lease = null;

function drawLease() {
  const element = byId("lease");
  if (!lease || !current || current.task.practice) {
    element.replaceChildren();
    banner("lease", null);
    return;
  }
  const left = lease.ends - performance.now();
  const expired = left <= 0 || lease.state === "expired";
  const soon = !expired && left < session.settings.lease_warn_ms;
  const text = expired ? "Time is over" : `${duration(left / 1000)} for this page`;
  if (element.dataset.text !== text) {
    element.dataset.text = text;
    element.className = expired ? "is-bad" : soon ? "is-warn" : "";
    element.replaceChildren(mark("clock"), text);
  }
  banner(
    "lease",
    expired
      ? { kind: "warn", text: "The time for this page is over, and it may be given to others as well. You can still submit it: your work is kept." }
      : soon
        ? { kind: "info", text: "This page is reserved for you for less than two more minutes. Go on working and the time is extended." }
        : null,
  );
}

function drawProgress(progress, page) {
  byId("topbar").hidden = false;
  const of = page?.of ?? progress?.pages_target;
  const number = page?.number ?? (progress?.pages_done ?? 0) + 1;
  byId("progress-text").textContent = current?.task.practice ? "Practice" : of ? `Page ${number} of ${of}` : `Page ${number}`;
  byId("time-left").textContent = !current?.task.practice && progress?.ms_left ? `about ${duration(progress.ms_left / 1000)} left` : "";
  const bar = byId("progress");
  bar.hidden = !of || current?.task.practice;
  bar.max = of || 1;
  bar.value = Math.min(of || 1, number - 1);
}

// ---- pages

async function work() {
  for (;;) {
    if (!queue.waiting.length) banner("away", null);
    show(loading("Getting the next page…"));
    if (!(await queue.drained())) return;
    const next = await untilAnswered(() => api.post("api/next", { tab }), onAway);
    banner("away", null);
    if (next.state === "task" || next.state === "practice") {
      const outcome = await (next.state === "practice" ? practise(next) : annotate(next));
      if (outcome === "left") return;
      continue;
    }
    byId("topbar").hidden = true;
    if (next.state === "done") {
      show(doneScreen(next));
      announce("Done. Thank you.");
      return;
    }
    const again = button("Check again", () => window.dispatchEvent(new Event("online")), "quiet");
    const waits = {
      wait: ["All pages are taken just now", "Other annotators are working on what is left. This page looks again by itself; you may also come back later with the same link."],
      paused: ["The project is paused", next.message || "The owner has paused the project. This page goes on by itself when it is resumed."],
      held: ["Please wait", next.message || "The owner looks at the pages that you submitted before you go on. Nothing is lost."],
    };
    const [title, text] = waits[next.state] ?? ["Please wait", next.message ?? ""];
    show(card({ title, paragraphs: [text], kind: next.state, buttons: [again] }));
    await pauseOrOnline(Math.max(2000, next.retry_ms ?? 30000));
  }
}

async function leavePage() {
  current?.unmount();
  current = null;
  lease = null;
  for (const name of ["lease", "holder", "paused"]) banner(name, null);
}

/** The bar at the bottom: what is chosen, undo, submit. */
function makeDock({ label, onSubmit }) {
  const count = h("span", { class: "count numeric", id: "count" });
  const hint = h("span", { class: "muted small", id: "hint" });
  const undo = h("button", { type: "button", class: "button quiet", id: "undo", onclick: (event) => current?.undo(timeNow(), event.detail ? "mouse" : "keyboard") }, mark("undo"), "Undo");
  const submit = h("button", { type: "button", class: "button", id: "submit", "aria-describedby": "hint", onclick: (event) => event.detail <= 1 && onSubmit() }, label);
  return { element: h("div", { class: "dock", role: "group", "aria-label": "Submit" }, h("div", { class: "dock-inner" }, h("div", {}, count, h("br", {}), hint), h("div", { class: "actions" }, undo, submit))), count, hint, undo, submit, settled: false, busy: false };
}

function drawDock(dock, page) {
  const blocker = page.blocker();
  dock.count.textContent = page.countText();
  dock.hint.textContent = dock.busy ? "Submitting…" : page.hint?.() ?? dock.note ?? blocker ?? "";
  dock.undo.disabled = dock.busy || page.locked || !page.canUndo;
  dock.submit.disabled = dock.busy || !dock.settled || blocker !== undefined;
}

function openPage(task, recorder, label, onSubmit, extra) {
  const dock = makeDock({ label, onSubmit });
  const Page = PAGES[task.task];
  const page = new Page(task, { recorder, settings: session.settings, onChange: (changed) => drawDock(dock, changed) });
  current = page;
  const place = h("div", { "data-screen": task.practice ? "practice" : "task", "data-assignment": task.assignment });
  show(place);
  if (extra) place.append(extra);
  page.mount(place);
  byId("dock-place").replaceChildren(dock.element);
  setTimeout(() => { dock.settled = true; drawDock(dock, page); }, SETTLE_MS);
  byId("main").focus({ preventScroll: true });
  return { page, dock, place };
}

async function annotate(next) {
  const { task } = normal(next);
  queue.begin(task.assignment, task.resume?.batches?.[tab] ?? -1);
  const recorder = new Recorder(queue, session.settings);
  lease = { ends: performance.now() + task.lease.left_ms, state: "leased" };
  let asked = false;
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  const { page, dock, place } = openPage(task, recorder, "Submit page", async () => {
    if (dock.busy || dock.submit.disabled) return;
    const doubt = asked ? undefined : page.doubt();
    if (doubt) {
      asked = true;
      const go = await ask({ ...doubt, buttons: [{ label: "Look again", value: false, class: "" }, { label: "Submit all the same", value: true }] });
      if (!go) return;
    }
    dock.busy = true;
    page.locked = true;
    drawDock(dock, page);
    try {
      const answer = await submit(task, page, recorder);
      if (answer.complete) {
        finish("submitted");
        return;
      }
      page.applyState(answer.state);
      banner("differs", { kind: "warn", text: "Another tab worked on this page too. This is what has been saved: please look once more, then submit." });
    } catch (error) {
      stop(error);
      finish("left");
    }
    dock.busy = false;
    page.locked = false;
    drawDock(dock, page);
  }, undefined);
  place.append(exits(task, finish));
  drawProgress(next.progress, task.page);
  drawLease();
  const clock = setInterval(drawLease, 1000);
  preload(next.ahead ?? [], page);
  announce(`${byId("progress-text").textContent}. ${place.querySelector("h1").textContent}`);
  page.reopen = () => finish("reopened");
  const outcome = await finished;
  clearInterval(clock);
  banner("differs", null);
  await leavePage();
  return outcome;
}

/** The answer of /api/next holds the page's document either under "task" or spread beside the state. */
function normal(next) {
  const document_ = next.pictures ? next : next.task;
  return { task: document_ };
}

/** Sends what is left, then asks the server whether it has everything. */
async function submit(task, page, recorder) {
  recorder.event("submit", page.answer());
  const n = queue.cut();
  for (let round = 0; ; round += 1) {
    await queue.drained();
    if (queue.stopped) throw new ApiError(403, "blocked", "");
    const answer = await untilAnswered(() => api.post("api/submit", { assignment: task.assignment, tab, n }), onAway);
    banner("away", null);
    if (answer.complete || answer.state) return answer;
    queue.fillGaps(answer.missing ?? []);
    if (round > 5) await sleep(2000);
  }
}

/** Ways out of a page, for people who do not want to finish it. */
function exits(task, finish) {
  const giveBack = button("Give this page back", async () => {
    const go = await ask({ title: "Give this page back?", text: "Somebody else will get it. What you did on it is not used.", buttons: [{ label: "Keep working", value: false, class: "" }, { label: "Give back", value: true }] });
    if (!go) return;
    try {
      await queue.drained();
      await untilAnswered(() => api.post("api/return", { assignment: task.assignment }), onAway);
      finish("returned");
    } catch (error) {
      stop(error);
      finish("left");
    }
  }, "quiet compact");
  const withdraw = button("Withdraw", async () => {
    const go = await ask({ title: "Withdraw from this project?", text: "Your work is kept out of the results, and you get no further page. This cannot be undone here.", buttons: [{ label: "Keep working", value: false, class: "" }, { label: "Withdraw", value: true, class: "danger" }] });
    if (!go) return;
    try {
      await untilAnswered(() => api.post("api/withdraw", {}), onAway);
      stop(new ApiError(403, "withdrawn", ""));
    } catch (error) {
      stop(error);
    }
    finish("left");
  }, "quiet compact");
  return h("details", { class: "help exits" }, h("summary", {}, "Stop or leave this page"), h("div", {}, h("p", { class: "muted" }, "You can close the tab at any time and come back with the same link: everything up to then is kept."), h("div", { class: "row" }, giveBack, withdraw)));
}

/** Fetches the next page's photos into the browser's cache, after this page's own have arrived. */
async function preload(urls, page) {
  while (current === page && page.blocker?.()?.startsWith("Loading")) await sleep(250);
  for (let k = 0; k < urls.length && current === page; k += 4) {
    await Promise.all(urls.slice(k, k + 4).map((url) => new Promise((resolve) => {
      const image = new Image();
      image.fetchPriority = "low";
      image.onload = image.onerror = resolve;
      image.src = url;
    })));
  }
}

// ---- practice and preview

async function practise(next) {
  const { task } = normal(next);
  task.practice = true;
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  const intro = h("div", { class: "notice practice-note" }, mark("info"), h("p", {}, "This is a practice page: nothing is recorded, and you see at once what is right. Work starts after it."));
  let passed = false;
  const { page, dock } = openPage(task, new NoRecorder(), "Check", async () => {
    if (passed) {
      finish("passed");
      return;
    }
    if (dock.busy) return;
    dock.busy = true;
    drawDock(dock, page);
    try {
      const answer = await untilAnswered(() => api.post("api/practice", { tab, assignment: task.assignment, ...page.answer() }), onAway);
      banner("away", null);
      page.showFeedback(answer.feedback);
      passed = answer.passed;
      intro.className = `notice practice-note ${passed ? "good" : "bad"}`;
      const wrong = answer.feedback.filter((item) => item.expected !== item.got || item.inside === false).length;
      const text = passed ? "Well done: you have passed. Press “Start work”." : `${plural(wrong, "answer")} ${wrong === 1 ? "is" : "are"} not right yet. Look at the notes, correct, and check again.`;
      intro.replaceChildren(mark(passed ? "check" : "cross"), h("p", {}, text));
      announce(text);
      dock.note = text;
      if (passed) {
        dock.submit.textContent = "Start work";
        page.locked = true;
      }
    } catch (error) {
      stop(error);
      finish("left");
    }
    dock.busy = false;
    drawDock(dock, page);
  }, intro);
  drawProgress(next.progress, task.page);
  const outcome = await finished;
  await leavePage();
  return outcome;
}

/** Before a worker accepts the assignment: the page to look at, nothing to press, nothing sent. */
function showPreview() {
  byId("topbar").hidden = true;
  banner("preview", { kind: "info", text: "This is a preview. Accept the assignment to start; nothing is recorded yet." });
  const place = h("div", { "data-screen": "preview" });
  show(place);
  const task = session.sample;
  if (!task) {
    place.append(card({ title: session.project.title, paragraphs: session.project.instructions ?? [], kind: "preview" }));
    return;
  }
  place.append(...(session.project.instructions ?? []).map((text) => h("p", { class: "preview-text" }, text)));
  current = new PAGES[task.task](task, { recorder: new NoRecorder(), settings: session.settings, onChange: () => {}, readOnly: true });
  current.mount(place);
}

start();
