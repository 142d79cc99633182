// The native seed as the tests read it: its printed JavaScript, its example messages and its lists of types, cut out
// of the text at test time and never edited.

import { readFileSync } from 'node:fs';

const place = new URL('../../../dialects/seeds/sysmanage-websocket-protocol.txt', import.meta.url);
const text = readFileSync(place, 'utf8');

/** The printed source of `class <name> { .. }`, from its first to its last line. */
export function classSource(name) {
  return cut(`class ${name} {\n`, '\n}\n', name);
}

/** The printed Python of `class <name>:`, up to the next heading. */
export function pythonSource(name) {
  return cut(`class ${name}:\n`, '\n                        \n', name);
}

/** The printed lines that open a connection and send `auth`. */
export function connectSource() {
  return cut('// Client-side connection establishment\n', '\n};\n', 'connection establishment');
}

function cut(from, to, what) {
  const start = text.indexOf(`\n${from}`);
  const end = text.indexOf(to, start);
  if (start < 0 || end < 0) throw new Error(`the seed has no ${what}`);
  return text.slice(start + 1, end + to.length);
}

/** The example message printed under `title`. */
export function example(title) {
  const start = text.indexOf('\n{\n', text.indexOf(`\n${title}\n`));
  return JSON.parse(text.slice(start, text.indexOf('\n}\n', start) + 3));
}

/** The types listed under `title`, such as `Task Messages`. */
export function types(title) {
  const start = text.indexOf(`\n${title}\n`);
  const list = text.slice(start + title.length + 2).match(/^\s*(?: {2}• .*\n)+/)[0];
  return [...list.matchAll(/• ([a-z_]+):/g)].map((found) => found[1]);
}

/** Makes the printed classes `names` run with `given` as the free names they use. */
export function evaluate(names, given) {
  const body = `${names.map(classSource).join('\n')}\nreturn { ${names.join(', ')} };`;
  return new Function(...Object.keys(given), body)(...Object.values(given));
}
