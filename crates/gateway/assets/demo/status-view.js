// The state of the connection, its latency, the session and the figures on top. It owns those elements.
import { byId, copyButton, el, setText } from "./dom.js";
import * as format from "./format.js";

function textOf(state) {
  return state.name === "reconnecting" ? `reconnecting in ${state.seconds} s` : state.name;
}

function why(state) {
  const { code, reason, meaning } = state;
  const said =
    reason && !meaning.toLowerCase().includes(reason.toLowerCase()) ? ` (“${format.cut(reason, 123)}”)` : "";
  const text = meaning.charAt(0).toUpperCase() + meaning.slice(1);
  return `${code ? `${code}: ` : ""}${text}${/[.!?]$/.test(text) ? "" : "."}${said}`;
}

function noticeOf(state) {
  switch (state.name) {
    case "reconnecting":
      return `${why(state)} The page comes back by itself and joins its rooms again.`;
    case "closed":
      return state.code === 1000
        ? "Closed by this page. Its rooms are kept for when you connect again."
        : `${why(state)} The page does not come back by itself.`;
    default:
      return "";
  }
}

export class StatusView {
  #announced = "";
  #button = byId("toggle-connection");

  /** `act()` connects or disconnects, as the button says. */
  constructor(act) {
    this.#button.addEventListener("click", act);
    for (const button of document.querySelectorAll("[data-copy]")) {
      copyButton(button, () => byId(button.dataset.copy).textContent);
    }
  }

  drawState(state) {
    const text = textOf(state);
    setText(byId("connection-state"), text);
    document.body.dataset.connection = state.name;
    setText(this.#button, this.#actionOf(state));
    // While it comes back the reason stays, so that the bar does not jump at every attempt.
    const notice = noticeOf(state);
    if (state.name !== "connecting") {
      byId("notice").hidden = notice === "";
      setText(byId("notice-text"), notice);
    }
    // A countdown read aloud each second would drown everything else.
    const announcement = state.name === "reconnecting" ? `Connection lost. ${notice}` : `${text}. ${notice}`;
    if (state.name !== this.#announced && state.name !== "connecting") {
      setText(byId("announcer"), announcement);
      this.#announced = state.name;
    }
    if (state.name !== "connected") this.drawLatency(null);
  }

  #actionOf({ name }) {
    if (name === "connected") return "Disconnect";
    if (name === "connecting") return "Stop";
    return name === "reconnecting" ? "Try now" : "Connect";
  }

  drawLatency(ms) {
    setText(byId("latency"), format.latency(ms));
  }

  drawSession(welcome) {
    const permissions = Array.isArray(welcome.permissions) ? welcome.permissions : [];
    byId("session-empty").hidden = true;
    byId("session-facts").hidden = false;
    setText(byId("session-user"), String(welcome.user_id));
    setText(byId("session-id"), String(welcome.session_id ?? "–"));
    const chips = permissions.map((permission) => el("span", { class: "chip mono" }, String(permission)));
    byId("session-permissions").replaceChildren(...(chips.length > 0 ? chips : ["none"]));
  }

  drawNode({ node, version, internal }) {
    setText(byId("node-name"), `node ${node}`);
    setText(byId("session-node"), node);
    setText(byId("foot-version"), `Roomcast ${version} · metrics and server API on ${internal}`);
  }

  drawFigures(figures) {
    for (const [id, value] of figures) setText(byId(id), value);
  }
}
