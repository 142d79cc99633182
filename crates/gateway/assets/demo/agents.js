// The agents as this page knows them: the newest figures, a minute of samples, online or offline. It owns their state
// and never touches the document. Ids are keys of a Map, so that no name can reach an object's prototype.
import { finite } from "./format.js";
import { WINDOW_MS } from "./sparkline.js";

const AGENTS_MAX = 100;
const SAMPLES_MAX = 300;
// An agent that misses this many of its own intervals is taken for offline, should its notice be lost.
const MISSED_INTERVALS = 5;
const SILENCE_MIN_MS = 15_000;
// Some count each processor as 100; beyond this it is nonsense.
const PERCENT_MAX = 9_999;

/** The samples of these are kept. */
export const METRICS = ["cpu", "memory", "disk", "received", "sent"];

function newAgent(id) {
  return {
    id,
    hostname: "",
    online: true,
    why: "",
    heardAt: 0,
    intervalMs: 0,
    lastSeen: null,
    counters: null,
    reported: false,
    details: { load: null, memoryTotal: null, uptime: null },
    figures: new Map(METRICS.map((metric) => [metric, null])),
    samples: new Map(METRICS.map((metric) => [metric, []])),
  };
}

function idOf(data) {
  if (data === null || typeof data !== "object") return null;
  const id = data.agent_id;
  return typeof id === "number" || (typeof id === "string" && id !== "") ? String(id) : null;
}

function percentOf(value) {
  const figure = finite(value);
  return figure !== null && figure >= 0 && figure <= PERCENT_MAX ? figure : null;
}

// The agent's own rates where it sends them, else from its counters.
function networkRates(agent, network, now) {
  const sent = finite(network?.bytes_sent);
  const received = finite(network?.bytes_received);
  const before = agent.counters;
  agent.counters = sent === null || received === null ? null : { sent, received, at: now };
  const own = { sent: finite(network?.sent_per_s), received: finite(network?.received_per_s) };
  if (own.sent !== null && own.received !== null) return own;
  const seconds = before && agent.counters ? (now - before.at) / 1_000 : 0;
  if (seconds < 0.1 || sent < before.sent || received < before.received) return { sent: null, received: null };
  return { sent: (sent - before.sent) / seconds, received: (received - before.received) / seconds };
}

export class Agents {
  #agents = new Map();

  /** All of them, by host name, then id. */
  list() {
    return [...this.#agents.values()].sort(
      (one, two) => one.hostname.localeCompare(two.hostname) || one.id.localeCompare(two.id, "en", { numeric: true }),
    );
  }

  get onlineCount() {
    return [...this.#agents.values()].filter((agent) => agent.online).length;
  }

  /** Takes what a room brought; true if it concerned an agent. */
  take(message, now) {
    const id = idOf(message.data);
    if (id === null) return false;
    switch (message.type) {
      case "agent_status":
        this.#status(this.#entry(id), message, now);
        return true;
      case "agent_connected":
      case "agent_updated":
        this.#notice(this.#entry(id), message, now, true);
        return true;
      case "agent_disconnected":
        this.#notice(this.#entry(id), message, now, false);
        return true;
      default:
        return false;
    }
  }

  /** Turns the silent ones offline. `since` is when this page's connection began: before that, silence was its own. */
  expire(now, since) {
    for (const agent of this.#agents.values()) {
      const limit = Math.max(SILENCE_MIN_MS, MISSED_INTERVALS * agent.intervalMs);
      if (agent.online && now - Math.max(agent.heardAt, since) > limit) {
        agent.online = false;
        agent.why = "silent";
      }
    }
  }

  #entry(id) {
    let agent = this.#agents.get(id);
    if (agent) return agent;
    if (this.#agents.size >= AGENTS_MAX) this.#forgetOne();
    agent = newAgent(id);
    this.#agents.set(id, agent);
    return agent;
  }

  #forgetOne() {
    const [oldest] = [...this.#agents.values()].sort(
      (one, two) => one.online - two.online || one.heardAt - two.heardAt,
    );
    this.#agents.delete(oldest.id);
  }

  #notice(agent, { data }, now, online) {
    if (typeof data.hostname === "string") agent.hostname = data.hostname;
    agent.online = online;
    agent.why = online ? "" : "disconnected";
    agent.heardAt = now;
    if (!online) agent.counters = null;
  }

  #status(agent, message, now) {
    const { data } = message;
    // The same report comes through `agents` and through `agent-{id}`: it is one sample, and the late one of the two
    // must not turn an agent online again that has just gone.
    const repeat = typeof data.last_seen === "string" && data.last_seen === agent.lastSeen;
    if (repeat) return;
    agent.lastSeen = data.last_seen;
    agent.reported = true;
    if (typeof data.hostname === "string") agent.hostname = data.hostname;
    agent.online = data.status !== "offline";
    agent.why = agent.online ? "" : "says so itself";
    if (agent.heardAt > 0 && now - agent.heardAt < WINDOW_MS) {
      const gap = now - agent.heardAt;
      agent.intervalMs = agent.intervalMs === 0 ? gap : agent.intervalMs * 0.8 + gap * 0.2;
    }
    agent.heardAt = now;
    const rates = networkRates(agent, data.network_io, now);
    this.#sample(agent, "cpu", percentOf(data.cpu_usage), now);
    this.#sample(agent, "memory", percentOf(data.memory_usage), now);
    this.#sample(agent, "disk", percentOf(data.disk_usage), now);
    this.#sample(agent, "sent", rates.sent, now);
    this.#sample(agent, "received", rates.received, now);
    agent.details = {
      load: finite(data.load_1m),
      memoryTotal: finite(data.memory_total),
      uptime: finite(data.uptime_s),
    };
  }

  #sample(agent, metric, value, now) {
    agent.figures.set(metric, value);
    if (value === null) return;
    const samples = agent.samples.get(metric);
    samples.push([now, value]);
    // One older than the window stays, so that the line enters from the left edge.
    while (samples.length > SAMPLES_MAX || (samples.length > 1 && now - samples[1][0] > WINDOW_MS)) samples.shift();
  }
}
