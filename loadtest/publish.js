// Publishing by the server API and by clients, side by side into the same rooms: how long until it is accepted, and
// whether listeners hear every publication of every publisher once and in order.

import exec from 'k6/execution';
import http from 'k6/http';
import { check, sleep } from 'k6';
import {
  apiKey, apis, Client, clients, Expected, gracefulStop, honest, p95, pause, quiet, room, within,
} from './lib/roomcast.js';

const rooms = Number(__ENV.ROOMS || '5');
const publications = Number(__ENV.PUBLICATIONS || '300');
const backends = Number(__ENV.BACKENDS || '5');
const publishers = Number(__ENV.PUBLISHERS || '5');
const listeners = Math.max(Math.floor(clients / 10), rooms);
const intervalMs = Number(__ENV.INTERVAL_MS || '50');
/** Joining gets so long; the publishers begin after it. */
const joinMs = Number(__ENV.JOIN_S || '5') * 1000;

/** What all listeners hear of one room's publishers, summed over the rooms. */
const inRoom = (total, index) => Math.floor((total - index + rooms - 1) / rooms);
const deliveries = Array.from({ length: rooms }, (_, index) => inRoom(listeners, index)
  * (inRoom(backends, index) + inRoom(publishers, index)) * publications).reduce((a, b) => a + b, 0);

const common = { executor: 'per-vu-iterations', iterations: 1, maxDuration: '3m', gracefulStop };

export const options = {
  scenarios: {
    listen: { ...common, vus: rooms, exec: 'listen' },
    api: { ...common, vus: backends, exec: 'api' },
    client: { ...common, vus: publishers, exec: 'client' },
  },
  thresholds: {
    checks: ['rate==1'],
    roomcast_delivered: [`count==${deliveries}`],
    'http_req_duration{scenario:api}': [p95],
    roomcast_ack_ms: [p95],
    roomcast_delivery_ms: [p95],
  },
};

export function setup() {
  return { run: Date.now().toString(36), begin: Date.now() + joinMs };
}

const place = () => exec.scenario.iterationInTest;
/** A publisher's room, whatever its kind. */
const roomOf = (run, index) => room(run, index % rooms);

/** All listeners of one room. */
export function listen({ run, begin }) {
  return honest(async () => {
    const index = place();
    const names = [];
    for (let it = index; it < backends; it += rooms) names.push(`api-${it}`);
    for (let it = index; it < publishers; it += rooms) names.push(`client-${it}`);
    const members = [];
    for (let it = index; it < listeners; it += rooms) {
      const expected = new Expected(names, publications);
      const client = new Client(`listener-${it}`, { onPublication: (message) => expected.hear(message) });
      await client.open();
      await client.join(roomOf(run, index));
      members.push({ client, expected });
    }
    check(begin, { 'all listeners joined before the first publication': (it) => Date.now() < it });
    const longest = begin - Date.now() + publications * intervalMs * 2 + 30_000;
    const heard = names.length > 0 ? Promise.all(members.map(({ expected }) => expected.all)) : Promise.resolve();
    await within(longest, 'every publication', heard).catch((cause) => console.error(String(cause)));
    // What comes twice would come now.
    await pause(1_000);
    for (const { client, expected } of members) {
      expected.judge();
      quiet(client);
      client.close();
    }
    await Promise.all(members.map(({ client }) => client.closed));
  });
}

/** A back-end: one request after the other, each to another node. */
export function api({ run, begin }) {
  const index = place();
  const headers = { 'Content-Type': 'application/json' };
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  sleep(Math.max(begin - Date.now(), 0) / 1000);
  for (let n = 1; n <= publications; n += 1) {
    const data = { from: `api-${index}`, n, sent: Date.now() };
    const body = JSON.stringify({ id: `${run}-${index}-${n}`, room: roomOf(run, index), type: 'load', data });
    const answer = http.post(`${apis[n % apis.length]}/api/v1/publish`, body, { headers, tags: { name: 'publish' } });
    const accepted = check(answer, {
      'the server API accepted it': (it) => it.status === 200 && it.json('level') === 'accepted',
    });
    if (!accepted) console.error(`${answer.status} ${answer.body}`);
    sleep(Math.max(begin + n * intervalMs - Date.now(), 0) / 1000);
  }
}

/** A client that publishes and waits for the ack before it goes on. */
export function client({ run, begin }) {
  return honest(async () => {
    const index = place();
    const publisher = new Client(`client-${index}`);
    await publisher.open();
    await pause(begin - Date.now());
    for (let n = 1; n <= publications; n += 1) {
      const ack = await publisher.publish(roomOf(run, index), { from: `client-${index}`, n });
      check(ack, { 'the ack says accepted': ({ data }) => data.level === 'accepted' });
      await pause(begin + n * intervalMs - Date.now());
    }
    quiet(publisher);
    await publisher.close();
  });
}
