// Measures how many short sessions a second the official worker and `holt serve` get through: one tool call each, one
// session after the other, and several at once, which the official worker cannot.
// usage: tests/conformance/run bench/throughput.mjs HOLT [SESSIONS]
import { resolve } from 'node:path';
import { cpuOf } from '../tests/conformance/host.mjs';
import { allStopped, bash, createSession, printTable, say, withWorker } from './measure.mjs';

const holt = resolve(process.argv[2]);
const SESSIONS = Number(process.argv[3] ?? 200);
const OFFICIAL_SESSIONS = Math.min(SESSIONS, 50);
const AT_ONCE = 16;

// A session that ends itself: nobody waits for what is said next.
const scripts = { short: { steps: [bash('true'), { terminate: true }] } };

/**
 * All sessions are queued before the worker starts; from the first claim to the last item stopped, by the queue. The
 * processor time is that of the worker's processes over all of it, sandboxes and shells included, its start left out.
 */
const measure = (name, count, atOnce) => {
  const more = ['--max-sessions', String(atOnce)];
  return withWorker(holt, name, { scripts, more, startsLater: true }, async (plane, members, start) => {
    for (let i = 0; i < count; i++) await say(plane, (await createSession(plane, 'short')).id);
    await start();
    const before = cpuOf(members());
    await allStopped(plane, count);
    const cpu = cpuOf(members()) - before;
    const items = [];
    for await (const item of plane.client.beta.environments.work.list(plane.environmentId, { limit: 1000 })) {
      items.push(item);
    }
    const first = Math.min(...items.map((item) => Date.parse(item.acknowledged_at)));
    const last = Math.max(...items.map((item) => Date.parse(item.stopped_at)));
    return { rate: (count * 1000) / (last - first), cpu: (cpu * 1000) / count };
  });
};

const rows = (how, { rate, cpu }) => ({
  [`sessions a second, ${how}`]: rate,
  [`CPU of a session, ${how}, ms`]: cpu,
});
const serial = 'one after the other';
const official = rows(serial, await measure('sdk', OFFICIAL_SESSIONS, 1));
const own = {
  ...rows(serial, await measure('serve', SESSIONS, 1)),
  ...rows(`${AT_ONCE} at once`, await measure('serve', SESSIONS, AT_ONCE)),
};
console.log(`Short sessions, one bash call each: ${SESSIONS} by holt, ${OFFICIAL_SESSIONS} by the official worker`);
console.log(`command: tests/conformance/run bench/throughput.mjs ${process.argv.slice(2).join(' ')}`);
printTable(official, own, (label) => (label.startsWith('CPU') ? 'less' : 'more'));
