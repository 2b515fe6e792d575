/** Requests to the API. An error is a `Problem` with the detail of the problem document. */
import { session } from "./session.js";

const ROOT = new URL("api/v1", document.baseURI).href;
const UNREACHABLE = "Pagemill does not answer. Check the network; the page goes on when it is back.";

export class Problem extends Error {
  constructor(status, body = {}, retryAfter = 0) {
    super(body.detail || `The server answered ${status}.`);
    this.status = status;
    this.code = body.code || "";
    this.body = body;
    this.retryAfter = retryAfter;
  }
}

export const apiUrl = (path) => ROOT + path;
export const part = encodeURIComponent;

/** The Response of a request below /api/v1. Rejects with a Problem; AbortError where `signal` ends it. */
export async function request(path, { method = "GET", json, headers = {}, signal, keepalive } = {}) {
  const sent = session.key;
  const body = json === undefined ? undefined : JSON.stringify(json);
  const type = json === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(ROOT + path, { method, body, signal, keepalive, headers: { ...type, ...headers, ...session.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: UNREACHABLE, code: "unreachable" });
  }
  if (response.ok) return response;
  const problem = new Problem(response.status, await response.json().catch(() => ({})), Number(response.headers.get("Retry-After")));
  if (response.status === 401 && sent && sent === session.key) session.end(signedOut(problem));
  throw problem;
}

export const call = async (path, options) => {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
};

const MOST_TRIES = 4;

/** The result of `send`, which makes a request: again while the server is busy (429). */
export async function whenFree(send) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await send();
    } catch (error) {
      if (error.status !== 429 || tries >= MOST_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, (error.retryAfter || 1) * 1000));
    }
  }
}

const REMEDIES = [[/expired/, "Ask for a new key."], [/revoked|no longer valid/, "It cannot be used again: ask for a new key."]];

/** What to tell a user whose key is refused: the cause as the API names it, and what to do. */
export function signedOut({ message }) {
  const remedy = REMEDIES.find(([cause]) => cause.test(message))?.[1] || "Check how it is written.";
  return `${message[0].toUpperCase()}${message.slice(1).replace(/\.?$/, ".")} ${remedy}`;
}

/** Sign in with the session's key. Rejects with a Problem. */
export async function signIn() {
  session.signedIn(await call("/caller"));
}

/** The state of the servers, which needs no key: `{status, dependencies}`. */
export async function readiness() {
  try {
    return await (await fetch(new URL("ready", document.baseURI))).json();
  } catch { // no answer, or a proxy's: it is no JSON
    return { status: "unreachable", detail: UNREACHABLE, dependencies: {} };
  }
}
