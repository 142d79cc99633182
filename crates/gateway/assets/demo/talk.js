// The lines said in the room `demo`, and the form that publishes one and waits for its ack. It owns both.
import { byId, el, newId, setText } from "./dom.js";
import * as format from "./format.js";

const LINES_MAX = 30;
const TEXT_MAX = 500;
const ACK_TIMEOUT_MS = 5_000;

/** The room everybody may join and publish in, in `--dev`. */
export const TALK_ROOM = "demo";

function lineOf(message) {
  const { data } = message;
  if (typeof data === "string") return { text: data, from: "" };
  if (data === null || typeof data !== "object" || typeof data.text !== "string") return null;
  return { text: data.text, from: typeof data.from === "string" ? data.from : "" };
}

export class Talk {
  #list = byId("talk");
  #input = byId("talk-text");
  #status = byId("talk-status");
  #send;
  #me = "";
  // Publications that wait for their ack: id to the time they were sent and the timer that gives up.
  #unacked = new Map();

  /** `send(message)` answers whether there is a live connection. */
  constructor(send) {
    this.#send = send;
    byId("talk-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say(this.#input.value.trim());
    });
  }

  welcomed(sessionId) {
    this.#me = `tab ${sessionId.slice(-4)}`;
  }

  /** Shows whether it can be used now. */
  draw(live, inRoom) {
    byId("talk-send").disabled = !live;
    byId("talk-form").classList.toggle("outside", live && !inRoom);
  }

  /** Takes a publication of the room. */
  heard(message) {
    if (message.room !== TALK_ROOM || message.type !== "chat_line") return;
    const line = lineOf(message);
    if (line === null) return;
    byId("talk-empty").hidden = true;
    const sender = typeof message.sender === "string" ? message.sender : "";
    const who = line.from === "" ? sender : line.from;
    const node = el(
      "li",
      { class: line.from === this.#me && who !== "" ? "mine" : "" },
      el(
        "p",
        { class: "talk-who" },
        format.cut(who, 40),
        el("time", { class: "talk-time" }, format.clock(new Date())),
      ),
      el("p", { class: "talk-text" }, format.cut(line.text, TEXT_MAX)),
    );
    // Only a reader who is at the end wants to stay there.
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    this.#list.append(node);
    while (this.#list.children.length > LINES_MAX) this.#list.firstElementChild.remove();
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** Takes an ack or a refusal of a line; true if it was one of ours. */
  answered(message) {
    const id = message.type === "ack" ? message.ackId : message.metadata?.correlation_id;
    const pending = this.#unacked.get(id);
    if (!pending) return false;
    clearTimeout(pending.timer);
    this.#unacked.delete(id);
    if (message.type === "ack") {
      const level = typeof message.data?.level === "string" ? message.data.level : "acked";
      setText(
        this.#status,
        `Acked as “${format.cut(level, 20)}” after ${format.latency(performance.now() - pending.at)}.`,
      );
    } else {
      setText(this.#status, "The node declined it.");
    }
    return true;
  }

  /** The connection is gone: what was not acked may or may not have been heard. */
  lost() {
    if (this.#unacked.size > 0)
      setText(this.#status, "The connection went before the ack: it may not have been heard.");
    for (const { timer } of this.#unacked.values()) clearTimeout(timer);
    this.#unacked.clear();
  }

  #say(text) {
    if (text === "") return;
    const id = newId();
    const sent = this.#send({
      id,
      type: "chat_line",
      room: TALK_ROOM,
      data: { text, from: this.#me },
      requiresAck: true,
    });
    if (!sent) {
      setText(this.#status, "Not connected: nothing was sent.");
      return;
    }
    const timer = setTimeout(() => {
      this.#unacked.delete(id);
      setText(this.#status, "No ack within 5 s.");
    }, ACK_TIMEOUT_MS);
    this.#unacked.set(id, { at: performance.now(), timer });
    this.#input.value = "";
    setText(this.#status, "Sent, waiting for the ack…");
  }
}
