// The agents' cards. It owns their elements, keeps one card per agent and only changes what changed.
import { byId, el, setText } from "./dom.js";
import * as format from "./format.js";
import { Sparkline } from "./sparkline.js";

const HIGH_PERCENT = 90;
// Below this a network chart would blow up noise.
const NETWORK_SCALE_MIN = 2_000;
const JSON_MAX = 4_000;

const TILES = [
  { key: "cpu", label: "CPU" },
  { key: "memory", label: "Memory" },
  { key: "disk", label: "Disk" },
];

function peak(...series) {
  let most = 0;
  for (const samples of series) for (const [, value] of samples) most = Math.max(most, value);
  return most;
}

function percentTile({ key, label }) {
  const value = el("dd", { class: "tile-value", "data-testid": key }, "–");
  const chart = new Sparkline();
  const node = el(
    "div",
    { class: "tile" },
    el("dt", {}, label),
    value,
    el("dd", { class: "tile-chart" }, chart.node),
  );
  const draw = (agent, now) => {
    const figure = agent.figures.get(key);
    setText(value, format.percent(figure));
    node.classList.toggle("high", figure !== null && figure >= HIGH_PERCENT);
    chart.draw(now, [agent.samples.get(key)], 100);
  };
  return { node, draw };
}

function networkTile() {
  const received = el("span", { class: "net-in" }, "–");
  const sent = el("span", { class: "net-out" }, "–");
  const value = el(
    "dd",
    { class: "tile-value tile-network", "data-testid": "network" },
    el("span", { class: "net", title: "received" }, el("span", { class: "net-mark in" }, "↓"), " ", received),
    " ",
    el("span", { class: "net", title: "sent" }, el("span", { class: "net-mark out" }, "↑"), " ", sent),
  );
  const chart = new Sparkline(2);
  const node = el(
    "div",
    { class: "tile" },
    el("dt", {}, "Network"),
    value,
    el("dd", { class: "tile-chart" }, chart.node),
  );
  const draw = (agent, now) => {
    setText(received, format.rate(agent.figures.get("received")));
    setText(sent, format.rate(agent.figures.get("sent")));
    const series = [agent.samples.get("received"), agent.samples.get("sent")];
    chart.draw(now, series, Math.max(NETWORK_SCALE_MIN, peak(...series) * 1.1));
  };
  return { node, draw };
}

function detailsLine({ load, memoryTotal, uptime }) {
  const parts = [];
  if (load !== null) parts.push(`load ${load.toFixed(2)}`);
  if (memoryTotal !== null) parts.push(`${format.size(memoryTotal)} RAM`);
  if (uptime !== null) parts.push(`up ${format.duration(uptime)}`);
  return parts.join(" · ");
}

function watchedNote({ newest, heard, state }) {
  if (newest) return `${format.count(heard)} heard in this agent’s own room. The newest, as it came:`;
  return state === "joined"
    ? "In this agent’s own room; nothing was published in it yet."
    : "Joining this agent’s room…";
}

class Card {
  #name = el("h3", { class: "card-name" });
  #id = el("p", { class: "card-id mono" });
  #state = el("p", { class: "badge" });
  #details = el("p", { class: "card-details" });
  #news = el("p", { class: "card-news" });
  #watch = el("button", { type: "button", class: "button small", "aria-pressed": "false" });
  #watched = el("div", { class: "watched", hidden: "" });
  #watchedNote = el("p", { class: "help" });
  #watchedJson = el("pre", { class: "code", tabindex: "0" });
  #tiles = [...TILES.map(percentTile), networkTile()];

  constructor(id, toggle) {
    const room = `agent-${id}`;
    setText(this.#id, room);
    this.#watch.addEventListener("click", () => toggle(id));
    this.#watchedJson.setAttribute("aria-label", `Newest publication in ${room}`);
    this.#watched.append(this.#watchedNote, this.#watchedJson);
    this.node = el(
      "article",
      { class: "card panel", "data-testid": "agent-card", "data-agent-id": id },
      el("header", { class: "card-head" }, el("div", { class: "card-title" }, this.#name, this.#id), this.#state),
      el("dl", { class: "tiles" }, ...this.#tiles.map((tile) => tile.node)),
      el(
        "footer",
        { class: "card-foot" },
        el("div", { class: "card-facts" }, this.#details, this.#news),
        this.#watch,
      ),
      this.#watched,
    );
  }

  draw(agent, now, room) {
    const state = agent.online ? "online" : "offline";
    this.node.dataset.state = state;
    this.node.setAttribute("aria-label", `${agent.hostname || agent.id}, ${state}`);
    setText(this.#name, agent.hostname || `Agent ${agent.id}`);
    this.#name.title = agent.hostname;
    setText(this.#state, state);
    for (const tile of this.#tiles) tile.draw(agent, now);
    setText(this.#details, detailsLine(agent.details));
    setText(this.#news, this.#newsOf(agent, now));
    this.#drawWatched(agent, room);
  }

  #newsOf(agent, now) {
    const heard = format.ago(now - agent.heardAt);
    if (agent.online) return agent.reported ? `heard ${heard}` : "waiting for its first figures";
    return agent.why === "disconnected" ? `disconnected ${heard}` : `${agent.why}, last heard ${heard}`;
  }

  #drawWatched(agent, room) {
    const watched = room !== null;
    this.#watch.setAttribute("aria-pressed", String(watched));
    setText(this.#watch, watched ? "Leave its room" : "Join its room");
    this.#watch.setAttribute("aria-label", `${this.#watch.textContent}, agent-${agent.id}`);
    this.#watched.hidden = !watched;
    if (!watched) return;
    const newest = room.newest;
    setText(this.#watchedNote, watchedNote(room));
    this.#watchedJson.hidden = !newest;
    if (newest) setText(this.#watchedJson, format.cut(JSON.stringify(newest, null, 2), JSON_MAX));
  }
}

export class AgentsView {
  #cards = new Map();
  #toggle;

  /** `toggle(id)` is called when a card's button asks to join or leave the agent's own room. */
  constructor(toggle) {
    this.#toggle = toggle;
  }

  /** `watchedRoom(id)` gives the agent's own room while this page wants to be in it, else null. */
  draw(agents, now, watchedRoom) {
    byId("agents-empty").hidden = agents.length > 0;
    const grid = byId("agents");
    const known = new Set(agents.map((agent) => agent.id));
    for (const [id, card] of this.#cards) {
      if (known.has(id)) continue;
      card.node.remove();
      this.#cards.delete(id);
    }
    agents.forEach((agent, index) => {
      let card = this.#cards.get(agent.id);
      if (!card) {
        card = new Card(agent.id, this.#toggle);
        this.#cards.set(agent.id, card);
      }
      if (grid.children[index] !== card.node) grid.insertBefore(card.node, grid.children[index] ?? null);
      card.draw(agent, now, watchedRoom(agent.id));
    });
  }
}
