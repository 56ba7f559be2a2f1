// Measures the official worker and `holt serve` in one run, with the same control plane, client and scripts.
// usage: tests/conformance/run bench/worker.mjs HOLT [CALLS]
import { resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { cpuOf } from '../tests/conformance/host.mjs';
import { sleep } from '../tests/conformance/processes.mjs';
import { playSession } from '../tests/conformance/session.mjs';
import { BOUND_MS, bash, memory, percentile, printTable, withWorker } from './measure.mjs';

const holt = resolve(process.argv[2]);
const CALLS = Number(process.argv[3] ?? 1000);
const WINDOW = 10;
const SESSIONS = 10;
const SETTLE_MS = 2000;

const times = (count, step) => Array.from({ length: count }, () => step);
const END = { end_turn: true };
const read = { calls: [{ name: 'read', input: { file_path: 'small.txt' } }] };

// The first call starts the shell, or makes the file; it is not counted.
const scripts = {
  bash: { steps: [bash('true'), ...times(CALLS, bash('true')), END] },
  read: { steps: [bash('seq 20 > small.txt'), ...times(CALLS, read), END] },
  hold: { steps: [bash('true'), { calls: [{ name: 'ask_person', input: {}, custom: true }] }, END] },
};

/**
 * What a call costs, from result to result as the client sees them in its stream, over ten calls each: it may read
 * several events in one piece. And the processor time that the worker's processes take meanwhile: following the
 * session costs the client and the control plane, not the worker.
 */
const roundTrips = (name, script) =>
  withWorker(holt, name, { scripts }, async (plane, members) => {
    const ends = [];
    const cpu = [];
    const note = () => cpu.push({ all: cpuOf(members()), shell: cpuOf(members(), 'bash') });
    const onEvent = (event) => {
      if (event.type !== 'user.tool_result') return;
      if (ends.length === 0 || ends.length === CALLS) note();
      ends.push(performance.now());
    };
    await playSession(plane, { script, onEvent, boundMs: BOUND_MS });
    const sorted = [];
    for (let i = WINDOW; i < ends.length; i += WINDOW) sorted.push((ends[i] - ends[i - WINDOW]) / WINDOW);
    sorted.sort((a, b) => a - b);
    const taken = (key) => ((cpu[1][key] - cpu[0][key]) * 1000) / CALLS;
    return { sorted, mean: (ends.at(-1) - ends[0]) / CALLS, cpu: taken('all'), cpuOfShell: taken('shell') };
  });

/** The official worker serves one session at a time, so ten sessions need ten of it. */
async function memories(name) {
  const idle = await withWorker(holt, name, { scripts }, async (_plane, members) => {
    await sleep(SETTLE_MS);
    return memory(members);
  });
  const settings = name === 'sdk' ? { workers: SESSIONS } : {};
  const busy = await withWorker(holt, name, { scripts, ...settings }, async (plane, members) => {
    let here = 0;
    let measured;
    const result = new Promise((done) => (measured = done));
    const answerCustom = async () => {
      if (++here === SESSIONS) {
        await sleep(SETTLE_MS);
        measured(memory(members));
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
  const shell = await roundTrips(name, 'bash');
  const file = await roundTrips(name, 'read');
  const { idle, busy } = await memories(name);
  return {
    'bash true, ms a call, mean': shell.mean,
    'bash true, ms a call over ten calls, p50': percentile(shell.sorted, 0.5),
    'bash true, ms a call over ten calls, p99': percentile(shell.sorted, 0.99),
    'read, ms a call, mean': file.mean,
    'read, ms a call over ten calls, p50': percentile(file.sorted, 0.5),
    'read, ms a call over ten calls, p99': percentile(file.sorted, 0.99),
    'CPU of 1,000 bash calls, with the shell, s': shell.cpu,
    'CPU of 1,000 bash calls, without the shell, s': shell.cpu - shell.cpuOfShell,
    'CPU of 1,000 read calls, s': file.cpu,
    'memory idle, PSS, MB': idle.pss / 1024,
    'memory idle, RSS, MB': idle.rss / 1024,
    [`memory at ${SESSIONS} sessions, PSS, MB`]: busy.pss / 1024,
    [`memory at ${SESSIONS} sessions, RSS, MB`]: busy.rss / 1024,
  };
}

const wanted = (process.env.BENCH_WORKERS ?? 'sdk,serve').split(',');
const measured = {};
for (const name of wanted) measured[name] = await measure(name);
if (wanted.length < 2) {
  console.log(JSON.stringify(measured, undefined, 2));
} else {
  console.log('Official worker (@anthropic-ai/sdk 1.11.0) and holt serve, same control plane and client');
  console.log(`command: tests/conformance/run bench/worker.mjs ${process.argv.slice(2).join(' ')}`);
  printTable(measured.sdk, measured.serve);
}
