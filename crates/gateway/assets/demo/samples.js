// "The few lines that do it": samples with this node's addresses, in tabs, to copy. It owns the section `code`.
import { socketUrl } from "./connection.js";
import { byId, copyButton, el, setText } from "./dom.js";

const DEFAULT_URL = "ws://127.0.0.1:8080/ws";
const DEFAULT_INTERNAL = "127.0.0.1:9090";

// Comments, strings, words that the language keeps, numbers: enough for samples of our own.
const TOKENS = {
  js: tokens({
    comment: /\/\/[^\n]*/,
    string: /"[^"\n]*"|`[^`]*`/,
    keyword: /\b(?:const|let|await|if|new|return)\b/,
    number: /\b\d+\b/,
  }),
  sh: tokens({
    comment: /(?<=^|\n)#[^\n]*/,
    string: /'[^']*'|"[^"\n]*"/,
    keyword: /(?<=^|\n)(?:curl|roomcast)\b/,
    number: /(?<=\s)--?[a-zA-Z]+/,
  }),
};

function tokens(kinds) {
  const parts = Object.entries(kinds).map(([kind, { source }]) => `(?<${kind}>${source})`);
  return new RegExp(parts.join("|"), "g");
}

function samplesFor({ url, internal }) {
  const at = url === DEFAULT_URL ? "" : ` --url ${url}`;
  return [
    {
      id: "browser",
      label: "Browser",
      language: "js",
      note: "Connect, join a room, say something, listen. No library: paste it into this page’s console.",
      text: `const { token } = await (await fetch("/dev/token?sub=demo")).json();
const ws = new WebSocket(\`${url}?token=\${token}\`, "roomcast.v1.json");

ws.onopen = () => {
  const send = (message) => ws.send(JSON.stringify(message));
  send({ type: "subscribe", data: { room: "agents" } });
  send({ type: "chat_line", room: "demo", data: { text: "hello from a script" } });
};

ws.onmessage = (event) => {
  const { type, data } = JSON.parse(event.data);
  if (type === "agent_status") console.log(data.hostname, data.cpu_usage);
};`,
    },
    {
      id: "curl",
      label: "curl",
      language: "sh",
      note: "A back-end publishes over the internal port; outside --dev with a key: -H 'Authorization: Bearer …'.",
      text: `# Publish into a room: it appears under Talk.
curl http://${internal}/api/v1/publish \\
  -H 'Content-Type: application/json' \\
  -d '{"type": "chat_line", "room": "demo", "data": {"text": "hello from curl"}}'

# Who is in it?
curl http://${internal}/api/v1/rooms/demo/members`,
    },
    {
      id: "cli",
      label: "roomcast",
      language: "sh",
      note: "The same binary is a client, one JSON per line.",
      text: `# Publish into a room: it appears under Talk.
roomcast pub --dev${at} --type chat_line demo '{"text": "hello from the shell"}'

# Hear what this page hears.
roomcast sub --dev${at} agents demo

# Publish this machine's figures as an agent.
roomcast agent --dev${at}`,
    },
  ];
}

function highlighted(text, language) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(TOKENS[language])) {
    if (match.index > at) parts.push(text.slice(at, match.index));
    const kind = Object.entries(match.groups).find(([, value]) => value !== undefined)[0];
    parts.push(el("span", { class: `tok-${kind}` }, match[0]));
    at = match.index + match[0].length;
  }
  parts.push(text.slice(at));
  return parts;
}

/** The command that starts an agent against this node. */
export function agentCommand() {
  const url = socketUrl();
  return `roomcast agent --dev${url === DEFAULT_URL ? "" : ` --url ${url}`}`;
}

export class Samples {
  #tabs = [];
  #chosen = 0;

  constructor() {
    for (const [index, { id, label }] of samplesFor({ url: "", internal: "" }).entries()) {
      const tab = el(
        "button",
        { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}` },
        label,
      );
      const note = el("p", { class: "code-note" });
      const code = el("code", {});
      const panel = el(
        "div",
        { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}` },
        note,
        el("pre", { class: "code", tabindex: "0", "aria-labelledby": `tab-${id}` }, code),
      );
      tab.addEventListener("click", () => this.#choose(index));
      tab.addEventListener("keydown", (event) => this.#key(event, index));
      byId("code-tabs").append(tab);
      byId("code-panels").append(panel);
      this.#tabs.push({ tab, panel, note, code });
    }
    copyButton(byId("code-copy"), () => this.#tabs[this.#chosen].code.textContent);
    this.#choose(0);
    this.fill(DEFAULT_INTERNAL);
  }

  /** Writes the samples with the address of the node's internal port. */
  fill(internal) {
    for (const [index, sample] of samplesFor({ url: socketUrl(), internal }).entries()) {
      const { note, code } = this.#tabs[index];
      setText(note, sample.note);
      code.replaceChildren(...highlighted(sample.text, sample.language));
    }
  }

  #choose(chosen) {
    this.#chosen = chosen;
    for (const [index, { tab, panel }] of this.#tabs.entries()) {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
      panel.hidden = index !== chosen;
    }
  }

  #key(event, index) {
    const last = this.#tabs.length - 1;
    const next = new Map([
      ["ArrowRight", index === last ? 0 : index + 1],
      ["ArrowLeft", index === 0 ? last : index - 1],
      ["Home", 0],
      ["End", last],
    ]).get(event.key);
    if (next === undefined) return;
    event.preventDefault();
    this.#choose(next);
    this.#tabs[next].tab.focus();
  }
}
