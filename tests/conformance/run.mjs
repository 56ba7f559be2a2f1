// Plays every scenario through every worker and compares what the control plane recorded. Prints flat TAP:
// one line a scenario and worker. usage: run.mjs HOLT [--workers sdk,serve,poll,run] [--only NAME,...] [--jobs N]
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Processes } from './processes.mjs';
import { itemsStopped, playSession, startControlPlane } from './session.mjs';
import { makeStores } from './stores.mjs';
import { Tap } from './tap.mjs';
import { scenarios } from './scenarios.mjs';
import { workers } from './workers.mjs';

const MAX_IDLE_MS = 1000;
const LEASE_TTL_SECONDS = 30;
const SCRIPTS = fileURLToPath(new URL('scenarios.json', import.meta.url));

const VECTORS = fileURLToPath(new URL('../vectors/skills.json', import.meta.url));

const callTypes = ['agent.tool_use', 'agent.custom_tool_use'];
const resultTypes = { 'user.tool_result': 'tool_use_id', 'user.custom_tool_result': 'custom_tool_use_id' };

function readArguments(argv) {
  const options = { holt: undefined, workers: Object.keys(workers), only: Object.keys(scenarios), jobs: 4 };
  const lists = { '--workers': 'workers', '--only': 'only' };
  for (let i = 0; i < argv.length; i++) {
    if (lists[argv[i]]) options[lists[argv[i]]] = argv[++i].split(',');
    else if (argv[i] === '--jobs') options.jobs = Number(argv[++i]);
    else options.holt = resolve(argv[i]);
  }
  if (!options.holt) throw new Error('usage: run.mjs HOLT [--workers sdk,serve,poll,run] [--only NAME,...] [--jobs N]');
  return options;
}

/** The calls of a history in order, each with the results that were posted for it. */
function callsOf(history) {
  const calls = history.filter(({ type }) => callTypes.includes(type));
  return calls.map((call) => ({
    call,
    results: history.filter((event) => resultTypes[event.type] && event[resultTypes[event.type]] === call.id),
  }));
}

/** What must be the same through every worker: the answers, without the place where the files happen to be. */
function comparable(report, scenario, workdir) {
  return callsOf(report.history).map(({ call, results }, index) => {
    if (scenario.differs?.includes(index)) return { tool: call.name };
    const [result] = results;
    if (!result) return { tool: call.name, result: 'none' };
    const content = JSON.stringify(result.content ?? []).replaceAll(workdir, 'WORKDIR');
    return { tool: call.name, is_error: result.is_error ?? false, content: JSON.parse(content) };
  });
}

function checkReport(report, scenario) {
  assert.deepEqual(report.record.failures, [], 'the script found failures');
  assert.equal(report.record.is_finished, true, 'the script did not finish');
  assert.equal(report.session.status, scenario.status ?? 'idle', 'final status of the session');
  for (const [index, { call, results }] of callsOf(report.history).entries()) {
    if (scenario.differs?.includes(index)) {
      assert.ok(results.length <= 1, `call ${index} (${call.name}) has ${results.length} results`);
    } else {
      const wanted = scenario.unanswered?.includes(index) ? 0 : 1;
      assert.equal(results.length, wanted, `results of call ${index} (${call.name})`);
    }
  }
  if (!scenario.isBroken) {
    const seen = new Set(report.streamed);
    const missed = report.history.filter(({ id, type }) => callTypes.includes(type) && !seen.has(id));
    assert.deepEqual(missed, [], 'calls that the official client did not get by its stream');
  }
}

/** A directory for `holt emulate --skills`: the archives of the vectors and a folder; returns its options. */
function makeSkills(directory) {
  const ids = ['folder'];
  for (const { id, archive_base64 } of JSON.parse(readFileSync(VECTORS))) {
    writeFileSync(join(directory, `${id}.tar`), Buffer.from(archive_base64, 'base64'));
    ids.push(id);
  }
  const folder = join(directory, 'folder');
  mkdirSync(join(folder, 'deep', 'empty'), { recursive: true });
  writeFileSync(join(folder, 'SKILL.md'), '---\nname: folder\n---\n');
  writeFileSync(join(folder, 'deep', 'žluťoučký kůň.bin'), Buffer.from(Array.from({ length: 70_000 }, (_, i) => i % 251)));
  writeFileSync(join(folder, 'deep', 'run'), '#!/bin/sh\n');
  chmodSync(join(folder, 'deep', 'run'), 0o755);
  symlinkSync('/etc/passwd', join(folder, 'left-out'));
  return { more: ['--skills', directory], skills: ids };
}

async function playScenario(options, name, workerName) {
  const scenario = scenarios[name];
  const processes = new Processes();
  try {
    const more = scenario.skills ? makeSkills(processes.directory()) : {};
    const plane = await startControlPlane(processes, options.holt, SCRIPTS, scenario.leaseTtl ?? LEASE_TTL_SECONDS, more);
    const count = scenario.sessions ?? 1;
    const { stores, resources } = await makeStores(plane, scenario.stores);
    const change = scenario.change && { answerCustom: async () => (await scenario.change(...stores), 'changed') };
    const place = await workers[workerName].start(processes, {
      holt: options.holt,
      baseURL: plane.baseURL,
      environmentId: plane.environmentId,
      environmentKey: plane.environmentKey,
      maxIdleMs: scenario.maxIdleMs ?? MAX_IDLE_MS,
      workers: count,
    });
    const sessions = Array.from({ length: count }, () => playSession(plane, { script: name, resources, ...scenario, ...change }));
    const reports = await processes.whileRunning(Promise.all(sessions));
    const items = await processes.whileRunning(itemsStopped(plane));
    assert.equal(new Set(items.map((item) => item.data.id)).size, count, 'sessions with a work item');
    for (const report of reports) checkReport(report, scenario);
    const answers = reports.map((report) => comparable(report, scenario, place.workdir));
    answers.push(await Promise.all(stores.map((store) => store.contents())));
    await processes.end();
    assert.deepEqual(processes.unclean(), [], 'programs that did not end cleanly');
    return answers;
  } catch (error) {
    error.logs = processes.logs();
    throw error;
  } finally {
    await processes.end();
  }
}

/** One scenario through each worker; the first worker's answers are what the others are compared with. */
async function compareWorkers(options, tap, name) {
  let first;
  for (const workerName of options.workers) {
    const title = `${name}, ${workers[workerName].title}`;
    if (!(scenarios[name].only ?? options.workers).includes(workerName)) continue;
    if (workerName === 'serve' && process.getuid() !== 0) {
      tap.skip(title, 'sandboxes need root');
      continue;
    }
    await tap.check(title, async () => {
      const answers = await playScenario(options, name, workerName);
      if (first) assert.deepEqual(answers, first.answers, `answers differ from those through ${first.title}`);
      first ??= { answers, title: workers[workerName].title };
    });
  }
}

const options = readArguments(process.argv.slice(2));
const tap = new Tap();
const queue = options.only.filter((name) => {
  if (!scenarios[name]) throw new Error(`there is no scenario "${name}"`);
  return true;
});
await Promise.all(
  Array.from({ length: options.jobs }, async () => {
    for (let name = queue.shift(); name; name = queue.shift()) await compareWorkers(options, tap, name);
  }),
);
tap.end();
