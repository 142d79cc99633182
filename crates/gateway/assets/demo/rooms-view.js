// The list of rooms and the form that joins one. It owns their elements; what a room is, `rooms.js` knows.
import { byId, el, setText } from "./dom.js";
import * as format from "./format.js";

const STATES = new Map([
  ["wanted", "waits for the connection"],
  ["joining", "joining…"],
  ["leaving", "leaving…"],
]);

function newRow(name, leave) {
  const count = el("span", { class: "room-count" });
  const note = el("p", { class: "room-note" });
  const button = el("button", { type: "button", class: "button small", "aria-label": `Leave ${name}` }, "Leave");
  button.addEventListener("click", () => leave(name));
  const node = el(
    "li",
    { class: "room", "data-room": name },
    el(
      "div",
      { class: "room-text" },
      el("p", { class: "room-head" }, el("code", { class: "room-name", title: name }, name), count),
      note,
    ),
    button,
  );
  return { node, count, note, button };
}

export class RoomsView {
  #rows = new Map();
  #leave;

  constructor({ join, leave }) {
    this.#leave = leave;
    const form = byId("join-form");
    const input = byId("join-room");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const name = input.value.trim().normalize("NFC");
      if (name === "") return;
      join(name);
      input.value = "";
    });
  }

  draw(rooms, now) {
    byId("rooms-empty").hidden = rooms.length > 0;
    const known = new Set(rooms.map((room) => room.name));
    for (const [name, row] of this.#rows) {
      if (known.has(name)) continue;
      row.node.remove();
      this.#rows.delete(name);
    }
    const list = byId("rooms");
    // The page's own rooms first, what the node joined by itself after them.
    const sorted = [...rooms].sort((one, two) => one.automatic - two.automatic);
    sorted.forEach((room, index) => {
      let row = this.#rows.get(room.name);
      if (!row) {
        row = newRow(room.name, this.#leave);
        this.#rows.set(room.name, row);
      }
      if (list.children[index] !== row.node) list.insertBefore(row.node, list.children[index] ?? null);
      this.#drawRow(row, room, now);
    });
  }

  #drawRow(row, room, now) {
    row.node.dataset.state = room.state;
    setText(row.count, format.count(room.heard));
    row.count.title = `${format.count(room.heard)} publications heard`;
    row.button.disabled = room.state === "leaving";
    row.button.hidden = room.automatic;
    setText(row.note, this.#noteOf(room, now));
  }

  #noteOf(room, now) {
    const state = STATES.get(room.state);
    if (state) return state;
    if (room.heard > 0) return `${format.cut(room.lastType, 40)}, ${format.ago(now - room.heardAt)}`;
    return room.automatic ? "joined at connect" : "joined, nothing heard yet";
  }
}
