// What the measurements of the official worker and `holt serve` share: a control plane with a worker, and the table.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { family, memoryOf } from '../tests/conformance/host.mjs';
import { Processes, until } from '../tests/conformance/processes.mjs';
import { startControlPlane } from '../tests/conformance/session.mjs';
import { workers } from '../tests/conformance/workers.mjs';

export const BOUND_MS = 300_000;

export const percentile = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];

export const bash = (command) => ({ calls: [{ name: 'bash', input: { command } }] });

/**
 * Runs `body(plane, members, start)` with a fresh control plane that knows `scripts`. The worker is started before,
 * or, with `startsLater`, by `start`. `members` lists its processes; `settings` may hold the options of workers.mjs,
 * and `emulate`: more options of the control plane.
 */
export async function withWorker(holt, name, { scripts, emulate = [], startsLater = false, ...settings }, body) {
  const processes = new Processes();
  let place;
  try {
    const path = join(processes.directory(), 'scripts.json');
    writeFileSync(path, JSON.stringify({ scripts }));
    const plane = await startControlPlane(processes, holt, path, 60, { more: emulate });
    const started = processes.children.length;
    const start = async () => {
      place = await workers[name].start(processes, { holt, ...plane, maxIdleMs: 500, ...settings });
    };
    if (!startsLater) await start();
    const members = () => processes.children.slice(started).flatMap(({ child }) => family(child.pid));
    return await processes.whileRunning(body(plane, members, start));
  } catch (error) {
    error.message += `\n${processes.logs()}`;
    throw error;
  } finally {
    if (place?.daemon) await sweep(processes, holt, place);
    await processes.end();
  }
}

/** Ends the sandboxes that the daemon kept for its sessions: one that keeps none starts and ends there. */
async function sweep(processes, holt, { daemon, stateDir }) {
  await processes.stop(daemon);
  const nobody = ['--environment-id', 'env_none', '--base-url', 'http://127.0.0.1:9'];
  const sweeper = processes.start('sweep', holt, ['serve', ...nobody, '--state-dir', stateDir, '--keep', '0'], {
    env: { ANTHROPIC_ENVIRONMENT_KEY: 'sk-none' },
  });
  await processes.said(sweeper, /serving environment/);
  await processes.stop(sweeper);
}

export const memory = (members) => memoryOf(members());

/** Waits until no work item is alive; asked for often, so it must cost the control plane little. */
export const allStopped = (plane, count = 1) =>
  until(
    'the work items to be stopped',
    async () => {
      const { work } = await plane.client.get('/emulator/stats');
      const { stopped, ...alive } = work;
      return stopped >= count && Object.values(alive).every((number) => number === 0);
    },
    BOUND_MS,
  );

/** Creates a session whose brain is `script`; it runs when it is told something. */
export const createSession = (plane, script) =>
  plane.client.beta.sessions.create({
    agent: plane.agentId,
    environment_id: plane.environmentId,
    metadata: { script },
  });

export const say = (plane, id) =>
  plane.client.beta.sessions.events.send(id, {
    events: [{ type: 'user.message', content: [{ type: 'text', text: 'go' }] }],
  });

/** Every event of a session, from the history. */
export async function historyOf(plane, id) {
  const events = [];
  for await (const event of plane.client.beta.sessions.events.list(id, { limit: 1000 })) events.push(event);
  return events;
}

const shown = (value) => (value === undefined ? '-' : value.toFixed(2)).padStart(12);

/** Prints rows of {label: value}; `better` says how the ratio is to be read: 'less' or 'more' is better. */
export function printTable(official, own, better = () => 'less') {
  console.log(`${''.padEnd(50)}${'official'.padStart(12)}${'holt'.padStart(12)}${'ratio'.padStart(10)}`);
  for (const label of Object.keys(own)) {
    const [theirs, ours] = [official[label], own[label]];
    const ratio = better(label) === 'less' ? theirs / ours : ours / theirs;
    const text = theirs === undefined ? '-' : `${ratio.toFixed(1)} x`;
    console.log(`${label.padEnd(50)}${shown(theirs)}${shown(ours)}${text.padStart(10)}`);
  }
}
