// Small tools for the document. Peers' data goes through text nodes and attributes only, never through markup.

/** The element of the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** A new element: `attributes` as they are (null is left out), then children: nodes or text. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Sets a text only if it changed: untouched nodes keep selection and cost nothing. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Copies a text; without a secure context the old way. True if it worked. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "hidden", readonly: "" });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

/** Makes a button copy what `text()` gives, and say so for a moment. */
export function copyButton(button, text) {
  const label = button.textContent;
  let timer;
  button.addEventListener("click", async () => {
    const copied = await copyText(text());
    button.focus();
    button.textContent = copied ? "Copied" : "Select and copy";
    clearTimeout(timer);
    timer = setTimeout(() => {
      button.textContent = label;
    }, 1_600);
  });
}

/** Runs `render` soon, at most once per frame and `gapMs`, however often it is asked. */
export function scheduler(render, gapMs = 80) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    setTimeout(
      () =>
        requestAnimationFrame(() => {
          asked = false;
          render();
        }),
      gapMs,
    );
  };
}

/** An id nobody else has. (`crypto.randomUUID` is missing where the page comes over plain HTTP.) */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
