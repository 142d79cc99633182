// Connects CLIENTS clients over RAMP_S seconds, holds them, and lets them go: how long the upgrade and the welcome take.

import exec from 'k6/execution';
import { check } from 'k6';
import { Client, clients, gracefulStop, honest, p95, pause, quiet, room, share, vus } from './lib/roomcast.js';

const rampMs = Number(__ENV.RAMP_S || '10') * 1000;
const holdMs = Number(__ENV.HOLD_S || '5') * 1000;

export const options = {
  scenarios: {
    connect: { executor: 'per-vu-iterations', vus, iterations: 1, maxDuration: '3m', gracefulStop },
  },
  thresholds: {
    checks: ['rate==1'],
    roomcast_welcomed: [`count==${clients}`],
    roomcast_handshake_ms: [p95],
    roomcast_welcome_ms: [p95],
  },
};

export default function () {
  return honest(async () => {
    const mine = share(exec.vu.idInTest - 1);
    const begun = Date.now();
    const open = mine.map(async (_, index) => {
      await pause((rampMs * index) / mine.length);
      const client = new Client(`connect-${exec.vu.idInTest}-${index}`);
      await client.open();
      return client;
    });
    const opened = await Promise.all(open);
    await pause(begun + rampMs + holdMs - Date.now());
    const answers = await Promise.all(opened.map((client) => client.join(room('connect', 0))));
    check(answers, { 'every held connection still answers': (it) => it.every(({ type }) => type === 'subscribed') });
    await Promise.all(opened.map((client) => client.close()));
    opened.forEach(quiet);
  });
}
