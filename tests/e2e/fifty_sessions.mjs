// 50 sessions at once through one `holt serve`, each in its own sandbox; afterwards nothing is left of them.
// usage: fifty_sessions.mjs HOLT [COUNT]. Prints TAP.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cgroupsOf, family, isAlive, mountsBelow, sandboxed } from '../conformance/host.mjs';
import { Processes, until } from '../conformance/processes.mjs';
import { itemsStopped, playSession, startControlPlane } from '../conformance/session.mjs';
import { Tap } from '../conformance/tap.mjs';
import { workers } from '../conformance/workers.mjs';

const BOUND_MS = 300_000;
const SCRIPTS = fileURLToPath(new URL('fifty_sessions.json', import.meta.url));
const holt = resolve(process.argv[2]);
const count = Number(process.argv[3] ?? 50);

/** Lets nobody go on before `count` are there: the sessions are then truly served at the same time. */
function meetingPoint(everyoneIsHere) {
  let here = 0;
  let open;
  const opened = new Promise((release) => (open = release));
  return () => {
    if (++here === count) open(everyoneIsHere());
    return opened;
  };
}

const sandboxDirectories = (stateDir) =>
  existsSync(`${stateDir}/sandboxes`) ? readdirSync(`${stateDir}/sandboxes`) : [];

/** The groups below keeper's own. */
const sandboxGroups = (stateDir) => cgroupsOf(stateDir).filter((path) => !/\/holt-[0-9a-f]+-[0-9a-f]+$/.test(path));

const tap = new Tap();
const processes = new Processes();
try {
  const plane = await startControlPlane(processes, holt, SCRIPTS, 60);
  const place = await workers.serve.start(processes, { holt, ...plane, maxIdleMs: 1000 });
  const daemon = place.daemon.child.pid;
  await until('the daemon to have its state directory', () => existsSync(place.stateDir));
  const before = sandboxDirectories(place.stateDir);
  const during = {};
  const answerCustom = meetingPoint(() => {
    during.members = family(daemon);
    during.sandboxed = sandboxed(daemon);
    during.cgroups = sandboxGroups(place.stateDir);
    during.directories = sandboxDirectories(place.stateDir);
    return 'all are here';
  });

  let reports = [];
  await tap.check(`${count} sessions complete at once`, async () => {
    const options = { script: 'own_sandbox', answerCustom, boundMs: BOUND_MS };
    const sessions = Array.from({ length: count }, () => playSession(plane, options));
    reports = await processes.whileRunning(Promise.all(sessions));
    await processes.whileRunning(itemsStopped(plane));
    for (const { record } of reports) {
      assert.deepEqual(record.failures, []);
      assert.equal(record.is_finished, true);
    }
  });
  await tap.check('each session has namespaces of its own', () => {
    const first = ({ history }) => history.find(({ type }) => type === 'user.tool_result').content[0].text;
    for (const kind of ['pid', 'mnt', 'net']) {
      const namespaces = reports.map((report) => new RegExp(`${kind}:\\[(\\d+)\\]`).exec(first(report))[1]);
      assert.equal(new Set(namespaces).size, count, kind);
    }
  });
  await tap.check('all sandboxes stood at the same time', () => {
    assert.ok(during.directories.length >= count, `${during.directories.length} directories`);
    assert.ok(during.sandboxed.length >= 2 * count, `${during.sandboxed.length} processes in sandboxes`);
    assert.ok(during.cgroups.length >= count, `${during.cgroups.length} control groups`);
  });
  await tap.check('once idle, the running daemon holds no sandbox any more', async () => {
    await until('the processes of the sandboxes to end', () => !during.sandboxed.some(isAlive));
    await until('the directories to go', () => sandboxDirectories(place.stateDir).length === before.length);
    await until('the control groups to go', () => sandboxGroups(place.stateDir).length === 0);
  });
  const groups = () => (existsSync(place.stateDir) ? cgroupsOf(place.stateDir) : []);
  await processes.stop(place.daemon);
  await tap.check('the daemon ends cleanly', () => assert.equal(place.daemon.exit, 0, processes.logs()));
  await tap.check('no process is left', () => assert.deepEqual((during.members ?? []).filter(isAlive), []));
  await tap.check('no mount is left', () => assert.deepEqual(mountsBelow(place.stateDir), []));
  await tap.check('no control group is left', () => assert.deepEqual(groups(), []));
  await tap.check('no directory is left', () => assert.deepEqual(sandboxDirectories(place.stateDir), []));
} catch (error) {
  tap.line(false, 'fifty sessions', `${error.stack}\n${processes.logs()}`);
} finally {
  await processes.end();
}
tap.end();
