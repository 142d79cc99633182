// The connection: token, socket, heartbeat, reconnects. It owns the one WebSocket of the page and knows its state; it
// never touches the document and never looks into rooms.
import { closeMeaning, mayReconnect } from "./codes.js";

const SUBPROTOCOL = "roomcast.v1.json";
const TOKEN_PATH = "/dev/token?sub=demo";
// Not at once: the page is busy then, and would measure itself.
const FIRST_BEAT_MS = 400;
const HEARTBEAT_MS = 3_000;
const PONG_TIMEOUT_MS = 10_000;
const TOKEN_TIMEOUT_MS = 5_000;
const WELCOME_TIMEOUT_MS = 10_000;
const COUNTDOWN_TICK_MS = 200;
// A connection that lives this long has earned a fresh start of the backoff.
const STABLE_MS = 5_000;
// The native protocol's "Automatic Reconnection": 1 s, times 1.5, at most 30 s.
const BACKOFF = { firstMs: 1_000, factor: 1.5, maxMs: 30_000 };

/** The delay before attempt `attempt` (from 0): full jitter, so that pages do not come back in step. */
export function backoffMs(attempt, random = Math.random()) {
  const bound = Math.min(BACKOFF.firstMs * BACKOFF.factor ** attempt, BACKOFF.maxMs);
  return Math.round(bound * random);
}

/** `ws://host/ws` of the node that served this page. */
export function socketUrl() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
}

async function fetchToken() {
  let answer;
  try {
    answer = await fetch(TOKEN_PATH, { cache: "no-store", signal: AbortSignal.timeout(TOKEN_TIMEOUT_MS) });
  } catch {
    throw new Error(`the node at ${location.host} does not answer`);
  }
  if (!answer.ok) {
    throw new Error(`${TOKEN_PATH} answered HTTP ${answer.status}; is the node started with --dev?`);
  }
  const { token } = await answer.json();
  if (typeof token !== "string") throw new Error(`${TOKEN_PATH} answered without a token`);
  return token;
}

export class Connection {
  #on;
  #socket = null;
  #state = { name: "connecting" };
  // Raised by each attempt: what an older one still reports is ignored.
  #turn = 0;
  #attempt = 0;
  #timers = new Map();
  #pings = new Map();

  /** `on` has `state(state)`, `welcome(message)`, `message(message)` and `latency(ms)`. */
  constructor(on) {
    this.#on = on;
  }

  get state() {
    return this.#state;
  }

  get live() {
    return this.#state.name === "connected";
  }

  /** Connects now, whatever the state. */
  start() {
    this.#drop();
    this.#open(this.#turn);
  }

  /** Ends it for good, as the visitor wishes. */
  stop() {
    this.#drop();
    this.#become({ name: "closed", code: 1000, reason: "", meaning: closeMeaning(1000) });
  }

  /** Sends a message; false if there is no live connection, so that nothing seems sent that was not. */
  send(message) {
    if (!this.live || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  async #open(turn) {
    this.#become({ name: "connecting" });
    let token;
    try {
      token = await fetchToken();
    } catch (cause) {
      if (turn === this.#turn) this.#lost(0, "", cause.message);
      return;
    }
    if (turn !== this.#turn) return;
    const socket = new WebSocket(`${socketUrl()}?token=${encodeURIComponent(token)}`, SUBPROTOCOL);
    this.#socket = socket;
    this.#after("welcome", WELCOME_TIMEOUT_MS, () => this.#lost(0, "", "no welcome came within 10 s"));
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#lost(event.code, event.reason, closeMeaning(event.code));
  }

  #receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (message === null || typeof message !== "object") return;
    switch (message.type) {
      case "welcome":
        this.#welcomed(message);
        return;
      case "pong":
        this.#ponged(message.timestamp);
        return;
      case "token_expiring":
        this.#refresh();
        break;
    }
    this.#on.message(message);
  }

  #welcomed(message) {
    this.#cancel("welcome");
    this.#after("stable", STABLE_MS, () => {
      this.#attempt = 0;
    });
    this.#become({ name: "connected" });
    this.#on.welcome(message);
    this.#after("beat", FIRST_BEAT_MS, () => this.#beat());
  }

  #beat() {
    const timestamp = Date.now();
    if (this.send({ type: "ping", timestamp })) {
      this.#pings.set(timestamp, performance.now());
      if (!this.#timers.has("pong")) {
        this.#after("pong", PONG_TIMEOUT_MS, () => this.#lost(0, "", "no pong came within 10 s"));
      }
    }
    this.#after("beat", HEARTBEAT_MS, () => this.#beat());
  }

  #ponged(timestamp) {
    const sentAt = this.#pings.get(timestamp);
    if (sentAt === undefined) return;
    this.#pings.clear();
    this.#cancel("pong");
    this.#on.latency(performance.now() - sentAt);
  }

  // In place: the session and its rooms stay.
  async #refresh() {
    const turn = this.#turn;
    try {
      const token = await fetchToken();
      if (turn === this.#turn) this.send({ type: "auth", token });
    } catch {
      // The node closes with 4001 when the token runs out, and the reconnect fetches another.
    }
  }

  #lost(code, reason, meaning) {
    this.#drop();
    if (!mayReconnect(code)) {
      this.#become({ name: "closed", code, reason, meaning });
      return;
    }
    const delayMs = backoffMs(this.#attempt);
    this.#attempt += 1;
    const state = { name: "reconnecting", code, reason, meaning };
    this.#become({ ...state, seconds: Math.ceil(delayMs / 1_000) });
    this.#countDown(performance.now() + delayMs, state);
  }

  #countDown(at, state) {
    const leftMs = at - performance.now();
    if (leftMs <= 0) {
      this.start();
      return;
    }
    const seconds = Math.ceil(leftMs / 1_000);
    if (seconds !== this.#state.seconds) this.#become({ ...state, seconds });
    this.#after("countdown", Math.min(COUNTDOWN_TICK_MS, leftMs), () => this.#countDown(at, state));
  }

  // A half-open connection may take minutes to say so: nobody waits for its close event.
  #drop() {
    this.#turn += 1;
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    this.#pings.clear();
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = null;
      socket.onclose = null;
      socket.close();
    }
  }

  #become(state) {
    this.#state = state;
    this.#on.state(state);
  }

  #after(name, delayMs, run) {
    this.#cancel(name);
    this.#timers.set(
      name,
      setTimeout(() => {
        this.#timers.delete(name);
        run();
      }, delayMs),
    );
  }

  #cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
