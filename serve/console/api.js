// The API as the console asks it: requests with the key, polls that follow a resource, and whether usher answers at all.
//
// The key is typed once and kept in this tab's sessionStorage; it is sent as a header, never in an address. One request to
// `/readyz` every two seconds says whether the job is live, recovers, or does not answer; polls rest meanwhile and go on by
// themselves, so that nothing has to be reloaded.

const KEY = 'usher-key';
/** ms between two looks at whether the job is live. */
const LOOK = 2000;
/** The same while it is not. */
const LOOK_AGAIN = 500;
/** ms that a request may take. */
const PATIENCE = 15_000;

/** Why a request failed: the problem of the answer, or no answer (`status` 0). */
export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    Object.assign(this, { status, title, detail });
  }
}

/**
 * What is known of the server. `state`: `connecting`, `live`, `recovering`, `disconnected`, or `locked` while a key is missing;
 * `detail`: what it does meanwhile; `paused`: the reader has stopped all updates; `job`: the answer of `/v1/job`.
 */
export const server = { state: 'connecting', detail: null, paused: false, job: null, since: Date.now(), wrongKey: false };

const listeners = new Set();

/** Calls `listener` whenever `server` changes. */
export function onServer(listener) {
  listeners.add(listener);
}

function changed() {
  for (const listener of listeners) listener();
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/** Takes the key that was typed, or forgets it. */
export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  server.wrongKey = false;
  server.job = null;
  server.state = 'connecting';
  changed();
  look();
}

/** Stops all updates, or lets them go on. */
export function pause(paused) {
  server.paused = paused;
  changed();
}

// The clock of the job beside this machine's: an answer is never as of later than now, so the greatest difference is the nearest.
const differences = [];

/** The time of the job, ms since the epoch. */
export function now() {
  return Date.now() + (differences.length ? Math.max(...differences) : 0);
}

async function send(path, options = {}) {
  const headers = { accept: 'application/json', ...options.headers };
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.authorization = `Bearer ${key}`;
  try {
    return await fetch(path, { ...options, headers, cache: 'no-store', credentials: 'omit' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(0, 'usher does not answer', 'usher does not answer');
  }
}

/** Returns the problem of an answer that is none of what was asked for. */
async function problem(response) {
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) {
    server.wrongKey = hasKey();
    server.state = 'locked';
    changed();
  }
  return new Problem(response.status, body.title ?? `the answer is ${response.status}`, body.detail ?? '');
}

async function answer(response) {
  if (!response.ok) throw await problem(response);
  const asOf = response.headers.get('usher-as-of');
  const recovering = response.headers.has('usher-recovering');
  if (asOf && !recovering) {
    differences.push(Date.parse(asOf) - Date.now());
    if (differences.length > 20) differences.shift();
  }
  return { data: response.status === 204 ? null : await response.json(), asOf, recovering };
}

/** Asks for a resource. */
export async function get(path, signal) {
  const signals = [AbortSignal.timeout(PATIENCE), signal].filter(Boolean);
  return answer(await send(path, { signal: AbortSignal.any(signals) }));
}

/** Has something done. */
export async function post(path, body) {
  const options = { method: 'POST', signal: AbortSignal.timeout(PATIENCE) };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { 'content-type': 'application/json' };
  }
  return answer(await send(path, options));
}

/** Opens a stream. */
export async function open(path, headers, signal) {
  const response = await send(path, { headers, signal });
  if (!response.ok) throw await problem(response);
  return response;
}

/** Whether something can be asked for now. */
function isReachable() {
  return server.state !== 'disconnected' && server.state !== 'locked' && !server.paused;
}

/**
 * Follows a resource: asks for it every `ms` and calls `took` with what is known of it. Returns a handle with the latest `data`,
 * `asOf` and `error`, `again()`, which asks at once, and `stop()`.
 */
export function follow(path, ms, took) {
  const controller = new AbortController();
  const one = { data: null, asOf: null, recovering: false, error: null, again, stop };
  let timer = null;
  let asking = false;
  let askAgain = false;
  let stopped = false;
  async function ask() {
    clearTimeout(timer);
    if (asking || stopped) return;
    if (isReachable() && document.visibilityState === 'visible') {
      asking = true;
      try {
        Object.assign(one, await get(path, controller.signal), { error: null });
      } catch (error) {
        if (stopped) return;
        one.error = error instanceof Problem ? error : new Problem(0, 'the answer took too long', error.message);
      }
      asking = false;
      took(one);
      if (askAgain) {
        askAgain = false;
        return ask();
      }
    }
    timer = setTimeout(ask, isReachable() ? ms : LOOK_AGAIN);
  }
  function again() {
    // An answer that is on its way may be from before what it is asked again for.
    if (asking) askAgain = true;
    else ask();
  }
  function stop() {
    stopped = true;
    clearTimeout(timer);
    controller.abort();
  }
  ask();
  return one;
}

let looking = null;

/** Looks whether the job is live. */
async function look() {
  clearTimeout(looking);
  // Without a key there is nothing to see: the next look comes with one.
  if (server.state === 'locked') return;
  let [state, detail] = ['disconnected', null];
  try {
    const response = await send('/readyz', { signal: AbortSignal.timeout(PATIENCE) });
    const body = await response.json();
    state = body.ready ? 'live' : 'recovering';
    detail = body.detail ?? null;
    if (!server.job || server.state !== state) {
      server.job = (await get('/v1/job')).data;
    }
  } catch (error) {
    if (error.status === 401) state = 'locked';
    else if (error.status === 403) [state, detail] = ['locked', error.message];
    else if (error.status >= 400) detail = error.message;
  }
  if (state !== server.state || detail !== server.detail) {
    if (state !== server.state) server.since = Date.now();
    Object.assign(server, { state, detail });
    changed();
  }
  looking = setTimeout(look, state === 'live' ? LOOK : LOOK_AGAIN);
}

/** Starts to look. */
export function start() {
  look();
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && look());
}

/** Whether the reader may change something here. */
export function mayAct() {
  return Boolean(server.job?.console_actions && server.job?.access.admin);
}

/** A part of an address: any text, percent-encoded. */
export function segment(text) {
  return encodeURIComponent(text);
}
