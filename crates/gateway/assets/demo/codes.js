// The node's stable codes in words: what a close means and whether to come back, what a refusal asks for. It owns no
// state. Clients act on ranges, so that new codes are safe.

const CLOSES = new Map([
  [1000, "Closed by this page."],
  [1001, "The node is stopping."],
  [1002, "The node says this page broke the WebSocket protocol."],
  [1006, "The connection broke off, or the node refused the upgrade."],
  [1007, "The node got text that is not UTF-8."],
  [1008, "Too many frames or fragments at once."],
  [1009, "A message was too large for the node."],
  [1011, "The node failed."],
  [1012, "The node is being restarted."],
  [1013, "The node is full."],
  [4000, "Authentication failed."],
  [4001, "Unauthorized: the token is missing, bad, expired or revoked."],
  [4100, "Replaced by another connection of this session."],
  [4101, "Disconnected by an operator."],
  [4200, "This page was too slow to read or to answer."],
  [4201, "A connection limit is reached."],
  [4202, "The session moved to another connection."],
]);

// What only a changed client mends: coming back would repeat it.
const FINAL = new Set([1000, 1002, 1007, 1008, 1009]);

const HINTS = new Map([
  [100, "The node could not read the message."],
  [101, "A publication needs a room and a type of its own."],
  [102, "A field is missing or of the wrong kind."],
  [103, "Send less at once."],
  [104, "Names are 1 to 255 bytes without spaces and do not begin with $."],
  [110, "The token has no right to it, or there is no such room; the node does not tell which."],
  [120, "Too many messages in a minute."],
  [121, "A limit of the node is reached."],
  [122, "This id was used for other content."],
  [130, "Not possible at the moment."],
]);

/** What a close code means. 0 stands for a loss without a close frame. */
export function closeMeaning(code) {
  const known = CLOSES.get(code);
  if (known) return known;
  if (code >= 4000 && code < 4100) return "The node wants a new token.";
  if (code >= 4100 && code < 4200) return "The node asks not to come back.";
  if (code >= 4200 && code < 4300) return "The node asks to reconnect and resume.";
  if (code >= 4300 && code < 4400) return "The node asks to reconnect afresh.";
  return "The connection ended.";
}

/** Whether to come back by itself. After 4000 to 4099 too: every attempt fetches a new token. */
export function mayReconnect(code) {
  return !FINAL.has(code) && !(code >= 4100 && code < 4200);
}

/** What to do about a refusal. */
export function refusalHint(code) {
  return HINTS.get(code) ?? "";
}
