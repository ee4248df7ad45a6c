/** The owner's pages: one document, five views by the fragment, all data by fetch. */

import { ApiError, BASE, OwnerApi } from "./api.js";
import { hourBars, heatMap, meter } from "./charts.js";
import { announce, byId, duration, h, mark, plural, toast } from "./dom.js";
import { Replay } from "./replay.js";

const POLL_MS = 5000;
const api = new OwnerApi(document.querySelector('meta[name="csrf"]').content);
const view = byId("view");
let project = null;
let shown = { name: "", stop: new AbortController() };

// ---- numbers as text

const percent = (value, digits = 0) => (value === null || value === undefined ? "–" : `${(value * 100).toFixed(digits)} %`);
const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const whole = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));
const seconds = (ms) => (ms === null || ms === undefined ? "–" : duration(ms / 1000, true));
const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const date = (ms) => (ms ? when.format(new Date(ms)) : "–");

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let k = 0;
  while (value >= 1000 && k < units.length - 1) { value /= 1000; k += 1; }
  return `${value.toFixed(k && value < 10 ? 1 : 0)} ${units[k]}`;
}

function ago(ms) {
  if (!ms) return "never";
  const past = (Date.now() - ms) / 1000;
  if (past < 60) return "just now";
  if (past < 3600) return `${duration(past)} ago`;
  return past < 86400 ? `${Math.round(past / 3600)} h ago` : date(ms);
}

// ---- parts

function stat(label, value, more, extra) {
  return h("div", { class: "stat" }, h("dt", {}, label), h("dd", {}, value), more ? h("dd", { class: "more" }, more) : undefined, extra ? h("dd", { class: "more" }, extra) : undefined);
}

const stats = (...items) => h("dl", { class: "stats" }, items);

function head(title, ...extra) {
  return h("div", { class: "page-head" }, h("h2", { tabindex: "-1" }, title), ...extra);
}

function table({ label, columns, rows, empty = "Nothing yet.", dense = false }) {
  if (!rows.length) return h("div", { class: "table-wrap" }, h("p", { class: "empty" }, empty));
  return h(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      { "aria-label": label, class: dense ? "dense" : undefined },
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : undefined, "aria-sort": column.sorted }, column.sort ? h("button", { type: "button", onclick: column.sort }, column.title) : column.title || h("span", { class: "visually-hidden" }, column.label))))),
      h("tbody", {}, rows),
    ),
  );
}

const cell = (content, numeric = false) => h("td", { class: numeric ? "number" : undefined }, content);

function stateChip(state) {
  const kinds = { active: ["good", "check"], new: ["", "info"], held: ["warn", "alert"], blocked: ["bad", "cross"], withdrawn: ["", "cross"] };
  const [kind, icon] = kinds[state] ?? ["", "info"];
  return h("span", { class: `chip ${kind}` }, mark(icon), state);
}

function field(label, control) {
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control);
}

/** Runs a change, reports its outcome, and repeats the view. */
async function change(work, done) {
  try {
    const answer = await work();
    toast(done);
    await loadProject();
    return answer;
  } catch (error) {
    fault(error);
    return null;
  }
}

function fault(error) {
  if (error instanceof ApiError && error.status === 401) {
    location.href = `${BASE}owner/login`;
    return;
  }
  if (!(error instanceof ApiError)) console.error(error);
  byId("fault").replaceChildren(h("div", { class: "notice bad", role: "alert" }, mark("alert"), h("p", {}, error instanceof ApiError ? (error.status ? error.message : "The server cannot be reached. This page tries again by itself.") : "Something went wrong in this page. Reload it.")));
}

const clearFault = () => byId("fault").replaceChildren();

async function loadProject() {
  project = await api.get("owner/api/project");
  const chip = byId("project-state");
  chip.className = `chip ${project.paused ? "warn" : "good"}`;
  chip.replaceChildren(mark(project.paused ? "clock" : "check"), project.paused ? "paused" : "running");
}

// ---- overview

async function overview(stop) {
  const top = h("div", {});
  const plot = h("section", { class: "card" }, h("h3", {}, "Pages submitted, by hour"), h("div", { class: "scroll" }));
  const classes = h("div", {});
  const broken = h("section", { class: "card", hidden: true });
  const page = h("div", { class: "page" }, head("Overview"), top, h("div", { class: "columns" }, h("div", { class: "page" }, plot, h("section", { class: "card", hidden: project.task === "coco" }, h("h3", {}, "Progress by class"), classes), broken), controls()));
  const draw = async () => {
    const progress = await api.get("owner/api/progress");
    const { total, done, leased, left } = progress.pages;
    top.replaceChildren(
      stats(
        stat("Pages done", `${whole(done)} of ${whole(total)}`, `${whole(leased)} in work, ${whole(left)} left${progress.surplus ? `, ${whole(progress.surplus)} surplus` : ""}`, meter(total ? done / total : 0, `${percent(total ? done / total : 0)} done`)),
        stat("Time left", progress.eta_ms === null ? "–" : seconds(progress.eta_ms), progress.eta_ms === null ? "known after the first pages" : `at the pace of now: about ${date(Date.now() + progress.eta_ms)}`),
        stat("Annotators", whole(progress.annotators.active), `active now, ${whole(progress.annotators.all)} in all`),
        stat("Time per page", seconds(progress.ms_per_page), `${whole(progress.pictures_done)} photos done`),
        stat("Log", whole(progress.events), `events, ${bytes(progress.bytes)}${progress.refused_batches ? `, ${plural(progress.refused_batches, "refused batch", "refused batches")}` : ""}`),
      ),
    );
    plot.lastChild.replaceChildren(progress.per_hour.some(([, pages]) => pages) ? hourBars(progress.per_hour, { unit: "pages" }) : h("p", { class: "empty" }, "No page has been submitted yet."));
    classes.replaceChildren(
      table({
        label: "Progress by class",
        columns: [{ title: "Class" }, { title: "Pages complete", number: true }, { title: "", label: "Share" }],
        rows: project.classes.map((item) => h("tr", {}, h("th", { scope: "row" }, item.name, " ", item.id !== item.name ? h("span", { class: "muted small" }, item.id) : ""), cell(`${item.pages_done} of ${item.pages}`, true), cell(meter(item.pages ? item.pages_done / item.pages : 0, `${item.name}: ${percent(item.pages ? item.pages_done / item.pages : 0)}`)))),
        empty: "No class: plan the project first.",
      }),
    );
    broken.hidden = !progress.broken.length;
    if (progress.broken.length) {
      broken.replaceChildren(
        h("h3", {}, "Pictures that could not be shown"),
        table({ label: "Broken pictures", columns: [{ title: "Picture" }, { title: "Reason" }, { title: "Times", number: true }], rows: progress.broken.map((item) => h("tr", {}, h("th", { scope: "row" }, item.picture), cell(item.reason), cell(item.times, true))) }),
      );
    }
  };
  await draw();
  poll(async () => { await loadProject(); await draw(); }, stop);
  return page;
}

/** Pause, extend, invite. */
function controls() {
  const message = h("input", { id: "pause-message", maxlength: 300, placeholder: "Back at 14:00" });
  const pause = h("button", { type: "button", class: "button quiet", id: "pause" });
  const drawPause = () => {
    pause.textContent = project.paused ? "Resume the project" : "Pause the project";
    message.parentElement?.toggleAttribute("hidden", project.paused);
  };
  pause.addEventListener("click", async () => {
    const paused = !project.paused;
    await change(() => api.post("owner/api/pause", { paused, message: message.value }), paused ? "Paused: no new page is given out." : "Resumed.");
    drawPause();
  });
  const overlap = h("input", { id: "overlap", type: "number", min: project.overlap, max: 100, value: project.overlap });
  const minutes = h("input", { id: "lease-minutes", type: "number", min: 0, max: 1440, value: 0 });
  const extend = h("button", { type: "submit", class: "button quiet" }, "Save");
  const extendForm = h("form", { class: "form" }, h("h3", {}, "Extend"), h("p", { class: "small muted" }, `Let more annotators see each page, or give those who work now more than their ${project.lease_minutes} minutes.`), h("div", { class: "row" }, field("Annotators per page", overlap), field("More minutes", minutes)), h("div", { class: "row" }, extend));
  extendForm.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = {};
    if (Number(overlap.value) !== project.overlap) body.overlap = Number(overlap.value);
    if (Number(minutes.value)) body.lease_minutes = Number(minutes.value);
    if (!Object.keys(body).length) toast("Nothing was changed.");
    else if (await change(() => api.post("owner/api/extend", body), "Saved.")) minutes.value = 0;
  });
  const count = h("input", { id: "invite-number", type: "number", min: 1, max: 1000, value: 5 });
  const links = h("textarea", { class: "links", id: "invite-links", readonly: true, "aria-label": "Links, one a line", hidden: true, rows: 6 });
  const inviteForm = h("form", { class: "form" }, h("h3", {}, "Invite annotators"), h("p", { class: "small muted" }, "One link for each person; it brings them back to their own page at any time."), h("div", { class: "row" }, field("Number of links", count)), h("div", { class: "row" }, h("button", { type: "submit", class: "button quiet" }, "Make links")), links);
  inviteForm.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await change(() => api.post("owner/api/invite", { number: Number(count.value) }), "Links made.");
    if (!answer) return;
    links.hidden = false;
    links.value = answer.links.join("\n");
    links.focus();
    links.select();
  });
  const card = h("aside", { class: "card divided", "aria-label": "Controls" }, h("div", { class: "form" }, h("h3", {}, "Pause"), h("p", { class: "small muted" }, "Annotators finish the page that they have; no new one is given out."), field("Message for annotators (optional)", message), h("div", { class: "row" }, pause)), extendForm, inviteForm);
  drawPause();
  return card;
}

// ---- annotators

let order = { key: "pages", down: true };

const COLUMNS = [
  { key: "worker", title: "Annotator" },
  { key: "state", title: "State" },
  { key: "pages", title: "Pages", number: true },
  { key: "control_score", title: "Controls", number: true },
  { key: "agreement", title: "Agrees", number: true },
  { key: "median_page_ms", title: "Time per page", number: true },
  { key: "never_hovered", title: "Never hovered", number: true },
  { key: "no_point", title: "No point", number: true },
  { key: "outside_boxes", title: "Outside boxes", number: true },
  { key: "last_ms", title: "Last seen", number: true },
];

async function annotators(stop) {
  const place = h("div", {});
  const draw = async () => {
    const { annotators: list } = await api.get("owner/api/annotators");
    const value = (item) => item[order.key] ?? -Infinity;
    list.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (order.down ? -1 : 1));
    const columns = COLUMNS.map((column) => ({ ...column, sorted: column.key === order.key ? (order.down ? "descending" : "ascending") : undefined, sort: () => { order = { key: column.key, down: column.key === order.key ? !order.down : true }; draw().catch(fault); } }));
    const focused = document.activeElement?.closest("th")?.cellIndex;
    place.replaceChildren(
      table({ label: "Annotators", columns: [...columns, { title: "", label: "Actions" }], rows: list.map(annotatorRow), dense: true, empty: "No annotator has opened a link yet. Make links on the overview, or by collect invite." }),
    );
    if (focused !== undefined) place.querySelectorAll("th button")[focused]?.focus();
  };
  const act = (worker, action, reason, done) => change(() => api.post("owner/api/block", { worker, action, reason }), done).then(draw).catch(fault);

  function annotatorRow(item) {
    const flag = (bad, text) => (bad ? h("span", { class: "flag" }, text, h("span", { class: "visually-hidden" }, " (conspicuous)")) : text);
    const button = (label, run, style = "quiet") => h("button", { type: "button", class: `button compact ${style}`, "aria-label": `${label} ${item.worker}`, onclick: run }, label);
    const actions = ["withdrawn", "forgotten"].includes(item.state) ? [] : item.state === "blocked"
      ? [button("Unblock", () => act(item.worker, "unblock", "", `${item.worker} can go on.`))]
      : [
          item.state === "held" ? button("Release", () => act(item.worker, "release", "", `${item.worker} can go on.`)) : button("Hold", () => reasonFor(item.worker, "Hold", "hold", act)),
          button("Block", () => reasonFor(item.worker, "Block", "block", act), "danger"),
        ];
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: `#showings?worker=${item.worker}` }, h("code", {}, item.worker)), h("div", { class: "small muted" }, item.platform)),
      cell([stateChip(item.state), item.reason ? h("div", { class: "small muted" }, item.reason) : ""]),
      cell(`${whole(item.pages)}${item.surplus ? ` + ${item.surplus}` : ""}`, true),
      cell(item.control_score === null ? "–" : [flag(item.control_score < 0.75, percent(item.control_score)), h("span", { class: "muted" }, ` of ${item.controls}`)], true),
      cell(percent(item.agreement), true),
      cell(seconds(item.median_page_ms), true),
      cell(item.never_hovered === null ? "–" : flag(item.never_hovered > 0.5, percent(item.never_hovered)), true),
      cell(whole(item.no_point), true),
      cell(percent(item.outside_boxes), true),
      cell(ago(item.last_ms), true),
      cell(h("div", { class: "row" }, actions)),
    );
  }
  await draw();
  poll(draw, stop, () => !document.querySelector("dialog[open]"));
  return h("div", { class: "page" }, head("Annotators", h("a", { class: "button quiet compact", href: `${BASE}owner/download/annotators.csv`, download: true }, "Download as CSV")), h("p", { class: "muted" }, "Quality decides nothing by itself: conspicuous numbers are marked, and you hold or block. Held annotators wait; blocked ones are told so. Their submitted pages stay in the log."), place);
}

/** Asks why, then holds or blocks. */
function reasonFor(worker, title, action, act) {
  const reason = h("input", { id: "reason", maxlength: 200 });
  const dialog = h("dialog", { "aria-labelledby": "reason-title" });
  const form = h(
    "form",
    { method: "dialog", class: "stack" },
    h("h2", { id: "reason-title" }, `${title} ${worker}?`),
    h("p", {}, action === "block" ? "Pages that are leased to this annotator are freed. What has been submitted stays in the log." : "No further page is given out to this annotator until you release them."),
    field("Reason (for your own notes)", reason),
    h("div", { class: "row" }, h("button", { value: "yes", class: `button ${action === "block" ? "danger" : ""}` }, title), h("button", { value: "", class: "button quiet", formnovalidate: true }, "Cancel")),
  );
  dialog.append(form);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.returnValue === "yes") act(worker, action, reason.value, `${worker} is ${action === "block" ? "blocked" : "held"}.`);
  });
  document.body.append(dialog);
  dialog.showModal();
}

// ---- agreement

async function agreement() {
  const data = await api.get("owner/api/agreement");
  const click = data.click_distance;
  const pairs = [...(data.cohen?.pairs ?? [])].sort((a, b) => b.n - a.n).slice(0, 100);
  return h(
    "div",
    { class: "page" },
    head("Agreement"),
    stats(
      stat("Krippendorff’s alpha", number(data.krippendorff), "1 is full agreement, 0 is chance"),
      stat("Fleiss’ kappa", number(data.fleiss), "photos with the same number of annotators"),
      stat("Cohen’s kappa", number(data.cohen?.mean), `mean of ${plural(data.cohen?.pairs?.length ?? 0, "pair")}`),
      stat("Distance of clicks", click?.median === null || click?.median === undefined ? "–" : percent(click.median, 1), `median, of the photo’s size, over ${plural(click?.n ?? 0, "pair")} of clicks`),
      stat("Photos compared", whole(data.units), `seen by at least two of ${plural(data.raters ?? 0, "annotator")}`),
    ),
    h(
      "div",
      { class: "columns" },
      h("section", { class: "card" }, h("h3", {}, "By class"), table({
        label: "Agreement by class",
        columns: [{ title: "Class" }, { title: "Photos", number: true }, { title: "Alpha", number: true }, { title: "Selected", number: true }, { title: "", label: "Share" }],
        rows: (data.by_class ?? []).map((item) => h("tr", {}, h("th", { scope: "row" }, item.name), cell(whole(item.units), true), cell(number(item.krippendorff), true), cell(percent(item.selected), true), cell(meter(item.selected ?? 0, `${percent(item.selected)} selected`)))),
        empty: "No photo has been seen by two annotators yet.",
      })),
      h("section", { class: "card" }, h("h3", {}, "Pairs of annotators"), table({
        label: "Pairs of annotators",
        columns: [{ title: "Pair" }, { title: "Kappa", number: true }, { title: "Photos", number: true }],
        rows: pairs.map((item) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, item.a), " ", h("code", {}, item.b)), cell(number(item.kappa), true), cell(whole(item.n), true))),
        empty: "No two annotators have seen the same photo yet.",
      })),
    ),
  );
}

// ---- showings and their replay

async function showings(stop, query) {
  const place = h("div", {});
  const worker = h("input", { id: "filter-worker", value: query.get("worker") ?? "", placeholder: "all" });
  const chosen = query.get("class") ?? "";
  const wanted = h("select", { id: "filter-class" }, h("option", { value: "" }, "all"), project.classes.map((item) => h("option", { value: item.id, selected: item.id === chosen }, item.name)));
  const apply = () => { location.hash = `#showings?${new URLSearchParams(Object.entries({ worker: worker.value.trim(), class: wanted.value }).filter(([, value]) => value))}`; };
  const form = h("form", { class: "filters" }, field("Annotator", worker), project.task === "coco" ? "" : field("Class", wanted), h("button", { class: "button quiet compact", type: "submit" }, "Filter"));
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  const rows = [];
  const load = async (after) => {
    const filter = new URLSearchParams(Object.entries({ worker: query.get("worker"), class: chosen, after }).filter(([, value]) => value));
    filter.set("limit", "50");
    const data = await api.get(`owner/api/showings?${filter}`);
    rows.push(...data.showings.map((item) => h(
      "tr",
      { class: "clickable" },
      h("th", { scope: "row" }, h("a", { href: `#replay/${item.assignment}` }, date(item.submitted_ms))),
      cell(h("code", {}, item.worker)),
      ...(project.task === "coco" ? [] : [cell(item.name ?? "–")]),
      cell(item.pictures > 1 ? `${item.selected} of ${item.pictures}` : whole(item.selected), true),
      cell(seconds(item.ms), true),
      cell(item.surplus ? "surplus" : ""),
    )));
    const more = data.next ? h("div", { class: "row" }, h("button", { type: "button", class: "button quiet", onclick: () => load(data.next).catch(fault) }, "Show more")) : "";
    place.replaceChildren(h("div", { class: "page" }, table({ label: "Showings", columns: [{ title: "Submitted" }, { title: "Annotator" }, ...(project.task === "coco" ? [] : [{ title: "Class" }]), { title: project.task === "coco" ? "Icons" : "Selected", number: true }, { title: "Time", number: true }, { title: "", label: "Note" }], rows, empty: "No page has been submitted yet." }), more));
  };
  await load(null);
  return h("div", { class: "page" }, head("Showings"), h("p", { class: "muted" }, "One line for each submitted page. Open one to replay it."), form, place);
}

async function replay(stop, query, assignment) {
  const record = await api.get(`owner/api/replay/${encodeURIComponent(assignment)}`);
  record.pictures = record.pictures.filter((picture) => picture.role !== "reserve" || picture.state !== "unseen");
  record.icons = Object.fromEntries((project.icons ?? []).map((item) => [item.id, item.icon]));
  const player = new Replay(record);
  const { bar, body } = player.elements();
  stop.addEventListener("abort", () => player.play(false));
  const name = project.classes.find((item) => item.id === record.class)?.name;
  const about = `${name ? `${name}, ` : ""}annotator ${record.worker}, ${date(record.start_ms)}`;
  return h("div", { class: "page" }, head("Replay", h("a", { href: "#showings" }, "All showings")), h("p", { class: "muted" }, about), bar, body);
}

// ---- clicks

async function clicks(stop, query) {
  const classes = project.task === "coco" ? project.icons ?? [] : project.classes;
  const chosen = query.get("class") ?? classes[0]?.id ?? "";
  const wanted = h("select", { id: "heat-class", onchange: () => (location.hash = `#clicks?class=${encodeURIComponent(wanted.value)}`) }, classes.map((item) => h("option", { value: item.id, selected: item.id === chosen }, item.name)));
  const board = h("div", { class: "stack" });
  const data = chosen ? await api.get(`owner/api/heatmap?class=${encodeURIComponent(chosen)}`) : { size: 24, counts: [], clicks: 0, points: [], pictures: [] };
  const drawAll = () => board.replaceChildren(h("h3", {}, `All photos: ${plural(data.clicks, "click")}`), heatMap(data), h("p", { class: "small muted" }, "Each photo is stretched to a square; a stronger colour means more clicks."));
  const drawOne = async (picture) => {
    const one = await api.get(`owner/api/heatmap?picture=${encodeURIComponent(picture.picture)}`);
    board.replaceChildren(h("h3", {}, `${picture.picture}: ${plural(one.clicks, "click")}`), h("div", { class: "heat-board" }, h("img", { src: picture.url, alt: picture.picture }), heatMap(one, { frame: false })), h("div", { class: "row" }, h("button", { type: "button", class: "button quiet compact", onclick: () => { press(null); drawAll(); } }, "Back to all photos")));
  };
  const buttons = data.pictures.map((picture) => h("button", { type: "button", class: "thumb", "aria-pressed": "false", onclick: (event) => { press(event.currentTarget); drawOne(picture).catch(fault); } }, h("img", { src: picture.url, alt: picture.picture, loading: "lazy" }), plural(picture.clicks, "click")));
  const press = (button) => buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  drawAll();
  return h(
    "div",
    { class: "page" },
    head("Clicks", h("div", { class: "filters" }, field("Class", wanted))),
    h("div", { class: "heat" }, h("section", { class: "card" }, board), h("section", { class: "card" }, h("h3", {}, "Photos with the most clicks"), buttons.length ? h("ul", { class: "thumbs" }, buttons.map((button) => h("li", {}, button))) : h("p", { class: "empty" }, "No click yet."))),
  );
}

// ---- the frame

const VIEWS = { overview, annotators, agreement, showings, replay, clicks };

/** Repeats `work` while the view is shown and the tab is visible. */
function poll(work, stop, allowed = () => true) {
  const timer = setInterval(async () => {
    if (document.visibilityState !== "visible" || !allowed()) return;
    try {
      await work();
      clearFault();
    } catch (error) {
      fault(error);
    }
  }, POLL_MS);
  stop.addEventListener("abort", () => clearInterval(timer));
}

async function route() {
  const [path, search = ""] = location.hash.slice(1).split("?");
  const [name, argument] = (path || "overview").split("/");
  if (name === "main") return;
  shown.stop.abort();
  const stop = new AbortController();
  shown = { name, stop };
  for (const link of byId("nav").querySelectorAll("a")) {
    const current = link.hash.slice(1) === name || (name === "replay" && link.hash === "#showings");
    if (current) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  clearFault();
  try {
    if (!project) await loadProject();
    const page = await (VIEWS[name] ?? overview)(stop.signal, new URLSearchParams(search), argument);
    if (shown.stop !== stop) return;
    view.replaceChildren(page);
    window.scrollTo(0, 0);
    const heading = view.querySelector("h2");
    heading?.focus({ preventScroll: true });
    announce(heading?.textContent ?? "");
  } catch (error) {
    fault(error);
  }
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
byId("logout").addEventListener("click", async () => {
  try {
    await api.post("owner/api/logout", {});
    location.href = `${BASE}owner/login`;
  } catch (error) {
    fault(error);
  }
});
window.addEventListener("hashchange", route);
route();
