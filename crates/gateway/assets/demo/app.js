// The demo page of `roomcast serve --dev`: wires the connection, the models and the views together. It owns the flow
// of messages and the clock that redraws; every part it wires owns its own state and its own elements.
import { AgentsView } from "./agents-view.js";
import { Agents } from "./agents.js";
import { Connection } from "./connection.js";
import { byId, scheduler, setText } from "./dom.js";
import { count } from "./format.js";
import { MessagesView } from "./messages-view.js";
import { RoomsView } from "./rooms-view.js";
import { Rooms } from "./rooms.js";
import { agentCommand, Samples } from "./samples.js";
import { StatusView } from "./status-view.js";
import { TALK_ROOM, Talk } from "./talk.js";
import { refusalToast, toast } from "./toasts.js";

const TICK_MS = 1_000;
const RATE_WINDOW_S = 5;

const connection = new Connection({ state: onState, welcome: onWelcome, message: onMessage, latency: onLatency });
const send = (message) => connection.send(message);
const agents = new Agents();
const rooms = new Rooms(send);
const talk = new Talk(send);
const samples = new Samples();
const redraw = scheduler(draw);
const messagesView = new MessagesView(redraw);
const agentsView = new AgentsView(toggleWatched);
const roomsView = new RoomsView({ join: joinRoom, leave: leaveRoom });
const statusView = new StatusView(toggleConnection);

// The room that was joined by a card, if any.
let watched = null;
let heard = 0;
// Publications heard in each of the last seconds, the current one last.
let perSecond = new Array(RATE_WINDOW_S + 1).fill(0);
let liveSince = 0;

function onState(state) {
  if (state.name !== "connected") {
    rooms.lost();
    talk.lost();
  }
  statusView.drawState(state);
  redraw();
}

function onLatency(ms) {
  statusView.drawLatency(ms);
}

function onWelcome(message) {
  liveSince = performance.now();
  const sessionId = String(message.session_id ?? "");
  // Every user is in these two from the start.
  rooms.welcomed([`user-${message.user_id}`, ...(sessionId === "" ? [] : [`session-${sessionId}`])]);
  talk.welcomed(sessionId);
  statusView.drawSession(message);
  // At every welcome: after a restart it may be another node, with other addresses.
  learnNode();
  messagesView.take(message);
  redraw();
}

function onMessage(message) {
  const now = performance.now();
  messagesView.take(message);
  if (typeof message.room === "string") onPublication(message, now);
  else onSystem(message);
  redraw();
}

function onPublication(message, now) {
  heard += 1;
  perSecond[RATE_WINDOW_S] += 1;
  rooms.heard(message, now);
  talk.heard(message);
  agents.take(message, now);
}

function onSystem(message) {
  switch (message.type) {
    case "error":
      talk.answered(message);
      rooms.answered(message);
      refusalToast(message);
      break;
    case "ack":
      talk.answered(message);
      break;
    case "gap":
      toast(
        "gap",
        `Publications were lost on the way: ${message.data?.reason ?? "the node does not say why"}.`,
        "notice",
      );
      break;
    default:
      rooms.answered(message);
  }
}

function joinRoom(name) {
  rooms.join(name);
  redraw();
}

function leaveRoom(name) {
  rooms.leave(name);
  redraw();
}

// One agent at a time: whoever joins the next one's room by its card leaves the last one's.
function toggleWatched(id) {
  const name = `agent-${id}`;
  if (rooms.wanted(name)) {
    rooms.leave(name);
  } else {
    if (watched !== null) rooms.leave(watched);
    watched = name;
    rooms.join(name);
  }
  redraw();
}

function toggleConnection() {
  if (connection.live || connection.state.name === "connecting") connection.stop();
  else connection.start();
}

function draw() {
  const now = performance.now();
  const listed = rooms.list();
  if (connection.live) agents.expire(now, liveSince);
  agentsView.draw(agents.list(), now, (id) => rooms.wanted(`agent-${id}`));
  roomsView.draw(listed, now);
  messagesView.drawRooms(listed.map((room) => room.name));
  messagesView.draw();
  talk.draw(connection.live, rooms.joined(TALK_ROOM));
  const rate = perSecond.slice(0, RATE_WINDOW_S).reduce((sum, each) => sum + each, 0) / RATE_WINDOW_S;
  statusView.drawFigures([
    ["figure-agents", connection.live ? count(agents.onlineCount) : "–"],
    ["figure-rooms", connection.live ? count(rooms.joinedCount) : "–"],
    ["figure-heard", count(heard)],
    ["figure-rate", rate > 0 && rate < 10 ? rate.toFixed(1) : count(Math.round(rate))],
  ]);
}

function tick() {
  perSecond = [...perSecond.slice(1), 0];
  redraw();
}

async function learnNode() {
  try {
    const answer = await fetch("/dev/info", { cache: "no-store" });
    if (!answer.ok) return;
    const info = await answer.json();
    const known = (name) => (typeof info[name] === "string" ? info[name] : "–");
    statusView.drawNode({ node: known("node"), version: known("version"), internal: known("internal") });
    if (typeof info.internal === "string") samples.fill(info.internal);
  } catch {
    // The samples keep the default address.
  }
}

setText(byId("agent-command"), agentCommand());
rooms.join("agents");
rooms.join(TALK_ROOM);
setInterval(tick, TICK_MS);
// Back from a sleeping network or laptop: no reason to wait out the delay.
addEventListener("online", () => {
  if (connection.state.name === "reconnecting") connection.start();
});
connection.start();
