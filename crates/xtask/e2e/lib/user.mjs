// A user behind a balancer as a browser is one: it keeps its cookie, comes back when its connection ends, and has an
// address of its own.

import { mint, need, pause, until } from './harness.mjs';

const WebSocket = need('ws');

export class User {
  heard = [];
  closes = [];
  cookie = undefined;

  /** `sub`: who it is; `address`: from where, one of 127.0.0.0/8; `headers`: more, such as forged ones. */
  constructor(url, sub, address, headers = {}) {
    Object.assign(this, { url, sub: String(sub), address, headers, token: mint(sub) });
  }

  /** Opens once and joins `rooms`; resolves when it has joined, and fails when it is closed before. */
  async open(...rooms) {
    this.rooms = rooms;
    const headers = { ...this.headers, ...(this.cookie && { cookie: this.cookie }) };
    const socket = new WebSocket(`${this.url}?token=${this.token}`, { localAddress: this.address, headers });
    this.socket = socket;
    socket.on('upgrade', ({ headers: { 'set-cookie': [cookie] = [] } }) => {
      if (cookie) this.cookie = cookie.split(';')[0];
      this.setCookie = cookie ?? this.setCookie;
    });
    const joined = new Set();
    return new Promise((resolve, reject) => {
      socket.on('error', reject);
      socket.on('unexpected-response', (_, { statusCode }) => reject(new Error(`HTTP ${statusCode}`)));
      socket.on('close', (code) => {
        this.closes.push(code);
        reject(Object.assign(new Error(`closed with ${code}`), { code }));
        if (this.comesBack) this.back();
      });
      socket.on('message', (bytes) => {
        const message = JSON.parse(bytes);
        if (message.type === 'welcome') {
          this.session = message.session_id;
          for (const room of rooms) this.send({ type: 'subscribe', data: { room } });
        }
        if (message.type === 'subscribed') joined.add(message.data.room);
        if (rooms.every((room) => joined.has(room)) && message.type !== 'error') resolve(this);
        this.heard.push(message);
      });
    });
  }

  /** From now on it opens again whenever its connection ends. */
  stay() {
    this.comesBack = true;
    return this;
  }

  async back() {
    for (let tries = 0; tries < 50 && this.comesBack; tries += 1) {
      await pause(100);
      try {
        this.comesBack = false;
        await this.open(...this.rooms);
        this.comesBack = true;
        this.returns = (this.returns ?? 0) + 1;
        return;
      } catch {
        this.comesBack = true;
      }
    }
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  /** What it heard of `type` whose `data` has `n`. */
  times(type, n) {
    return this.heard.filter((message) => message.type === type && message.data?.n === n).length;
  }

  close() {
    this.comesBack = false;
    if (this.socket.readyState === WebSocket.CLOSED) return undefined;
    const gone = new Promise((resolve) => this.socket.on('close', resolve));
    this.socket.close();
    return gone;
  }
}

/** The name of the node that has the user's session as a member of `room`. */
export async function nodeOf(cluster, user, room) {
  return until(`the node of user ${user.sub}`, 5_000, async () => {
    for (const node of cluster.nodes.filter((node) => !node.gone)) {
      const response = await fetch(`${node.internal}/api/v1/rooms/${room}/members?limit=1000`);
      const { members } = await response.json();
      if (members.some(({ session }) => session === user.session)) return node.name;
    }
    return undefined;
  });
}
