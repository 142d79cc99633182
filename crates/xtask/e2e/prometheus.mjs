// A real Prometheus with `deploy/prometheus.yml` scrapes three nodes, and its own tool finds nothing wrong with what
// they say.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { check, folder, launch, publish, script, startCluster, until } from './lib/harness.mjs';
import { User } from './lib/user.mjs';

const PUBLICATIONS = 20;
const deployed = new URL('../../../deploy/prometheus.yml', import.meta.url).pathname;
const promtool = (args, input) => execFileSync(process.env.PROMTOOL, args, { input, encoding: 'utf8', stdio: 'pipe' });

/** The deployed file with the nodes' addresses, and an interval that suits a test. */
function configuration(cluster) {
  let text = readFileSync(deployed, 'utf8').replace(/scrape_interval: \w+/, 'scrape_interval: 1s');
  text = text.replace(/scrape_timeout: \w+/, 'scrape_timeout: 1s');
  for (const node of cluster.nodes) {
    const address = `${node.name}:9090`;
    assert.ok(text.includes(address), `${deployed} does not name ${address}`);
    text = text.replace(address, node.internal.replace('http://', ''));
  }
  const file = join(folder, 'prometheus.yml');
  writeFileSync(file, text);
  return file;
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function startPrometheus(cluster) {
  const data = join(folder, 'prometheus');
  mkdirSync(data);
  const address = `127.0.0.1:${await freePort()}`;
  const child = launch(process.env.PROMETHEUS, [
    `--config.file=${configuration(cluster)}`, `--storage.tsdb.path=${data}`, `--web.listen-address=${address}`,
  ]);
  /** What a query gives now: values by node. */
  const query = async (expression) => {
    const url = `http://${address}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const { data: { result } } = await (await fetch(url)).json();
    const name = (instance) => cluster.nodes.find((node) => node.internal === `http://${instance}`)?.name;
    return Object.fromEntries(result.map(({ metric, value }) => [name(metric.instance), Number(value[1])]));
  };
  await until('prometheus is ready', 30_000, async () => {
    if (child.exitCode !== null) throw new Error(`prometheus ended: ${child.told}`);
    return fetch(`http://${address}/-/ready`).then(({ ok }) => ok, () => false);
  });
  return { child, query };
}

const each = (cluster, value) => Object.fromEntries(cluster.nodes.map(({ name }) => [name, value]));

async function scraped(cluster, prometheus) {
  /** Waits until the query gives `wanted`, and shows what it gave last otherwise. */
  const becomes = async (expression, wanted) => {
    let last;
    await until(expression, 20_000, async () => {
      last = await prometheus.query(expression);
      return JSON.stringify(last, Object.keys(last).sort()) === JSON.stringify(wanted, Object.keys(wanted).sort());
    }).catch(() => assert.deepEqual(last, wanted, expression));
  };

  await check('all nodes are scraped', () => becomes('up', each(cluster, 1)));

  await check('the relay\'s figures are those of what was published', async () => {
    const [first] = cluster.nodes;
    const users = await Promise.all(
      cluster.nodes.map(({ ws }, n) => new User(ws, 600 + n, '127.0.0.1').open('demo')),
    );
    for (let n = 0; n < PUBLICATIONS; n += 1) {
      await publish(first, { type: 'chat_line', room: 'demo', data: { n } });
    }
    for (const user of users) {
      const heard = () => user.heard.filter(({ type }) => type === 'chat_line').map(({ data }) => data.n);
      await until(`user ${user.sub} hears all`, 5_000, () => heard().length >= PUBLICATIONS).catch((cause) => {
        throw new Error(`${cause.message}, but ${heard()}; ${JSON.stringify(user.heard.slice(0, 4))}`);
      });
    }
    await becomes('roomcast_relay_wanted_total', each(cluster, PUBLICATIONS));
    await becomes('roomcast_relay_unwanted_total', each(cluster, 0));
    await becomes('sum by (instance) (roomcast_publications_routed_total)', each(cluster, PUBLICATIONS));
    await becomes('roomcast_relay_delivery_seconds_count > bool 0', each(cluster, 1));
  });

  await check('each node says that it hears the others', async () => {
    await becomes('roomcast_relay_state{state="whole"}', each(cluster, 1));
    await becomes('roomcast_relay_peers', each(cluster, cluster.nodes.length - 1));
    await becomes('roomcast_relay_peers_deaf', each(cluster, 0));
    await becomes('roomcast_relay_beat_age_seconds < bool 3', each(cluster, 1));
  });

  await check('a killed node is down, and the others are not', async () => {
    const [, victim] = cluster.nodes;
    process.kill(victim.pid, 'SIGKILL');
    await becomes('up', { ...each(cluster, 1), [victim.name]: 0 });
  });
}

await script(async () => {
  const cluster = await startCluster();

  await check('`promtool check metrics` has nothing to say about any node', async () => {
    for (const node of cluster.nodes) {
      const metrics = await (await fetch(`${node.internal}/metrics`)).text();
      assert.match(metrics, /^roomcast_sessions_open/m);
      assert.equal(promtool(['check', 'metrics'], metrics), '');
    }
  });

  await check('`promtool check config` takes the deployed file', async () => {
    assert.match(promtool(['check', 'config', deployed]), /SUCCESS/);
  });

  await scraped(cluster, await startPrometheus(cluster));
});
