// The rooms this page wants, is in, or was put into at connect, and what it heard in each. It owns that state, speaks
// `subscribe` and `unsubscribe`, and never touches the document.

const ROOMS_MAX = 128;
// How long after a refusal that may pass (`retry`) a join is tried again.
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 60_000;

/** States of a room: wanted while the connection is away, joining, joined, leaving. */
export class Rooms {
  #rooms = new Map();
  #send;
  #sequence = 0;

  /** `send(message)` answers whether there is a live connection. */
  constructor(send) {
    this.#send = send;
  }

  list() {
    return [...this.#rooms.values()];
  }

  get joinedCount() {
    return this.list().filter((room) => room.state === "joined").length;
  }

  /** Whether this page is in the room. */
  joined(name) {
    return this.#rooms.get(name)?.state === "joined";
  }

  /** The room if this page asked for it and did not ask to leave it, else null. */
  wanted(name) {
    const room = this.#rooms.get(name);
    return room?.wanted ? room : null;
  }

  /** Wants a room, now and after every reconnect. Joining again is harmless: the node answers again. */
  join(name) {
    const room = this.#entry(name);
    room.automatic = false;
    room.wanted = true;
    this.#ask(room, "subscribe", "joining", "wanted");
  }

  leave(name) {
    const room = this.#rooms.get(name);
    if (!room) return;
    room.wanted = false;
    if (room.state === "wanted") this.#rooms.delete(name);
    else this.#ask(room, "unsubscribe", "leaving", "gone");
  }

  /** A new session: what the node joined by itself is in, what is wanted is asked for. */
  welcomed(automatic) {
    for (const room of this.list()) if (!room.wanted) this.#rooms.delete(room.name);
    for (const name of automatic) {
      const room = this.#entry(name);
      room.automatic = true;
      room.state = "joined";
    }
    for (const room of this.list()) if (room.wanted) this.#ask(room, "subscribe", "joining", "wanted");
  }

  /** The connection is gone, and with it the memberships. */
  lost() {
    for (const room of this.list()) {
      if (room.wanted) room.state = "wanted";
      else this.#rooms.delete(room.name);
    }
  }

  /** Takes an answer of the node; true if it was about rooms. */
  answered(message) {
    const request = message.metadata?.correlation_id;
    const room =
      this.list().find((room) => room.request !== null && room.request === request) ??
      this.#rooms.get(message.data?.room);
    if (!room) return false;
    switch (message.type) {
      case "subscribed":
        if (room.wanted) room.state = "joined";
        return true;
      case "unsubscribed":
        if (!room.wanted) this.#rooms.delete(room.name);
        return true;
      case "error":
        if (request !== room.request) return false;
        this.#refused(room, message.data);
        return true;
      default:
        return false;
    }
  }

  /** Counts a publication. */
  heard(message, now) {
    if (typeof message.room !== "string") return;
    const known = this.#rooms.get(message.room);
    // One it never asked for: the node joined it at connect, by a role or team of the token.
    if (!known && this.#rooms.size >= ROOMS_MAX) return;
    const room = known ?? this.#entry(message.room);
    if (!known) {
      room.automatic = true;
      room.state = "joined";
    }
    room.heard += 1;
    room.lastType = String(message.type);
    room.heardAt = now;
    room.newest = message;
  }

  #entry(name) {
    let room = this.#rooms.get(name);
    if (!room) {
      room = {
        name,
        state: "wanted",
        wanted: false,
        automatic: false,
        request: null,
        heard: 0,
        lastType: "",
        heardAt: 0,
        newest: null,
      };
      this.#rooms.set(name, room);
    }
    return room;
  }

  #ask(room, type, asked, away) {
    this.#sequence += 1;
    room.request = `${type}-${this.#sequence}`;
    const sent = this.#send({ id: room.request, type, data: { room: room.name } });
    room.state = sent ? asked : away;
    if (room.state === "gone") this.#rooms.delete(room.name);
  }

  #refused(room, { retry, retry_after_ms: afterMs }) {
    if (room.state === "leaving") {
      room.state = "joined";
      room.wanted = true;
    } else if (room.state === "joining" && retry === true) {
      room.state = "wanted";
      const delayMs = Math.min(Math.max(typeof afterMs === "number" ? afterMs : 0, RETRY_MIN_MS), RETRY_MAX_MS);
      setTimeout(() => this.#askAgain(room), delayMs);
    } else if (room.state === "joining") {
      this.#rooms.delete(room.name);
    }
  }

  #askAgain(room) {
    const current = this.#rooms.get(room.name) === room && room.wanted && room.state === "wanted";
    if (current) this.#ask(room, "subscribe", "joining", "wanted");
  }
}
