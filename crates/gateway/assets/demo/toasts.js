// Short notices in the corner: refusals of the node with their code. It owns their elements and their time.
import { refusalHint } from "./codes.js";
import { byId, el } from "./dom.js";
import { cut } from "./format.js";

const SHOWN_MAX = 4;
const SHOWN_MS = 9_000;
const TEXT_MAX = 300;

/** Shows a notice; it stays while pointed at or focused. */
export function toast(title, text, kind = "error") {
  const stack = byId("toasts");
  const close = el("button", { type: "button", class: "toast-close", "aria-label": "Dismiss" }, "×");
  const node = el(
    "div",
    { class: "toast panel", "data-testid": "toast", "data-kind": kind, role: "alert" },
    el(
      "div",
      { class: "toast-body" },
      el("p", { class: "toast-title" }, cut(title, TEXT_MAX)),
      el("p", { class: "toast-text" }, cut(text, TEXT_MAX)),
    ),
    close,
  );
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => node.remove(), SHOWN_MS);
  };
  const hold = () => clearTimeout(timer);
  close.addEventListener("click", () => node.remove());
  node.addEventListener("pointerenter", hold);
  node.addEventListener("pointerleave", wait);
  node.addEventListener("focusin", hold);
  node.addEventListener("focusout", wait);
  stack.append(node);
  while (stack.children.length > SHOWN_MAX) stack.firstElementChild.remove();
  wait();
}

/** Shows a refusal: `{type: "error", data: {code, name, message, retry, ..}}`. */
export function refusalToast(message) {
  const data = message.data !== null && typeof message.data === "object" ? message.data : {};
  const name = typeof data.name === "string" ? ` ${data.name}` : "";
  const said = typeof data.message === "string" ? data.message : "The node declined it";
  const where = typeof data.room === "string" ? ` (${cut(data.room, 60)})` : "";
  const parts = [`${said}${where}.`, refusalHint(data.code)];
  if (typeof data.retry_after_ms === "number")
    parts.push(`Try again in ${Math.ceil(data.retry_after_ms / 1_000)} s.`);
  else if (data.retry === true) parts.push("The same may work later.");
  toast(`${data.code ?? "error"}${name}`, parts.filter((part) => part !== "").join(" "));
}
