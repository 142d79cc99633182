// CLIENTS members in ROOMS rooms hear PUBLICATIONS publications in each: each member every one, once, in order, and how
// long each took. PUBLISHERS clients publish, each in its share of the rooms, and number what they publish.

import exec from 'k6/execution';
import http from 'k6/http';
import { check } from 'k6';
import {
  apis, Client, clients, Expected, gracefulStop, honest, p95, pause, quiet, room, share, vus, within,
} from './lib/roomcast.js';

const rooms = Math.min(Number(__ENV.ROOMS || '50'), clients);
const publications = Number(__ENV.PUBLICATIONS || '100');
const publishers = Math.min(Number(__ENV.PUBLISHERS || '5'), rooms);
const intervalMs = Number(__ENV.INTERVAL_MS || '200');
/** Joining gets so long; the publishers begin after it. */
const joinMs = Number(__ENV.JOIN_S || '15') * 1000;

/** The two rooms of a member, by their numbers; one where they are the same. */
const roomsOf = (index) => [...new Set([index % rooms, (index * 7 + 3) % rooms])];
const memberships = Array.from({ length: clients }, (_, index) => roomsOf(index).length).reduce((a, b) => a + b, 0);

const common = { executor: 'per-vu-iterations', iterations: 1, maxDuration: '3m', gracefulStop };

export const options = {
  scenarios: {
    members: { ...common, vus, exec: 'member' },
    publishers: { ...common, vus: publishers, exec: 'publisher' },
  },
  thresholds: {
    checks: ['rate==1'],
    roomcast_delivered: [`count==${memberships * publications}`],
    roomcast_delivery_ms: [p95],
    roomcast_ack_ms: [p95],
  },
};

export function setup() {
  return { run: Date.now().toString(36), begin: Date.now() + joinMs };
}

/** A number from 0 for each virtual user of the scenario. */
const place = () => exec.scenario.iterationInTest;

export function member({ run, begin }) {
  return honest(async () => {
    const members = await Promise.all(share(place()).map((index) => join(run, index)));
    check(begin, { 'all members joined before the first publication': (it) => Date.now() < it });
    const longest = begin - Date.now() + publications * intervalMs + 30_000;
    await within(longest, 'every publication', Promise.all(members.flatMap((it) => it.all))).catch((cause) => {
      console.error(String(cause));
    });
    // What comes twice would come now.
    await pause(1_000);
    for (const { client, expected } of members) {
      expected.forEach((it) => it.judge());
      quiet(client);
      client.close();
    }
    await Promise.all(members.map(({ client }) => client.closed));
  });
}

/** A member of two rooms, so that what it hears of the one must not hold up or mix with the other. */
async function join(run, index) {
  const names = roomsOf(index).map((it) => room(run, it));
  const expected = new Map(names.map((name) => [name, new Expected(['p'], publications)]));
  const client = new Client(`member-${index}`, { onPublication: (it) => expected.get(it.room).hear(it) });
  await pause((joinMs / 3) * (index / clients));
  await client.open();
  for (const name of names) await client.join(name);
  return { client, expected: [...expected.values()], all: [...expected.values()].map((it) => it.all) };
}

export function publisher({ run, begin }) {
  return honest(async () => {
    const mine = [];
    for (let index = place(); index < rooms; index += publishers) mine.push(index);
    const client = new Client(`publisher-${place()}`, { kind: 'backend' });
    await client.open();
    await pause(begin - Date.now());
    const acks = [];
    for (let n = 1; n <= publications; n += 1) {
      mine.forEach((index) => acks.push(client.publish(room(run, index), { from: 'p', n })));
      await pause(begin + n * intervalMs - Date.now());
    }
    const levels = await Promise.all(acks);
    check(levels, { 'every publication was accepted': (it) => it.every(({ data }) => data.level === 'accepted') });
    quiet(client);
    await client.close();
  });
}

export function teardown() {
  for (const api of apis) {
    const { body } = http.get(`${api}/metrics`);
    const welcomed = [...body.matchAll(/^roomcast_sessions_ready_total\{[^}]*\} (\d+)/gm)];
    check(welcomed, { 'the balancer gave every node clients': (it) => it.some(([, value]) => Number(value) > 0) });
  }
}
