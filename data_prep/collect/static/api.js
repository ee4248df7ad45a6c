/** Requests to the server: one base address, a bearer session, one kind of error. */

/** Path of the application, with a slash at the end: modules lie in BASE/static/. */
export const BASE = new URL("..", import.meta.url).pathname;

/** What a request failed with. `away` is true where the same request can be repeated later: no network, or a server that is busy, full or faulty. */
export class ApiError extends Error {
  constructor(status, code, message, details = {}, retryAfter = 0) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
    this.retryAfter = retryAfter;
    this.away = status === 0 || status === 429 || status >= 500;
  }
}

async function request(path, { body, headers = {}, method = "POST", keepalive = false }) {
  let response;
  try {
    response = await fetch(BASE + path, { method, headers, body, keepalive, credentials: "same-origin", cache: "no-store", signal: keepalive ? undefined : AbortSignal.timeout(30000) });
  } catch {
    throw new ApiError(0, "network", "The server cannot be reached.");
  }
  let document_ = null;
  try {
    document_ = await response.json();
  } catch {
    document_ = null;
  }
  if (response.ok && document_ !== null) return document_;
  const fault = document_?.error ?? {};
  // An answer that is no JSON is that of a captive portal or a proxy, whatever its status: the server has not seen the request.
  const status = document_ === null ? 0 : response.status;
  throw new ApiError(status, fault.code ?? "network", fault.message ?? `The server answered ${response.status}.`, fault, Number(response.headers.get("Retry-After")) || 0);
}

/** The annotator's side of the protocol. Renews its session once after a 401. */
export class AnnotatorApi {
  constructor({ token, params, tab }) {
    this.link = { token, params, tab };
    this.session = null;
  }

  async openSession() {
    const answer = await request("api/session", { body: JSON.stringify(this.link), headers: { "Content-Type": "application/json" } });
    this.session = answer.session;
    return answer;
  }

  /** POSTs `body` (an object, or text that is sent byte for byte). */
  async post(path, body, { headers = {}, keepalive = false } = {}) {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const send = () =>
      request(path, { body: text, keepalive, headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.session}`, ...headers } });
    try {
      return await send();
    } catch (error) {
      if (error.status !== 401 || keepalive) throw error;
    }
    await this.openSession();
    return send();
  }
}

/** The owner's side: a cookie for reading, a CSRF token for writing. */
export class OwnerApi {
  constructor(csrf) {
    this.csrf = csrf;
  }

  get(path) {
    return request(path, { method: "GET", body: undefined });
  }

  post(path, body) {
    return request(path, { body: JSON.stringify(body), headers: { "Content-Type": "application/json", "X-CSRF-Token": this.csrf } });
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Repeats `work` while it fails with an `away` error, 1 s doubling to 30 s apart; `onAway(error)` before each pause. A new connection ends the pause. */
export async function untilAnswered(work, onAway) {
  for (let pause = 1000; ; pause = Math.min(30000, pause * 2)) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ApiError) || !error.away) throw error;
      onAway?.(error);
      await pauseOrOnline(Math.max(pause, error.retryAfter * 1000));
    }
  }
}

export function pauseOrOnline(ms) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    window.addEventListener("online", done);
  });
}
