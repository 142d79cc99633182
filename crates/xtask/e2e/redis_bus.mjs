// The seed's Python `RedisMessageBus`, as it is printed, beside two nodes that relay in JSON: each hears the other, and
// nothing twice.

import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';

import { check, launch, pause, publish, script, startCluster, until } from './lib/harness.mjs';
import { pythonSource } from './lib/seed.mjs';
import { User, nodeOf } from './lib/user.mjs';

const ROOM = 'demo-bus';
const PROGRAM = new URL('./lib/redis_bus.py', import.meta.url).pathname;

/** The Python program with a member of its own in [`ROOM`]. */
async function startBus(cluster) {
  const args = [PROGRAM, pythonSource('RedisMessageBus'), String(cluster.redis.port), ROOM];
  const child = launch(process.env.ROOMCAST_PYTHON, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const bus = { child, ready: false, heard: [] };
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line = JSON.parse(text);
    if (line.ready) bus.ready = true;
    else bus.heard.push({ room: line.room, message: JSON.parse(line.text) });
  });
  const lives = () => {
    if (child.exitCode !== null) throw new Error(`the bus ended: ${child.told}`);
    return true;
  };
  await until('the bus has subscribed', 20_000, () => lives() && bus.ready);
  bus.publish = (room, message) => child.stdin.write(`${JSON.stringify({ room, message })}\n`);
  bus.hears = (n) => until(`the bus hears ${n}`, 5_000, () => lives() && bus.of(n).length > 0);
  bus.of = (n) => bus.heard.filter(({ message }) => message.data?.n === n);
  return bus;
}

/** A user at each node, whatever the balancer thinks of its address. */
async function users(cluster) {
  const joining = cluster.nodes.map(async (node, n) => {
    const user = await new User(node.ws, 500 + n, '127.0.0.1').open(ROOM);
    assert.equal(await nodeOf(cluster, user, ROOM), node.name);
    return user;
  });
  return Promise.all(joining);
}

async function goesOn(cluster, bus) {
  await check('the bus goes on while nodes tell one another that they live', async () => {
    // Each node does so once a second, on channels that the bus hears too.
    await pause(3_000);
    for (const [index, node] of cluster.nodes.entries()) {
      await publish(node, { type: 'chat_line', room: ROOM, data: { n: 40 + index } });
      await bus.hears(40 + index);
    }
    assert.ok(bus.heard.every(({ message }) => message.type && message.data), JSON.stringify(bus.heard));
  });
}

const of = (user, n) => user.heard.filter((message) => message.data?.n === n);

async function nodesToBus(cluster, bus, members) {
  await check('the bus hears once what a back-end publishes at each node, as the seed writes it', async () => {
    for (const [index, node] of cluster.nodes.entries()) {
      const n = 10 + index;
      const sent = { type: 'chat_line', room: ROOM, data: { n, text: 'é😀' }, id: `id-${n}`, sender: 'billing' };
      await publish(node, sent);
      await bus.hears(n);
      await pause(100);
      const [{ room, message }, ...more] = bus.of(n);
      assert.deepEqual(more, []);
      assert.equal(room, ROOM);
      assert.equal(message.type, 'chat_line');
      assert.deepEqual(message.data, sent.data);
      assert.equal(message.id, sent.id);
      assert.equal(message.sender, 'billing');
      assert.ok(Number.isFinite(Date.parse(message.timestamp)), message.timestamp);
    }
  });

  await check('the bus hears what a client of each node publishes, with who sent it', async () => {
    for (const [index, user] of members.entries()) {
      const n = 20 + index;
      user.send({ type: 'chat_line', room: ROOM, data: { n } });
      await bus.hears(n);
      assert.equal(bus.of(n)[0].message.sender, user.sub);
    }
  });
}

async function busToNodes(bus, members) {
  await check('a client on each node hears once what the bus publishes, and that it comes from outside', async () => {
    const message = {
      id: '550e8400-e29b-41d4-a716-446655440000',
      type: 'agent_status',
      timestamp: '2024-01-15T10:30:00Z',
      sender: 'agent-001',
      room: ROOM,
      data: { n: 30, agent_id: 123, status: 'online', nested: { list: [1, 2.5, null, 'é😀'] } },
    };
    bus.publish(ROOM, message);
    for (const user of members) {
      await until(`user ${user.sub} hears it`, 5_000, () => of(user, 30).length > 0);
    }
    await pause(100);
    for (const user of members) {
      const [heard, ...more] = of(user, 30);
      assert.deepEqual(more, []);
      assert.equal(heard.type, message.type);
      assert.equal(heard.room, ROOM);
      assert.deepEqual(heard.data, message.data);
      assert.equal(heard.id, message.id);
      assert.equal(heard.sender, 'external', 'anybody with Redis could claim to be an agent');
      assert.equal(Date.parse(heard.timestamp), Date.parse(message.timestamp));
    }
    assert.equal(bus.of(30).length, 1, 'a node sent it back');
  });

  await check('what the bus publishes with a type and data alone is heard', async () => {
    bus.publish(ROOM, { type: 'chat_line', data: { n: 31 } });
    for (const user of members) {
      await until(`user ${user.sub} hears it`, 5_000, () => of(user, 31).length === 1);
    }
  });

  await check('what the bus publishes into another room is not heard here', async () => {
    bus.publish(`${ROOM}-other`, { type: 'chat_line', data: { n: 32 } });
    bus.publish(ROOM, { type: 'chat_line', data: { n: 33 } });
    for (const user of members) {
      await until(`user ${user.sub} hears the next`, 5_000, () => of(user, 33).length === 1);
      assert.deepEqual(of(user, 32), []);
    }
    assert.deepEqual(bus.of(32), []);
  });
}

await script(async () => {
  const cluster = await startCluster({ nodes: 2, serve: ['--set', 'relay.format=json'] });
  const bus = await startBus(cluster);
  const members = await users(cluster);
  await nodesToBus(cluster, bus, members);
  await busToNodes(bus, members);
  await goesOn(cluster, bus);
});
