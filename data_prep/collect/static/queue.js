/**
 * Events leave this page only after they are kept in it: a batch is written to IndexedDB, posted, and deleted after the server acknowledged its commit.
 *
 * A batch is fixed when it is written. Every retry posts the same bytes under the same (assignment, tab, number), so the server can tell a repetition from a loss.
 * Batches left behind by a closed tab or a killed browser are posted by the next page of the same annotator.
 * Where IndexedDB is not available (some private windows), batches are kept in memory, and `persistent` is false so that the page can say so.
 */

import { ApiError, pauseOrOnline } from "./api.js";

const DATABASE = "luab-collect";
const STORE = "batches";
const KEEPALIVE_LIMIT = 60000; // browsers allow 64 KiB of keepalive bodies in flight
const MOVES = new Set(["move", "drag_move"]);

/** The limits of the server and of the browser count bytes of UTF-8; the length of a text counts UTF-16 units. */
const encoder = new TextEncoder();
export const bytesOf = (text) => encoder.encode(text).length;

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Batches in IndexedDB, or in memory if `open` fails. Key: [assignment, tab, number]. */
export class BatchStore {
  constructor() {
    this.database = null;
  }

  async open() {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: ["assignment", "tab", "n"] });
      this.database = await promised(request);
      this.database.onversionchange = () => this.database.close();
    } catch {
      this.database = null;
    }
    return this.database !== null;
  }

  /** Resolves after the transaction is complete; false if the batch could not be kept. */
  async put(batch) {
    if (!this.database) return false;
    try {
      const transaction = this.database.transaction(STORE, "readwrite", { durability: "strict" });
      transaction.objectStore(STORE).put(batch);
      await new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = transaction.onerror = () => reject(transaction.error);
        transaction.commit?.();
      });
      return true;
    } catch {
      return false;
    }
  }

  async remove(batch) {
    if (!this.database) return;
    try {
      await promised(this.database.transaction(STORE, "readwrite").objectStore(STORE).delete([batch.assignment, batch.tab, batch.n]));
    } catch {
      // A batch that stays is posted once more on the next visit; the server knows it by its number.
    }
  }

  async all(worker) {
    if (!this.database) return [];
    const batches = await promised(this.database.transaction(STORE).objectStore(STORE).getAll());
    return batches.filter((batch) => batch.worker === worker);
  }
}

export class Queue {
  /**
   * @param {object} options
   * @param {import("./api.js").AnnotatorApi} options.api
   * @param {string} options.tab id of this document
   * @param {string} options.worker batches of other workers in this browser are left alone
   * @param {object} options.settings of /api/session
   * @param {(state: object) => void} options.onState called with {waiting, away, persistent} when one of them changes
   * @param {(answer: object, batch: object) => void} options.onAcknowledged
   * @param {(error: ApiError) => void} options.onStopped the server will not take batches any more (blocked, withdrawn)
   */
  constructor(options) {
    Object.assign(this, options);
    this.store = new BatchStore();
    this.waiting = [];
    this.buffer = [];
    this.samples = 0;
    this.assignment = null;
    this.next = 0;
    this.away = null;
    this.persistent = true;
    this.movesStopped = new Set();
    this.pumping = false;
    this.stopped = false;
    this.writing = Promise.resolve();
  }

  async open() {
    this.persistent = await this.store.open();
    this.waiting = await this.store.all(this.worker);
    this.waiting.sort((a, b) => a.wrote - b.wrote || a.n - b.n);
    setInterval(() => this.cut(), this.settings.flush_ms);
    window.addEventListener("online", () => this.pump());
    window.addEventListener("pagehide", () => this.leave());
    document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.cut());
    window.addEventListener("beforeunload", (event) => {
      if (!this.persistent && (this.waiting.length || this.buffer.length)) event.preventDefault();
    });
    this.report();
    this.pump();
  }

  /** Starts numbering the batches of `assignment`; `last` is the last number that the server has of this tab, or -1. */
  begin(assignment, last) {
    this.assignment = assignment;
    const kept = this.waiting.filter((batch) => batch.assignment === assignment && batch.tab === this.tab).map((batch) => batch.n);
    this.next = Math.max(last, ...kept) + 1;
  }

  /** Adds an event to the open batch. `urgent` events (a choice of the annotator) are written at once. */
  push(event, urgent = false) {
    if (this.stopped || !this.assignment) return;
    if (MOVES.has(event.k)) {
      if (this.movesStopped.has(this.assignment)) return;
      this.samples += event.p.length;
    }
    this.buffer.push(event);
    if (urgent || this.buffer.length >= this.settings.flush_events || this.samples >= this.settings.max_batch_samples / 2) this.cut();
  }

  /** Called before a batch is cut, so that an open run of moves is in it. */
  beforeCut() {}

  /** Writes what is buffered as one batch or several; returns the number of the last one. */
  cut() {
    this.beforeCut();
    while (this.buffer.length) {
      let count = this.buffer.length;
      let body = this.body(this.next, this.buffer.slice(0, count));
      while (bytesOf(body) > this.settings.max_batch_bytes * 0.9 && count > 1) {
        count = Math.ceil(count / 2);
        body = this.body(this.next, this.buffer.slice(0, count));
      }
      this.buffer.splice(0, count);
      this.write({ worker: this.worker, assignment: this.assignment, tab: this.tab, n: this.next, wrote: Date.now(), count, body });
      this.next += 1;
    }
    this.samples = 0;
    return this.next - 1;
  }

  body(n, events, assignment = this.assignment, tab = this.tab) {
    return JSON.stringify({ v: 1, assignment, tab, n, wrote_ms: Date.now(), events });
  }

  write(batch) {
    this.waiting.push(batch);
    batch.kept = this.store.put(batch).then((kept) => {
      if (!kept && this.persistent) {
        this.persistent = false;
        this.report();
      }
    });
    this.report();
    this.pump();
  }

  /** Posts waiting batches one after another until none is left or the annotator is turned away. */
  async pump() {
    if (this.pumping || this.stopped) return;
    this.pumping = true;
    try {
      await this.postAll();
    } finally {
      this.pumping = false;
      this.report();
    }
  }

  async postAll() {
    let pause = 1000;
    while (this.waiting.length && !this.stopped) {
      const batch = this.waiting[0];
      await batch.kept; // kept first, posted second
      try {
        const answer = await this.api.post("api/batch", batch.body, { headers: { "X-Sent-Ms": String(Date.now()) } });
        this.setAway(null);
        pause = 1000;
        await this.drop(batch);
        this.onAcknowledged(answer, batch);
      } catch (error) {
        if (!(error instanceof ApiError)) {
          console.error(error); // a fault of this page: the batch stays, and is tried again
          await pauseOrOnline(pause);
          pause = Math.min(30000, pause * 2);
        } else if (error.away) {
          this.setAway(error);
          await pauseOrOnline(Math.max(error.retryAfter * 1000, error.code === "slow_down" ? 200 : pause));
          pause = Math.min(30000, pause * 2);
        } else {
          await this.settle(batch, error);
        }
      }
    }
  }

  /** What to do with a batch that the server refused. */
  async settle(batch, error) {
    if (error.code === "page_limit" || error.code === "too_large") {
      this.movesStopped.add(batch.assignment);
      await this.rewrite(batch, (events) => events.filter((event) => !MOVES.has(event.k)));
    } else if (error.code === "bad_batch" && !batch.replaced) {
      batch.replaced = true;
      const why = `${error.details.at ?? ""} ${error.message}`.trim().slice(0, 200);
      await this.rewrite(batch, (events) => [{ k: "lost", t: events[0]?.t ?? Date.now(), count: events.length, why }]);
    } else if (error.code === "batch_differs" || error.code === "not_yours" || error.code === "bad_batch") {
      // The server keeps both bodies; the page was somebody else's; even the note of the loss was refused.
      await this.drop(batch);
    } else {
      // Turned away, or an answer that this page does not know: the batch stays in the browser.
      this.stopped = true;
      this.onStopped(error);
    }
  }

  async rewrite(batch, change) {
    const events = change(JSON.parse(batch.body).events);
    if (!events.length) events.push({ k: "lost", t: Date.now(), count: batch.count, why: "moves beyond the limit of a page" });
    batch.body = this.body(batch.n, events, batch.assignment, batch.tab);
    await this.store.put({ ...batch, kept: undefined });
  }

  /** Numbers that neither the server nor this browser has (cleared storage): each is posted as a batch that says so, which closes the gap. */
  fillGaps(missing) {
    const own = new Set(this.waiting.filter((batch) => batch.assignment === this.assignment && batch.tab === this.tab).map((batch) => batch.n));
    for (const [from, to] of missing) {
      for (let n = from; n <= to; n += 1) {
        if (own.has(n)) continue;
        const body = this.body(n, [{ k: "lost", t: Date.now(), count: 0, why: "not in the browser any more" }]);
        this.write({ worker: this.worker, assignment: this.assignment, tab: this.tab, n, wrote: Date.now(), count: 1, body });
      }
    }
  }

  async drop(batch) {
    await this.store.remove(batch);
    const place = this.waiting.indexOf(batch);
    if (place >= 0) this.waiting.splice(place, 1);
    this.report();
  }

  /** Resolves when nothing is waiting (true), or when the annotator was turned away (false). */
  async drained() {
    this.cut();
    while (this.waiting.length && !this.stopped) {
      this.pump();
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    return !this.stopped;
  }

  /** The document goes away: write the rest, and post what fits into keepalive requests. */
  leave() {
    this.cut();
    let budget = KEEPALIVE_LIMIT;
    for (const batch of this.waiting) {
      budget -= bytesOf(batch.body);
      if (budget < 0) break;
      this.api.post("api/batch", batch.body, { keepalive: true, headers: { "X-Sent-Ms": String(Date.now()) } }).then(
        () => this.drop(batch),
        () => {}, // it stays in IndexedDB
      );
    }
  }

  setAway(error) {
    if (this.away?.code === error?.code) return;
    this.away = error;
    this.report();
  }

  report() {
    this.onState({ waiting: this.waiting.length, away: this.away, persistent: this.persistent });
  }
}
