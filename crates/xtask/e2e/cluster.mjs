// `make cluster` as a person meets it, once with each balancer: three nodes are one audience, whoever comes back gets
// its node, a node sees clients' own addresses, and a killed node costs its clients a reconnect and nothing else.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

import { check, pause, publish, redisPublish, script, startCluster, stop, until } from './lib/harness.mjs';
import { User, nodeOf } from './lib/user.mjs';

const ROOM = 'demo';
const PER_ADDRESS = 4;
const USERS = 24;

let last = 0;
const next = () => (last += 1);

/** Waits until each has heard `n` and, a moment later, has still heard it once. */
async function heardOnce(users, n) {
  const lacking = () => users.filter((user) => user.times('chat_line', n) === 0).map((user) => user.sub);
  await until(`all hear ${n}`, 5_000, () => lacking().length === 0).catch((cause) => {
    throw new Error(`${cause.message}; users ${lacking().join()} did not`);
  });
  await pause(100);
  assert.deepEqual(users.map((user) => user.times('chat_line', n)), users.map(() => 1));
}

const line = (n) => ({ type: 'chat_line', room: ROOM, data: { n } });

/** Users of addresses of their own, with the node that each got: `[{user, node}]`. */
async function spread(cluster) {
  const opening = Array.from({ length: USERS }, (_, n) =>
    new User(cluster.balancer.ws, 100 + n, `127.0.0.${10 + n}`).open(ROOM),
  );
  const users = await Promise.all(opening);
  return Promise.all(users.map(async (user) => ({ user, node: await nodeOf(cluster, user, ROOM) })));
}

async function affinity(cluster, places) {
  await check('clients of many addresses are spread over all nodes', async () => {
    const nodes = new Set(places.map(({ node }) => node));
    assert.deepEqual([...nodes].sort(), cluster.nodes.map(({ name }) => name));
  });

  await check('an address without a cookie gets the same node again', async () => {
    for (const { user, node } of places.slice(0, 8)) {
      const again = await new User(cluster.balancer.ws, user.sub, user.address).open(ROOM);
      assert.equal(await nodeOf(cluster, again, ROOM), node, user.address);
      await again.close();
    }
  });

  await check('a client that returns with its cookie gets its node, also from another address', async () => {
    for (const { user, node } of places.slice(0, 8)) {
      const elsewhere = places.find((other) => other.node !== node).user.address;
      const again = new User(cluster.balancer.ws, user.sub, elsewhere);
      again.cookie = user.cookie;
      await again.open(ROOM);
      assert.equal(await nodeOf(cluster, again, ROOM), node);
      await again.close();
    }
  });

  await check('the cookie is kept from scripts and is set once', async () => {
    const { user } = places[0];
    assert.match(user.setCookie, /^roomcast=[^;]+;.*httponly/i);
    const again = new User(cluster.balancer.ws, user.sub, user.address);
    again.cookie = user.cookie;
    await again.open(ROOM);
    assert.equal(again.setCookie, undefined);
    await again.close();
  });
}

async function audience(cluster, places) {
  const users = places.map(({ user }) => user);

  await check('a client on each node hears what a back-end publishes at any', async () => {
    for (const node of cluster.nodes) {
      const n = next();
      await publish(node, line(n));
      await heardOnce(users, n);
    }
  });

  await check('a client on each node hears what a client of any publishes', async () => {
    for (const { name } of cluster.nodes) {
      const n = next();
      places.find(({ node }) => node === name).user.send(line(n));
      await heardOnce(users, n);
    }
  });

  await check('a plain PUBLISH to Redis is heard on each node', async () => {
    const n = next();
    assert.ok(redisPublish(cluster, ROOM, { type: 'chat_line', data: { n } }) >= cluster.nodes.length);
    await heardOnce(users, n);
  });

  await check('each command that is printed to try is heard on each node', async () => {
    const printed = cluster.child.told.split('\n').filter((it) => /^(curl|redis-cli) | pub --dev /.test(it));
    assert.equal(printed.length, 2 + 2 * cluster.nodes.length);
    for (const command of printed) {
      const before = users.map((user) => user.heard.length);
      execFileSync('sh', ['-c', command], { cwd: new URL('../../..', import.meta.url), stdio: 'pipe' });
      await until(command, 5_000, () => users.every((user, n) => user.heard.length > before[n]));
    }
  });
}

async function addresses(cluster, places) {
  await check('a node counts connections by the client\'s own address, whatever the client says of it', async () => {
    const { cookie } = places[0].user;
    const open = (n, address) => {
      const forged = { 'X-Forwarded-For': `10.9.8.${n}`, Forwarded: `for=10.9.8.${n}` };
      const user = new User(cluster.balancer.ws, 300 + n, address, forged);
      user.cookie = cookie;
      return user.open(ROOM);
    };
    const few = [];
    for (let n = 0; n < PER_ADDRESS; n += 1) few.push(await open(n, '127.0.0.200'));
    await assert.rejects(open(7, '127.0.0.200'), /HTTP 429/);
    const other = await open(8, '127.0.0.201');
    assert.equal(await nodeOf(cluster, other, ROOM), places[0].node);
    await Promise.all([...few, other].map((user) => user.close()));
  });
}

/** HAProxy alone asks `/readyz`. */
async function health(cluster, places) {
  await check('a frozen node gets no new clients, and its own again when it is back', async () => {
    const { user, node: name } = places[0];
    const node = cluster.nodes.find((it) => it.name === name);
    /** Where it gets when it returns; nothing if that takes over 1 s. */
    const again = async () => {
      const returning = new User(cluster.balancer.ws, user.sub, user.address);
      returning.cookie = user.cookie;
      const got = returning.open(ROOM).then(() => nodeOf(cluster, returning, ROOM), () => undefined);
      const found = await Promise.race([got, pause(1_000)]);
      returning.socket.terminate();
      return found;
    };
    process.kill(node.pid, 'SIGSTOP');
    node.gone = true;
    try {
      const elsewhere = await until('another is given', 15_000, again);
      assert.notEqual(elsewhere, name);
    } finally {
      process.kill(node.pid, 'SIGCONT');
      node.gone = false;
    }
    await until('it is used again', 10_000, async () => (await again()) === name);
    assert.deepEqual(user.closes, [], 'a client of the node that froze was closed');
  });
}

async function losses(cluster, places) {
  const [victim] = cluster.nodes;
  const lost = places.filter(({ node }) => node === victim.name).map(({ user }) => user);
  const kept = places.filter(({ node }) => node !== victim.name).map(({ user }) => user);

  await check('the clients of a killed node go on at others, and nobody else notices', async () => {
    for (const { user } of places) user.stay();
    process.kill(victim.pid, 'SIGKILL');
    victim.gone = true;
    await until('all are back', 10_000, () => lost.every((user) => user.returns === 1));
    assert.ok(lost.length > 0);
    assert.deepEqual(kept.flatMap((user) => user.closes), []);
    const n = next();
    await publish(cluster.nodes[1], line(n));
    await heardOnce([...lost, ...kept], n);
    for (const user of lost) assert.notEqual(await nodeOf(cluster, user, ROOM), victim.name);
  });

  await check('`make cluster` says who was killed and goes on', async () => {
    await until('it says so', 5_000, () => cluster.child.told.includes(`${victim.name} (pid ${victim.pid}) was killed`));
    assert.equal(cluster.child.exitCode, null);
  });
}

async function ends(cluster) {
  await check('`make cluster` stops all that it started, and ends well', async () => {
    assert.equal(await stop(cluster.child), 0);
    const pids = [cluster.balancer, cluster.redis, ...cluster.nodes].map(({ pid }) => pid);
    assert.deepEqual(pids.filter((pid) => existsSync(`/proc/${pid}`)), []);
  });
}

await script(async () => {
  for (const balancer of ['haproxy', 'nginx']) {
    console.log(`     -- behind ${balancer}`);
    const serve = ['--set', `limits.connections_per_ip=${PER_ADDRESS}`];
    const cluster = await startCluster({ balancer, serve });
    const places = await spread(cluster);
    await affinity(cluster, places);
    await audience(cluster, places);
    await addresses(cluster, places);
    if (balancer === 'haproxy') await health(cluster, places);
    await losses(cluster, places);
    for (const { user } of places) user.close();
    await ends(cluster);
  }
});
