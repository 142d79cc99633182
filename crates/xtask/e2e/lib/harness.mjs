// What every script needs: npm packages from the cache, a real node, tokens, checks with a deadline, and the sum.
// It never looks into the node: only its command line, its sockets and its HTTP API.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const binary = process.env.ROOMCAST_BIN;
const modules = process.env.ROOMCAST_NODE_MODULES;
if (!binary || !modules) {
  console.error('ROOMCAST_BIN and ROOMCAST_NODE_MODULES are not set: run this by `make e2e`');
  process.exit(2);
}

/** Loads an npm package from the cache. */
export const need = createRequire(join(modules, 'x.js'));

const children = new Set();

/** A folder of this script's own, removed at its end. */
export const folder = mkdtempSync(join(tmpdir(), 'roomcast-e2e-'));
let passed = 0;
let failed = 0;

/** Starts the binary with `args`; it ends with this script at the latest. */
export const start = (args) => launch(binary, args);

/** Starts any program; it ends with this script at the latest. */
export function launch(program, args, options = {}) {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...options,
  });
  child.told = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes) => {
      child.told = (child.told + bytes).slice(-20_000);
    });
  }
  child.ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve(signal ?? code)));
  child.ended.then(() => children.delete(child));
  children.add(child);
  return child;
}

/** Stops a program by its id and waits until it is gone. */
export async function stop(child, signal = 'SIGTERM') {
  if (!children.has(child)) return child.ended;
  process.kill(child.pid, signal);
  const late = setTimeout(() => process.kill(child.pid, 'SIGKILL'), 15_000);
  const status = await child.ended;
  clearTimeout(late);
  return status;
}

/** Starts a node on free ports: `{child, ws, http, internal, token}`. */
export async function startNode(...args) {
  const ready = join(folder, `ready-${Math.random().toString(36).slice(2)}.json`);
  const ports = ['--public', '127.0.0.1:0', '--internal', '127.0.0.1:0'];
  const child = start(['serve', '--dev', ...ports, '--ready-file', ready, ...args]);
  const told = await until('the node is ready', 20_000, () => {
    if (!children.has(child)) throw new Error(`the node ended: ${child.told}`);
    try {
      return JSON.parse(readFileSync(ready, 'utf8'));
    } catch {
      return undefined;
    }
  });
  return {
    child,
    ws: `ws://${told.public}/ws`,
    http: `http://${told.public}`,
    internal: `http://${told.internal}`,
    token: told.token,
  };
}

/**
 * Starts what `make cluster` starts: `{child, balancer, redis, nodes}`, each with its `pid`. `serve` are options of
 * every node.
 */
export async function startCluster({ nodes = 3, balancer = 'haproxy', serve = [] } = {}) {
  const ready = join(folder, `cluster-${Math.random().toString(36).slice(2)}.json`);
  const own = ['--balancer', balancer, '--port', '0', '--ready-file', ready];
  const args = ['cluster', String(nodes), ...own, '--', ...serve];
  const child = launch(process.env.ROOMCAST_XTASK, args);
  // It stops what it started and removes their folders.
  child.endsBy = 'SIGTERM';
  const told = await until('the cluster is ready', 120_000, () => {
    if (!children.has(child)) throw new Error(`the cluster ended: ${child.told}`);
    return existsSync(ready) && JSON.parse(readFileSync(ready, 'utf8'));
  });
  const node = ({ name, pid, public: address, internal }) => {
    return { name, pid, ws: `ws://${address}/ws`, http: `http://${address}`, internal: `http://${internal}` };
  };
  const ws = `ws://${told.balancer.address}/ws`;
  return { child, balancer: { ...told.balancer, ws }, redis: told.redis, nodes: told.nodes.map(node) };
}

/** Publishes as any program with Redis does; gives how many heard it. */
export function redisPublish(cluster, room, message) {
  const args = ['-p', String(cluster.redis.port), 'PUBLISH', `room:${room}`, JSON.stringify(message)];
  return Number(execFileSync('redis-cli', args, { encoding: 'utf8' }));
}

/** A development token for the node's `--dev` key. */
export function mint(sub, permissions, ...more) {
  const args = ['token', 'mint', '--dev', '--sub', String(sub), '--ttl', '1h'];
  if (permissions) args.push('--permissions', permissions);
  return execFileSync(binary, [...args, ...more], { encoding: 'utf8' }).trim();
}

/** Publishes as a back-end by the server API and answers its JSON. */
export async function publish(node, envelope) {
  const response = await fetch(`${node.internal}/api/v1/publish`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(envelope),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`publish: HTTP ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `probe` gives something true, and answers it. */
export async function until(what, limitMs, probe) {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`);
    await pause(10);
  }
}

/** Runs one check; its name is its claim. */
export async function check(claim, body, limitMs = 30_000) {
  let late;
  const limit = new Promise((_, reject) => {
    late = setTimeout(() => reject(new Error(`not done within ${limitMs} ms`)), limitMs);
  });
  try {
    await Promise.race([body(), limit]);
    passed += 1;
    console.log(`ok   ${claim}`);
  } catch (cause) {
    failed += 1;
    console.log(`FAIL ${claim}\n     ${String(cause?.stack ?? cause).replaceAll('\n', '\n     ')}`);
  } finally {
    clearTimeout(late);
  }
}

/** Runs a whole script and ends the process with its sum, also when something breaks outside of a check. */
export async function script(body) {
  process.on('uncaughtException', (cause) => finish(cause));
  await body().then(() => finish(), finish);
}

async function finish(cause) {
  if (cause) {
    failed += 1;
    console.log(`FAIL the script itself\n     ${String(cause.stack ?? cause)}`);
  }
  for (const child of [...children]) await stop(child, child.endsBy ?? 'SIGKILL');
  rmSync(folder, { recursive: true, force: true });
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}
