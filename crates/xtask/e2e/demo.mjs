// The demo as a person meets it: a node, an agent, the page in a real browser. The figures must be this machine's and
// must move, the page must fetch nothing from elsewhere, and a killed agent must be shown offline.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';

import { check, need, script, start, startNode, stop, until } from './lib/harness.mjs';

const { chromium } = need('playwright-core');
const SCREENSHOTS = new URL('../../../target/screenshots/', import.meta.url).pathname;
const AGENT = 4_242;
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

const errors = [];
const foreign = [];

async function open(node) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: FLAGS,
    timeout: 60_000,
  });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (line) => line.type() === 'error' && errors.push(line.text()));
  page.on('request', (request) => {
    if (!request.url().startsWith(node.http) && !request.url().startsWith('data:')) {
      foreign.push(request.url());
    }
  });
  await page.goto(node.http);
  return { browser, page };
}

const card = (page) => page.locator(`[data-testid="agent-card"][data-agent-id="${AGENT}"]`);
const state = (page, wanted) =>
  page.locator(`[data-testid="agent-card"][data-agent-id="${AGENT}"][data-state="${wanted}"]`).waitFor();
const figure = async (page, name) => (await card(page).getByTestId(name).innerText()).trim();
const number = (text) => Number(text.match(/-?\d+(\.\d+)?/)?.[0] ?? NaN);

/** The share of memory in use, from the same source as the agent's. */
function memoryUsed() {
  const info = readFileSync('/proc/meminfo', 'utf8');
  const kib = (name) => Number(info.match(new RegExp(`^${name}:\\s+(\\d+)`, 'm'))[1]);
  return 100 * (1 - kib('MemAvailable') / kib('MemTotal'));
}

async function live(page) {
  await check('the page says that it is connected, with a latency', async () => {
    const connected = page.getByTestId('connection-state').filter({ hasText: /^\s*connected\s*$/ });
    await connected.waitFor();
    await until('a latency', 20_000, async () =>
      Number.isFinite(number(await page.getByTestId('latency').innerText())),
    );
  });

  await check('the agent is shown online with all its figures', async () => {
    await state(page, 'online');
    for (const name of ['cpu', 'memory', 'disk', 'network']) {
      await until(name, 10_000, async () => Number.isFinite(number(await figure(page, name))));
    }
  });

  await check('the memory shown is this machine\'s', async () => {
    await until('the same share within 15 points', 10_000, async () =>
      Math.abs(number(await figure(page, 'memory')) - memoryUsed()) < 15,
    );
  });

  await check('the figures move while one looks', async () => {
    const shown = async () => (await Promise.all(['cpu', 'memory', 'network'].map((it) => figure(page, it)))).join();
    let [last, changes] = [await shown(), 0];
    await until('three changes', 20_000, async () => {
      const now = await shown();
      if (now !== last) changes += 1;
      last = now;
      return changes >= 3;
    });
  });

  await check('the rooms and the code that does it are on the page', async () => {
    assert.match(await page.getByTestId('room-list').innerText(), /agents/);
    assert.match(await page.getByTestId('code-sample').innerText(), /WebSocket|subscribe/);
  });
}

async function losses(page, agent, node) {
  await check('a killed agent is shown offline, and online when it is back', async () => {
    await stop(agent, 'SIGKILL');
    await state(page, 'offline');
    await page.screenshot({ path: `${SCREENSHOTS}demo-offline.png`, fullPage: true });
    startAgent(node);
    await state(page, 'online');
  });

  await check('a node that is gone is shown as such', async () => {
    await stop(node.child);
    const lost = page.getByTestId('connection-state').filter({ hasNotText: /^\s*connected\s*$/ });
    await lost.waitFor();
  });
}

const startAgent = (node) =>
  start(['agent', '--dev', '--url', node.ws, '--id', String(AGENT), '--interval', '500ms']);

await script(async () => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  const node = await startNode();
  const agent = startAgent(node);
  const { browser, page } = await open(node);
  try {
    await live(page);
    await page.screenshot({ path: `${SCREENSHOTS}demo.png`, fullPage: true });
    await check('the page fetched nothing from elsewhere and raised no error', async () => {
      assert.deepEqual(foreign, []);
      assert.deepEqual(errors, []);
    });
    await losses(page, agent, node);
  } finally {
    await browser.close();
  }
});
