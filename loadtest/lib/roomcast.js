// What the scripts share: where the cluster is, tokens, and a client of the native dialect (docs/dialects/native.md).
// Everything is set by the environment (docs/LOADTEST.md); defaults fit `roomcast serve --dev`.

import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import { check, fail } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';

const env = (name, otherwise) => __ENV[name] || otherwise;
const count = (name, otherwise) => {
  const value = Number(env(name, otherwise));
  if (!Number.isInteger(value) || value < 1) fail(`${name} is ${__ENV[name]}: give a whole number from 1`);
  return value;
};

/** Where clients connect: the balancer, or one node. */
export const url = env('ROOMCAST_URL', 'ws://127.0.0.1:8080/ws');
/** The nodes' internal ports. */
export const apis = env('ROOMCAST_APIS', 'http://127.0.0.1:9090').split(',');
/** The key of the server API; none is asked for with --dev. */
export const apiKey = env('ROOMCAST_API_KEY', '');
/** Open connections in all. */
export const clients = count('CLIENTS', '500');
/** Virtual users: each has its share of the connections, and its own address where k6 is given --local-ips. */
export const vus = Math.min(count('VUS', '25'), clients);

const secret = env('ROOMCAST_TOKEN_SECRET', 'roomcast-development-only-secret-32b');
const issuer = env('ROOMCAST_ISSUER', 'roomcast');
const audience = env('ROOMCAST_AUDIENCE', 'roomcast');
const prefix = env('ROOM_PREFIX', 'demo-load-');

/** What 95 of 100 latencies must stay under. Loose, because k6 itself takes more of a small machine than the nodes. */
export const p95 = `p(95)<${count('P95_MS', '500')}`;

/** How long a scenario may hang behind its own end before k6 stops it. */
export const gracefulStop = '5s';

/** From the first byte of the connection to the upgrade. */
export const handshakeMs = new Trend('roomcast_handshake_ms', true);
/** From the token to the welcome: token checked, rooms of the user joined. */
export const welcomeMs = new Trend('roomcast_welcome_ms', true);
/** From before publishing to the member's ear. */
export const deliveryMs = new Trend('roomcast_delivery_ms', true);
/** From before publishing to the ack. */
export const ackMs = new Trend('roomcast_ack_ms', true);
/** Sessions that were welcomed. */
export const welcomed = new Counter('roomcast_welcomed');
/** Publications heard by members. */
export const delivered = new Counter('roomcast_delivered');

/** Which of all clients the virtual user `vu` (from 0) has. */
export function share(vu) {
  const mine = [];
  for (let index = vu; index < clients; index += vus) mine.push(index);
  return mine;
}

/** A room of this run: its name cannot meet those of an earlier one. */
export const room = (run, index) => `${prefix}${run}-${index}`;

/** A token, as the application's own server would make it. */
export function mint(sub, kind) {
  const now = Math.floor(Date.now() / 1000);
  const text = (value) => encoding.b64encode(JSON.stringify(value), 'rawurl');
  const claims = { iss: issuer, aud: audience, sub, iat: now, exp: now + 3600, permissions: [] };
  if (kind) claims.kind = kind;
  const signed = `${text({ alg: 'HS256', typ: 'JWT' })}.${text(claims)}`;
  return `${signed}.${crypto.hmac('sha256', secret, signed, 'base64rawurl')}`;
}

/** Resolves after so many milliseconds. */
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Resolves with `promise`, or rejects after so many milliseconds. */
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), Math.max(ms, 1));
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** This virtual user's connections. */
const open = new Set();

/** One connection. `onPublication(message)` hears what is published into its rooms. */
export class Client {
  constructor(sub, { kind, onPublication } = {}) {
    this.sub = sub;
    this.kind = kind;
    this.onPublication = onPublication || (() => {});
    this.waiting = new Map();
    this.last = 0;
    this.closing = false;
    /** Errors of the server and ends of the connection that nobody asked for. */
    this.trouble = [];
  }

  /** Resolves once the node has said welcome. */
  open(limitMs = 10_000) {
    const begun = Date.now();
    let opened;
    const ready = new Promise((resolve, reject) => {
      this.socket = new WebSocket(url);
      open.add(this);
      this.closed = new Promise((done) => {
        this.socket.onclose = (event) => {
          open.delete(this);
          if (!this.closing) this.trouble.push(`closed: ${event.code} ${event.reason}`);
          reject(new Error(`closed before the welcome: ${event.code}`));
          this.waiting.forEach((wait) => wait.reject(new Error('the connection ended')));
          this.waiting.clear();
          done();
        };
      });
      this.socket.onerror = (event) => {
        this.trouble.push(`error: ${event.error}`);
        reject(new Error(event.error));
      };
      this.socket.onopen = () => {
        opened = Date.now();
        handshakeMs.add(opened - begun);
        // The token goes in the first frame and not in the address, because k6 1.8 drops a message that comes before
        // it has told the script that the connection is open, as a welcome may that needs no frame.
        this.socket.send(JSON.stringify({ type: 'auth', token: mint(this.sub, this.kind) }));
      };
      this.socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (message.type === 'welcome') {
          welcomeMs.add(Date.now() - opened);
          welcomed.add(1);
          resolve(message);
        } else {
          this.hear(message);
        }
      };
    });
    return within(limitMs, `${this.sub} is welcomed`, ready);
  }

  hear(message) {
    if (message.room) {
      this.onPublication(message);
      return;
    }
    const about = message.ackId || (message.metadata && message.metadata.correlation_id);
    const wait = this.waiting.get(about);
    if (['error', 'gap', 'drain', 'degraded', 'lost'].includes(message.type)) {
      this.trouble.push(JSON.stringify(message));
    }
    if (!wait) return;
    this.waiting.delete(about);
    if (message.type === 'error') wait.reject(new Error(message.data.message));
    else wait.resolve(message);
  }

  /** Sends a message and resolves with its answer. */
  ask(message, limitMs = 10_000) {
    this.last += 1;
    const id = `${this.sub}-${this.last}`;
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.socket.send(JSON.stringify({ id, ...message }));
    return within(limitMs, `${message.type} is answered`, answer);
  }

  /** Resolves once this client is a member. */
  join(name) {
    return this.ask({ type: 'subscribe', data: { room: name } });
  }

  /** Resolves with the ack. */
  publish(name, data) {
    const begun = Date.now();
    return this.ask({ type: 'load', room: name, data: { ...data, sent: begun }, requiresAck: true }).then((ack) => {
      ackMs.add(Date.now() - begun);
      return ack;
    });
  }

  close() {
    this.closing = true;
    this.socket.close();
    return within(5_000, `${this.sub} is closed`, this.closed).catch(() => this.trouble.push('the close took over 5 s'));
  }
}

/** What one member must hear in one room: the numbers 1 to `total` of each publisher, each once and in order. */
export class Expected {
  constructor(publishers, total) {
    this.total = total;
    this.last = new Map(publishers.map((publisher) => [publisher, 0]));
    this.outOfOrder = 0;
    this.all = new Promise((done) => {
      this.done = done;
    });
    this.missing = publishers.length;
  }

  hear({ data }) {
    delivered.add(1);
    deliveryMs.add(Date.now() - data.sent);
    const last = this.last.get(data.from);
    if (data.n !== last + 1) this.outOfOrder += 1;
    this.last.set(data.from, data.n);
    if (data.n === this.total) {
      this.missing -= 1;
      if (this.missing === 0) this.done();
    }
  }

  /** Two checks: everything came; nothing came twice, late or by a hole. */
  judge() {
    check(this, {
      'every publication was delivered': (it) => [...it.last.values()].every((last) => last === it.total),
      'each once and in order': (it) => it.outOfOrder === 0,
    });
  }
}

/** A check that nothing went wrong on a connection; what did is printed. */
export function quiet(client) {
  if (client.trouble.length > 0) console.error(`${client.sub}: ${client.trouble.slice(0, 3).join('; ')}`);
  check(client, { 'no error, gap or end that nobody asked for': (it) => it.trouble.length === 0 });
}

/** Runs `body`; what it throws is printed and is a check that failed, since k6 itself would only count it. */
export async function honest(body) {
  let told;
  try {
    await body();
  } catch (cause) {
    told = cause;
    console.error(String(cause.stack || cause));
    // An open connection would keep k6 from ending.
    open.forEach((client) => client.close());
  }
  check(told, { 'the script ran to its end': (it) => it === undefined });
}
