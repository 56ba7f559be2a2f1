// Measures the official worker and `holt serve` in one run, with the same control plane, client and scripts.
// usage: tests/conformance/run bench/worker.mjs HOLT [CALLS]
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { family, memoryOf } from '../tests/conformance/host.mjs';
import { Processes, sleep, until } from '../tests/conformance/processes.mjs';
import { playSession, startControlPlane } from '../tests/conformance/session.mjs';
import { workers } from '../tests/conformance/workers.mjs';

const holt = resolve(process.argv[2]);
const CALLS = Number(process.argv[3] ?? 300);
const CLAIMS = 10;
// The worker has been idle for this long when a session comes, a little longer each time: at any phase of its polling.
const IDLE_MS = 1500;
const IDLE_STEP_MS = 230;
const SESSIONS = 10;
const SETTLE_MS = 2000;
const BOUND_MS = 300_000;

const percentile = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];

function writeScripts(directory) {
  const { scripts } = JSON.parse(readFileSync(fileURLToPath(new URL('worker.json', import.meta.url))));
  const call = { calls: [{ name: 'bash', input: { command: 'true' } }] };
  // The first call starts the shell; it is not counted.
  scripts.round_trips = { steps: [...Array.from({ length: CALLS + 1 }, () => call), { end_turn: true }] };
  const path = join(directory, 'scripts.json');
  writeFileSync(path, JSON.stringify({ scripts }));
  return path;
}

/** Runs `body` with a fresh control plane and worker. */
async function withWorker(name, settings, body) {
  const processes = new Processes();
  try {
    const plane = await startControlPlane(processes, holt, writeScripts(processes.directory()), 60);
    const started = processes.children.length;
    await workers[name].start(processes, { holt, ...plane, maxIdleMs: 500, ...settings });
    const roots = processes.children.slice(started).map(({ child }) => child.pid);
    return await processes.whileRunning(body(plane, () => memoryOf(roots.flatMap((pid) => family(pid)))));
  } catch (error) {
    error.message += `\n${processes.logs()}`;
    throw error;
  } finally {
    await processes.end();
  }
}

/** From the session's creation until its first result is seen in the stream, sessions one after the other. */
const queuedToFirstResult = (name) =>
  withWorker(name, {}, async (plane) => {
    const times = [];
    for (let i = 0; i < CLAIMS; i++) {
      await sleep(IDLE_MS + i * IDLE_STEP_MS);
      const begun = performance.now();
      const onEvent = ({ type }) => type === 'user.tool_result' && times.push(performance.now() - begun);
      await playSession(plane, { script: 'first_result', onEvent, boundMs: BOUND_MS });
      // Until the worker is free for the next one.
      await until('the item to be stopped', async () => {
        const items = [];
        for await (const item of plane.client.beta.environments.work.list(plane.environmentId)) items.push(item);
        return items.every(({ state }) => state === 'stopped');
      });
    }
    return times.sort((a, b) => a - b);
  });

/** From a call's event to its result's event, both as the client sees them in its stream. */
const roundTrips = (name) =>
  withWorker(name, {}, async (plane) => {
    const asked = new Map();
    const times = [];
    const ends = [];
    const onEvent = (event) => {
      if (event.type === 'agent.tool_use') asked.set(event.id, performance.now());
      if (event.type === 'user.tool_result') {
        ends.push(performance.now());
        times.push(ends.at(-1) - asked.get(event.tool_use_id));
      }
    };
    await playSession(plane, { script: 'round_trips', onEvent, boundMs: BOUND_MS });
    const sorted = times.slice(1).sort((a, b) => a - b);
    return { sorted, mean: (ends.at(-1) - ends[0]) / CALLS };
  });

/** The official worker serves one session at a time, so ten sessions need ten of it. */
async function memory(name) {
  const idle = await withWorker(name, {}, async (_plane, measure) => {
    await sleep(SETTLE_MS);
    return measure();
  });
  const settings = name === 'sdk' ? { workers: SESSIONS } : {};
  const busy = await withWorker(name, settings, async (plane, measure) => {
    let here = 0;
    let measured;
    const result = new Promise((done) => (measured = done));
    const answerCustom = async () => {
      if (++here === SESSIONS) {
        await sleep(SETTLE_MS);
        measured(measure());
      }
      await result;
      return 'go on';
    };
    const sessions = Array.from({ length: SESSIONS }, () =>
      playSession(plane, { script: 'hold', answerCustom, boundMs: BOUND_MS }),
    );
    await Promise.all(sessions);
    return result;
  });
  return { idle, busy };
}

async function measure(name) {
  const claims = await queuedToFirstResult(name);
  const trips = await roundTrips(name);
  const { idle, busy } = await memory(name);
  return {
    [`queued to first result, p50 of ${CLAIMS}, ms`]: percentile(claims, 0.5),
    [`queued to first result, worst of ${CLAIMS}, ms`]: claims.at(-1),
    [`bash true round trip, p50 of ${CALLS}, ms`]: percentile(trips.sorted, 0.5),
    [`bash true round trip, p99 of ${CALLS}, ms`]: percentile(trips.sorted, 0.99),
    'bash true, whole session / calls, ms': trips.mean,
    'memory idle, PSS, MB': idle.pss / 1024,
    'memory idle, RSS, MB': idle.rss / 1024,
    [`memory at ${SESSIONS} sessions, PSS, MB`]: busy.pss / 1024,
    [`memory at ${SESSIONS} sessions, RSS, MB`]: busy.rss / 1024,
  };
}

const wanted = (process.env.BENCH_WORKERS ?? 'sdk,serve').split(',');
const measured = {};
for (const name of wanted) measured[name] = await measure(name);
const { sdk: official, serve: own } = measured;
if (!official || !own) {
  console.log(JSON.stringify(measured, undefined, 2));
  process.exit(0);
}
console.log('Official worker (@anthropic-ai/sdk 1.11.0) and holt serve, same control plane and client');
console.log(`command: tests/conformance/run bench/worker.mjs ${process.argv.slice(2).join(' ')}`);
console.log(`${''.padEnd(42)}${'official'.padStart(12)}${'holt'.padStart(12)}${'ratio'.padStart(10)}`);
for (const [label, value] of Object.entries(official)) {
  const ratio = `${(value / own[label]).toFixed(1)} x`;
  console.log(
    `${label.padEnd(42)}${value.toFixed(2).padStart(12)}${own[label].toFixed(2).padStart(12)}${ratio.padStart(10)}`,
  );
}
