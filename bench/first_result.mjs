// Measures the time from a session being queued to its first tool result being posted, in a new and in a kept sandbox,
// for the official worker, `holt serve` polling, and `holt serve` woken by webhooks.
// usage: tests/conformance/run bench/first_result.mjs HOLT [SAMPLES [OFFICIAL_SAMPLES]]
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { sleep } from '../tests/conformance/processes.mjs';
import { allStopped, bash, createSession, historyOf, percentile, printTable, say, withWorker } from './measure.mjs';

const holt = resolve(process.argv[2]);
const SAMPLES = Number(process.argv[3] ?? 100);
const OFFICIAL_SAMPLES = Number(process.argv[4] ?? 12);
const MAX_IDLE_MS = 20;
const SECRET = 'whsec_aG9sdC1iZW5jaG1hcmstc2lnbmluZy1rZXktMDEyMzQ1Njc=';

// The second turn says whether the shell of the first is still there.
const scripts = {
  two_turns: { steps: [bash('turn=first'), { end_turn: true }, bash('echo "${turn:-new}"'), { end_turn: true }] },
};

const now = () => performance.timeOrigin + performance.now();

/** When the control plane took the session's `index`-th result, by its clock, which is ours; and what it says. */
async function resultOf(plane, id, index) {
  const results = (await historyOf(plane, id)).filter(({ type }) => type === 'user.tool_result');
  return { at: Date.parse(results[index].processed_at), text: results[index].content[0].text.trim() };
}

/**
 * One session with two turns; the worker lets go of it in between. The worker has been idle for a random time before
 * each, up to `idleMs`: a poller is met at any phase of its polling.
 */
async function measureOne(plane, idleMs, done) {
  await sleep(Math.random() * idleMs);
  const begun = now();
  const { id } = await createSession(plane, 'two_turns');
  await say(plane, id);
  await allStopped(plane, 2 * done + 1);
  const fresh = (await resultOf(plane, id, 0)).at - begun;
  await sleep(Math.random() * idleMs);
  const again = now();
  await say(plane, id);
  await allStopped(plane, 2 * done + 2);
  const { at, text } = await resultOf(plane, id, 1);
  return { fresh, kept: at - again, isSameShell: text === 'first' };
}

const KEEP = ['--keep', '10m', '--keep-most', '1000'];

const measure = (name, samples, idleMs, { emulate, more = [], env } = {}) =>
  withWorker(holt, name, { scripts, maxIdleMs: MAX_IDLE_MS, emulate, more: [...KEEP, ...more], env }, async (plane) => {
    const all = [];
    // The first warms the machine's caches, for everybody.
    for (let i = 0; i <= samples; i++) all.push(await measureOne(plane, idleMs, i));
    const part = (key) => all.slice(1).map((one) => one[key]).sort((a, b) => a - b);
    return { fresh: part('fresh'), kept: part('kept'), sameShell: part('isSameShell').filter(Boolean).length };
  });

/** A port that nobody listens on now. */
const freePort = () =>
  new Promise((done, failed) => {
    const server = createServer().on('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

async function measureWebhook() {
  const port = await freePort();
  return measure('serve', SAMPLES, 50, {
    emulate: ['--webhook-url', `http://127.0.0.1:${port}/webhook`, '--webhook-secret', SECRET],
    more: ['--webhook-listen', `127.0.0.1:${port}`, '--poll', 'never'],
    env: { ANTHROPIC_WEBHOOK_SIGNING_KEY: SECRET },
  });
}

function rows(name, { fresh, kept }) {
  const labelled = {};
  for (const [what, sorted] of [['new', fresh], ['kept', kept]]) {
    for (const [title, part] of [['p50', 0.5], ['p99', 0.99]]) {
      labelled[`${name}, ${what} sandbox, ${title}, ms`] = percentile(sorted, part);
    }
  }
  return labelled;
}

const official = await measure('sdk', OFFICIAL_SAMPLES, 3000);
const polling = await measure('serve', SAMPLES, 50);
const webhook = await measureWebhook();
console.log('Queued to first tool result posted');
console.log(`command: tests/conformance/run bench/first_result.mjs ${process.argv.slice(2).join(' ')}`);
console.log(
  `samples: official ${OFFICIAL_SAMPLES} (its p99 is its worst), holt ${SAMPLES}; ` +
    `same shell in the second turn: official ${official.sameShell}, holt ${polling.sameShell + webhook.sameShell} of ${2 * SAMPLES}`,
);
printTable(
  { ...rows('polling', official), ...rows('webhook', official) },
  { ...rows('polling', polling), ...rows('webhook', webhook) },
);
