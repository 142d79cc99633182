// The client classes printed in the native seed run unchanged against a real node. What the seed leaves undefined
// (`WebSocket`, `pako`, `getJWTToken`, the manager's `connect` and `send`, `emit`, `generateMessageId`,
// `handleMessageFailed`) is supplied here, and nothing else.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { connect as tcp, createServer } from 'node:net';

import { check, mint, need, pause, publish, script, startNode, until } from './lib/harness.mjs';
import { connectSource, evaluate, example, types } from './lib/seed.mjs';

const WebSocket = need('ws');
const ALL_PERMISSIONS = 'view_system,view_agents,view_tasks';

const logged = [];
const seedConsole = { log: (line) => logged.push(line), error: (...line) => logged.push(line.join(' ')) };
const { WebSocketManager, RoomManager, ReliableMessageSender } = evaluate(
  ['WebSocketManager', 'RoomManager', 'ReliableMessageSender'],
  { WebSocket, console: seedConsole, getCurrentAgentId: () => 42 },
);
const optimizer = (pako) => evaluate(['MessageOptimizer'], { pako }).MessageOptimizer;

let pings = 0;
/** The seed's manager with what it leaves to its user: opening, sending, and dealing out what arrives. */
class Manager extends WebSocketManager {
  heard = [];

  /** Opens with the token in the query and sends `auth` as well, as the seed's connection lines do. */
  async connect(token) {
    this.ws = new WebSocket(`${this.url}?token=${token}`);
    this.ws.onopen = () => this.send({ type: 'auth', token });
    this.ws.onmessage = (event) => this.onMessage(JSON.parse(event.data));
    this.closed = new Promise((resolve) => (this.ws.onclose = resolve));
    await this.first('welcome');
    return this;
  }

  onMessage(message) {
    this.heard.push(message);
    if (message.type === 'pong') this.handlePong(message);
    if (message.type === 'ack') this.onAck?.(message);
  }

  send(message) {
    this.ws.send(JSON.stringify(message));
  }

  of(type) {
    return this.heard.filter((message) => message.type === type);
  }

  first(type, matches = () => true) {
    return until(`a ${type}`, 5_000, () => this.of(type).find(matches));
  }

  /** Resolves when all that was sent before has been answered. */
  async settled() {
    const timestamp = (pings += 1);
    this.send({ type: 'ping', timestamp });
    await this.first('pong', (pong) => pong.timestamp === timestamp);
  }

  close() {
    clearInterval(this.heartbeatTimer);
    this.ws.close();
  }
}

/** The seed's sender with its two undefined methods. */
class Sender extends ReliableMessageSender {
  failures = [];

  generateMessageId() {
    return randomUUID();
  }

  handleMessageFailed(messageId) {
    this.failures.push(messageId);
  }
}

/** The seed's reconnecting client; it sets no `onmessage` itself, so its sockets collect what arrives. */
function resilient(url) {
  const heard = [];
  class Hearing extends WebSocket {
    constructor(address) {
      super(address);
      this.onmessage = (event) => heard.push(JSON.parse(event.data));
    }
  }
  const given = { WebSocket: Hearing, console: seedConsole };
  const client = new (evaluate(['ResilientWebSocket'], given).ResilientWebSocket)(url);
  const emitted = [];
  return Object.assign(client, { heard, emitted, emit: (name) => emitted.push(name) });
}

let subjects = 1_000;
/** A manager of a user of its own, so that no check meets another's limits. */
async function manager(node, permissions = ALL_PERMISSIONS, ...claims) {
  subjects += 1;
  const sub = subjects;
  const made = await new Manager(node.ws).connect(mint(sub, permissions, ...claims));
  return Object.assign(made, { sub });
}

/** An agent may publish about itself: the one publishing right a client has by the built-in rules. */
const agent = (node, id) => manager(node, ALL_PERMISSIONS, '--agent-id', String(id));
const status = (id, more) => ({
  type: 'agent_status',
  room: 'agents',
  data: { agent_id: id, status: 'online', ...more },
});

async function joined(client, ...rooms) {
  const manager = new RoomManager(client);
  for (const room of rooms) {
    manager.subscribe(room);
    await client.first('subscribed', (message) => message.data.room === room);
  }
  return manager;
}

/** A wire that can be cut: everything passes, until the connections are torn down without a Close frame. */
async function cuttable(url) {
  const target = new URL(url);
  const { hostname, port } = target;
  const sockets = new Set();
  const server = createServer((client) => {
    const upstream = tcp(Number(port), hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => [client, upstream].forEach((side) => side.destroy()));
    }
    client.pipe(upstream).pipe(client);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  target.port = server.address().port;
  return {
    url: target.href,
    cut: () => sockets.forEach((socket) => socket.destroy()),
    close: () => server.close(),
  };
}

async function connecting(node) {
  await check('the printed connection lines are welcomed after their auth message', async () => {
    const token = mint(42, ALL_PERMISSIONS);
    const dialled = [];
    class Dialling extends WebSocket {
      constructor(url) {
        super(url.replace('wss://sysmanage.example.com/ws', node.ws));
        dialled.push(url);
      }
    }
    const holder = {};
    const sendMessage = (message) => holder.ws.send(JSON.stringify(message));
    const lines = new Function(
      'WebSocket', 'getJWTToken', 'sendMessage', 'console',
      `${connectSource()}\nreturn { ws, wsUrl };`,
    );
    Object.assign(holder, lines(Dialling, () => token, sendMessage, seedConsole));
    const heard = [];
    holder.ws.onmessage = (event) => heard.push(JSON.parse(event.data));
    const welcome = await until('the welcome', 5_000, () => heard[0]);
    assert.equal(welcome.type, 'welcome');
    assert.deepEqual(dialled, ['wss://sysmanage.example.com/ws']);
    assert.equal(holder.wsUrl, `wss://sysmanage.example.com/ws?token=${token}`);
    holder.ws.close();
  });

  await check('a token in the query and auth as well get exactly one flat welcome', async () => {
    const client = await manager(node);
    await client.first('refresh');
    await client.settled();
    const [welcome, ...more] = client.of('welcome');
    assert.equal(more.length, 0, 'one welcome');
    assert.equal(String(welcome.user_id), String(client.sub));
    assert.deepEqual([...welcome.permissions].sort(), ALL_PERMISSIONS.split(',').sort());
    client.close();
  });

  await check('a bad token is closed with 4001 Unauthorized', async () => {
    const [head, claims] = mint(42, ALL_PERMISSIONS).split('.');
    for (const token of ['nonsense', `${head}.${claims}.${'A'.repeat(43)}`]) {
      const ws = new WebSocket(`${node.ws}?token=${token}`);
      const event = await new Promise((resolve) => (ws.onclose = resolve));
      assert.equal(event.code, 4001);
      assert.equal(event.reason, 'Unauthorized');
    }
  });

  await check('a bad token in the first message is closed with 4001', async () => {
    const ws = new WebSocket(node.ws);
    ws.onopen = () => ws.send(JSON.stringify({ type: 'auth', token: 'nonsense' }));
    const event = await new Promise((resolve) => (ws.onclose = resolve));
    assert.equal(event.code, 4001);
  });

  await check('the heartbeat gets its own numeric timestamp back', async () => {
    const client = await manager(node);
    client.heartbeatInterval = 50;
    client.startHeartbeat();
    const pong = await client.first('pong');
    assert.equal(typeof pong.timestamp, 'number');
    await until('the latency is logged', 2_000, () =>
      logged.some((line) => /^Heartbeat latency: \d+ms$/.test(line)),
    );
    client.close();
  });
}

/** What the seed's types need in `data` (`agent_status` and its like need more than an id). */
function dataFor(type) {
  if (type.startsWith('task_')) return { task_id: 456, progress: 10 };
  if (type.startsWith('alert_')) return { alert_id: 789, severity: 'low', title: 'A title' };
  return { agent_id: 42, status: 'online' };
}

async function rooms(node) {
  await check('the pages\' rooms are joined and the seed\'s examples arrive in them whole', async () => {
    const client = await manager(node);
    const manages = new RoomManager(client);
    for (const page of ['dashboard', 'agent-detail', 'tasks']) manages.subscribeForPage(page);
    const wanted = ['system', 'alerts', 'agents', 'agent-42', 'tasks'];
    for (const room of wanted) {
      await client.first('subscribed', (message) => message.data.room === room);
    }
    assert.deepEqual([...manages.subscribedRooms], wanted);
    for (const title of ['Agent Status Update', 'Task Progress Update', 'Alert Notification']) {
      const sent = example(title);
      await publish(node, sent);
      const got = await client.first(sent.type, (message) => message.id === sent.id);
      for (const field of ['type', 'timestamp', 'sender', 'room', 'data']) {
        assert.deepEqual(got[field], sent[field], `${title}: ${field}`);
      }
      assert.equal(got.metadata?.priority ?? 'normal', sent.metadata.priority);
      assert.equal(got.metadata?.correlation_id, sent.metadata.correlation_id);
    }
    client.close();
  });

  await check('every type of the seed reaches its room once', async () => {
    const client = await manager(node);
    await joined(client, 'agents', 'tasks', 'alerts');
    const lists = {
      agents: [...types('Agent Messages'), ...types('Inventory Messages')],
      tasks: types('Task Messages'),
      alerts: types('Alert Messages'),
    };
    assert.deepEqual(Object.values(lists).map((list) => list.length), [8, 5, 4]);
    for (const [room, list] of Object.entries(lists)) {
      for (const type of list) await publish(node, { type, room, data: dataFor(type) });
      for (const type of list) await client.first(type, (message) => message.room === room);
    }
    await client.settled();
    for (const type of Object.values(lists).flat()) assert.equal(client.of(type).length, 1, type);
    client.close();
  });

  await check('after unsubscribe nothing of that room arrives', async () => {
    const client = await manager(node);
    const manages = await joined(client, 'system', 'alerts');
    manages.unsubscribe('system');
    await client.first('unsubscribed', (message) => message.data.room === 'system');
    await publish(node, { type: 'notice', room: 'system', data: {} });
    await publish(node, { type: 'sentinel', room: 'alerts', data: {} });
    await client.first('sentinel');
    assert.equal(client.of('notice').length, 0);
    client.close();
  });

  await check('a room without the permission is refused, and whether it exists does not show', async () => {
    const client = await manager(node, 'view_tasks');
    const manages = new RoomManager(client);
    const answers = [];
    for (const room of ['system', 'user-1', 'agent-x', 'no-such-room']) {
      manages.subscribe(room);
      const error = await client.first('error', (message) => message.data.room === room);
      answers.push({ ...error.data, room: '' });
      assert.equal(error.data.code, 110);
      assert.equal(error.data.message, 'Permission denied');
    }
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    await joined(client, 'tasks');
    client.close();
  });
}

async function optimizing(node) {
  await check('a batch of ten arrives as ten, in order', async () => {
    const [hears, sends] = [await manager(node), await agent(node, 7)];
    await joined(hears, 'agents');
    const optimizes = new (optimizer(need('pako1')))();
    optimizes.wsManager = sends;
    for (let n = 0; n < 10; n += 1) optimizes.queueMessage(status(7, { n }));
    await until('ten', 5_000, () => hears.of('agent_status').length === 10);
    assert.deepEqual(hears.of('agent_status').map((message) => message.data.n), [...Array(10).keys()]);
    for (const message of hears.of('agent_status')) assert.equal(message.sender, String(sends.sub));
    // Fewer than ten leave when the seed's timer ends.
    for (let n = 10; n < 13; n += 1) optimizes.queueMessage(status(7, { n }));
    await until('three more', 5_000, () => hears.of('agent_status').length === 13);
    [hears, sends].forEach((client) => client.close());
  });

  for (const [name, form] of [['pako1', 'string'], ['pako2', 'object']]) {
    await check(`a message compressed by ${name} (data is a ${form}) arrives as it was`, async () => {
      const [hears, sends] = [await manager(node), await agent(node, 8)];
      await joined(hears, 'agents');
      const optimizes = new (optimizer(need(name)))();
      const message = status(8, { note: 'é😀 "quoted" \\ '.repeat(200) });
      const compressed = optimizes.compressMessage(message);
      assert.equal(compressed.type, 'compressed');
      assert.equal(typeof compressed.data, form);
      sends.send(compressed);
      const got = await hears.first('agent_status');
      assert.deepEqual(got.data, message.data);
      assert.deepEqual(optimizes.compressMessage({ type: 'ping' }), { type: 'ping' });
      [hears, sends].forEach((client) => client.close());
    });
  }
}

async function resilience(node) {
  await check('a connection cut without a Close frame comes back and sends what it queued', async () => {
    const wire = await cuttable(node.ws);
    subjects += 1;
    const client = resilient(`${wire.url}?token=${mint(subjects, ALL_PERMISSIONS)}`);
    client.options.reconnectDelay = 100;
    const welcomes = () => client.heard.filter((message) => message.type === 'welcome').length;
    try {
      await client.connect();
      await until('the welcome', 5_000, () => welcomes() === 1);
      wire.cut();
      await until('the cut is noticed', 5_000, () => client.connectionState === 'disconnected');
      client.send({ type: 'ping', timestamp: 1234 });
      assert.equal(client.messageQueue.length, 1);
      await until('it is back', 10_000, () => welcomes() === 2);
      await until('the queued ping is answered', 5_000, () =>
        client.heard.some((message) => message.type === 'pong' && message.timestamp === 1234),
      );
      assert.equal(client.reconnectAttempts, 0);
      assert.deepEqual(client.emitted, []);
    } finally {
      client.scheduleReconnect = () => {};
      client.ws.close();
      wire.close();
    }
  });

  await check('a reliable message is acked by its id', async () => {
    const [hears, sends] = [await manager(node), await agent(node, 9)];
    await joined(hears, 'agents');
    const sender = new Sender(sends);
    sends.onAck = (message) => sender.handleAck(message);
    const id = sender.sendReliable(status(9));
    const ack = await sends.first('ack');
    assert.equal(ack.ackId, id);
    assert.equal(sender.pendingMessages.size, 0);
    assert.equal((await hears.first('agent_status')).id, id);
    [hears, sends].forEach((client) => client.close());
  });

  await check('a reliable message sent again is acked again and delivered once', async () => {
    const [hears, sends] = [await manager(node), await agent(node, 10)];
    await joined(hears, 'agents');
    const sender = new Sender(sends);
    sender.ackTimeout = 150;
    // The first acks are lost on their way to the sender.
    sends.onAck = (message) => sends.of('ack').length >= 3 && sender.handleAck(message);
    const id = sender.sendReliable(status(10));
    await until('the third ack', 5_000, () => sends.of('ack').length >= 3);
    assert.ok(sends.of('ack').every((ack) => ack.ackId === id));
    assert.equal(sender.pendingMessages.size, 0);
    await publish(node, { type: 'sentinel', room: 'agents', data: {} });
    await hears.first('sentinel');
    assert.deepEqual(hears.of('agent_status').map((message) => message.id), [id]);
    // The seed's timer tells a failure for what was acked meanwhile; it must not send again.
    await pause(400);
    assert.equal(sends.of('ack').length, 3);
    [hears, sends].forEach((client) => client.close());
  });
}

await script(async () => {
  const node = await startNode();
  await connecting(node);
  await rooms(node);
  await optimizing(node);
  await resilience(node);
});
