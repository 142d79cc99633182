// The live view of what the page hears: a ring of the newest messages and the list that shows them. It owns both.
// Bodies are written out as text, and only when somebody opens them.
import { byId, el, setText } from "./dom.js";
import * as format from "./format.js";

const KEPT_MAX = 50;
const PREVIEW_MAX = 180;
const BODY_MAX = 16_000;
const ALL = "all";
const PUBLICATIONS = "publications";

function preview(message) {
  const shown = message.data ?? message.ackId ?? "";
  return format.cut(typeof shown === "string" ? shown : JSON.stringify(shown), PREVIEW_MAX);
}

function newRow({ message, at }) {
  const room = typeof message.room === "string" ? message.room : null;
  const body = el("pre", { class: "code", tabindex: "0" });
  const details = el(
    "details",
    {},
    el(
      "summary",
      { class: "log-line" },
      el("time", { class: "log-time", datetime: at.toISOString() }, format.clock(at)),
      el("span", { class: "log-room" }, room === null ? "node" : format.cut(room, 40)),
      el("span", { class: "log-type" }, format.cut(String(message.type), 40)),
      el("span", { class: "log-data" }, preview(message)),
    ),
    body,
  );
  details.addEventListener("toggle", () => {
    setText(body, details.open ? format.cut(JSON.stringify(message, null, 2), BODY_MAX) : "");
  });
  const kind = message.type === "error" ? "error" : room === null ? "system" : "publication";
  return el("li", { "data-kind": kind }, details);
}

export class MessagesView {
  // Newest first.
  #kept = [];
  #shown = [];
  #nodes = new Map();
  #paused = false;
  #missed = 0;
  #redraw;
  #filter = byId("log-filter");
  #pause = byId("log-pause");
  #list = byId("log");

  constructor(redraw) {
    this.#redraw = redraw;
    this.drawRooms([]);
    this.#filter.addEventListener("change", () => this.#thaw());
    this.#pause.addEventListener("click", () => {
      this.#paused = !this.#paused;
      this.#missed = 0;
      this.#redraw();
    });
    byId("log-clear").addEventListener("click", () => {
      this.#kept = [];
      this.#missed = 0;
      this.#thaw();
    });
    // Whoever opens a message wants to read it: the list holds still until it is resumed.
    this.#list.addEventListener(
      "toggle",
      (event) => {
        if (!event.target.open || this.#paused) return;
        this.#paused = true;
        this.#missed = 0;
        this.#redraw();
      },
      true,
    );
  }

  /** Takes a message. While paused it is only counted and kept. */
  take(message) {
    this.#kept.unshift({ message, at: new Date() });
    if (this.#kept.length > KEPT_MAX) this.#kept.length = KEPT_MAX;
    if (this.#paused) this.#missed += 1;
  }

  /** Offers the rooms to choose from. */
  drawRooms(names) {
    const options = [
      [ALL, "Everything"],
      [PUBLICATIONS, "Publications"],
      ...names.map((name) => [`in:${name}`, name]),
    ];
    const known = [...this.#filter.options].map((option) => option.value).join("\n");
    if (known === options.map(([value]) => value).join("\n")) return;
    const chosen = this.#filter.value;
    this.#filter.replaceChildren(...options.map(([value, label]) => el("option", { value }, label)));
    this.#filter.value = options.some(([value]) => value === chosen) ? chosen : ALL;
  }

  draw() {
    setText(
      this.#pause,
      this.#paused ? `Resume${this.#missed > 0 ? ` (${format.count(this.#missed)} new)` : ""}` : "Pause",
    );
    this.#pause.setAttribute("aria-pressed", String(this.#paused));
    setText(byId("log-hint"), this.#paused ? "paused" : `newest first, the last ${KEPT_MAX}`);
    if (!this.#paused) this.#shown = this.#kept.filter((entry) => this.#passes(entry.message));
    byId("log-empty").hidden = this.#shown.length > 0;
    this.#list.hidden = this.#shown.length === 0;
    this.#place();
  }

  #place() {
    const wanted = new Set(this.#shown);
    for (const [entry, node] of this.#nodes) {
      if (wanted.has(entry)) continue;
      node.remove();
      this.#nodes.delete(entry);
    }
    this.#shown.forEach((entry, index) => {
      let node = this.#nodes.get(entry);
      if (!node) {
        node = newRow(entry);
        this.#nodes.set(entry, node);
      }
      if (this.#list.children[index] !== node) this.#list.insertBefore(node, this.#list.children[index] ?? null);
    });
  }

  #passes(message) {
    const chosen = this.#filter.value;
    if (chosen === ALL) return true;
    if (chosen === PUBLICATIONS) return typeof message.room === "string";
    return `in:${message.room}` === chosen;
  }

  // A choice made while paused shows at once.
  #thaw() {
    this.#shown = this.#kept.filter((entry) => this.#passes(entry.message));
    this.#redraw();
  }
}
