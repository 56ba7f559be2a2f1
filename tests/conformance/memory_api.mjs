// The emulator's memory stores through the official client: views, pages, preconditions, credentials, restart.
// usage: memory_api.mjs HOLT. Prints TAP.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import Anthropic from '@anthropic-ai/sdk';
import { Processes } from './processes.mjs';
import { startControlPlane } from './session.mjs';
import { Tap } from './tap.mjs';

const holt = resolve(process.argv[2]);
const sha = (text) => createHash('sha256').update(text).digest('hex');
const tap = new Tap();
const processes = new Processes();
const data = processes.directory();
const emulatorOptions = { more: ['--data', data] };
let plane = await startControlPlane(processes, holt, undefined, 30, emulatorOptions);
let memories = plane.client.beta.memoryStores.memories;

async function all(pages) {
  const found = [];
  for await (const item of pages) found.push(item);
  return found;
}

/** The status and type of the error that a request ends with. */
async function refusal(request) {
  try {
    await request;
  } catch (error) {
    return `${error.status} ${error.error?.error?.type}`;
  }
  return 'none';
}

/** A session with the store attached, and a client with the token of its work item. */
async function sessionWith(resources) {
  const session = await plane.client.beta.sessions.create({
    agent: plane.agentId,
    environment_id: plane.environmentId,
    resources,
  });
  const poller = new Anthropic({ apiKey: null, authToken: plane.environmentKey, baseURL: plane.baseURL, maxRetries: 0 });
  const item = await poller.beta.environments.work.poll(plane.environmentId);
  const { sessions_token } = JSON.parse(Buffer.from(item.secret, 'base64url'));
  const worker = new Anthropic({ apiKey: null, authToken: sessions_token, baseURL: plane.baseURL, maxRetries: 0 });
  return { session, poller, worker };
}

const store = await plane.client.beta.memoryStores.create({ name: 'Team  Notes!', description: 'what we know' });

await tap.check('a memory has the digest of its content, and its content only where the view says so', async () => {
  const made = await memories.create(store.id, { path: '/a/note.md', content: 'grün\n' });
  assert.deepEqual([made.type, made.path, made.content], ['memory', '/a/note.md', null]);
  assert.deepEqual([made.content_sha256, made.content_size_bytes], [sha('grün\n'), 6]);
  const read = await memories.retrieve(made.id, { memory_store_id: store.id });
  assert.equal(read.content, 'grün\n');
  const [listed] = await all(memories.list(store.id));
  assert.equal(listed.content, null);
  const [full] = await all(memories.list(store.id, { view: 'full' }));
  assert.equal(full.content, 'grün\n');
});

await tap.check('a path is taken by the memory at it, above it and below it', async () => {
  for (const path of ['/a/note.md', '/a', '/a/note.md/below']) {
    assert.equal(await refusal(memories.create(store.id, { path, content: '' })), '409 memory_path_conflict_error', path);
  }
});

await tap.check('wrong paths and contents are refused for good', async () => {
  const long = `/${'s/'.repeat(20)}s`;
  for (const path of ['', 'a', '/', '//a', '/a/', '/./a', '/a/../b', '/a\nb', '/a\u2028', `/${'x'.repeat(1024)}`, long]) {
    assert.equal(await refusal(memories.create(store.id, { path, content: '' })), '400 invalid_request_error', path);
  }
  const content = 'x'.repeat(102401);
  assert.equal(await refusal(memories.create(store.id, { path: '/big', content })), '400 invalid_request_error');
  await memories.create(store.id, { path: '/big', content: content.slice(1) });
});

await tap.check('an update holds to its precondition, unless nothing would change', async () => {
  const made = await memories.create(store.id, { path: '/guarded', content: 'one' });
  const update = (content, expected) =>
    memories.update(made.id, {
      memory_store_id: store.id,
      content,
      precondition: { type: 'content_sha256', content_sha256: sha(expected) },
    });
  const changed = await update('two', 'one');
  assert.equal(changed.content_sha256, sha('two'));
  assert.equal(await refusal(update('three', 'one')), '409 memory_precondition_failed_error');
  await update('two', 'one');
  const remove = (expected) =>
    memories.delete(made.id, { memory_store_id: store.id, expected_content_sha256: sha(expected) });
  assert.equal(await refusal(remove('one')), '409 memory_precondition_failed_error');
  assert.deepEqual(await remove('two'), { id: made.id, type: 'memory_deleted' });
  assert.equal(await refusal(remove('two')), '404 not_found_error');
});

await tap.check('a list comes in pages by path, rolled up where asked', async () => {
  const many = await plane.client.beta.memoryStores.create({ name: 'many' });
  const paths = Array.from({ length: 45 }, (_, i) => `/d${i % 3}/f${String(i).padStart(2, '0')}`).sort();
  for (const path of paths) await memories.create(many.id, { path, content: path });
  for (const view of ['basic', 'full']) {
    const first = await memories.list(many.id, { view, limit: 100 });
    assert.equal(first.data.length, view === 'full' ? 20 : 45);
    assert.deepEqual((await all(memories.list(many.id, { view, limit: 7 }))).map(({ path }) => path), paths);
  }
  const shallow = await all(memories.list(many.id, { depth: 1, limit: 2 }));
  assert.deepEqual(shallow.map(({ type, path }) => `${type} ${path}`), ['/d0/', '/d1/', '/d2/'].map((p) => `memory_prefix ${p}`));
  const below = await all(memories.list(many.id, { path_prefix: '/d1/', depth: 1 }));
  assert.deepEqual(below.map(({ path }) => path), paths.filter((path) => path.startsWith('/d1/')));
});

await tap.check('a session shows where its store is mounted, and its token opens that store only', async () => {
  const other = await plane.client.beta.memoryStores.create({ name: 'other' });
  const { session, poller, worker } = await sessionWith([
    { type: 'memory_store', memory_store_id: store.id, instructions: 'look here' },
    { type: 'memory_store', memory_store_id: other.id, access: 'read_only' },
  ]);
  const [first, second] = session.resources;
  assert.deepEqual([first.name, first.mount_path, first.access], ['Team  Notes!', '/mnt/memory/team-notes-', 'read_write']);
  assert.deepEqual([second.access, second.description], ['read_only', '']);
  const through = (client) => client.beta.memoryStores.memories;
  const made = await through(worker).create(store.id, { path: '/by-session', content: 'x' });
  await through(worker).delete(made.id, { memory_store_id: store.id });
  await all(through(worker).list(other.id));
  assert.equal(await refusal(through(worker).create(other.id, { path: '/x', content: '' })), '403 permission_error');
  assert.equal(await refusal(all(through(poller).list(store.id))), '403 permission_error');
  const foreign = await plane.client.beta.memoryStores.create({ name: 'foreign' });
  assert.match(await refusal(all(through(worker).list(foreign.id))), /^40[13] /);
});

await tap.check('an archived store is read only and cannot be attached', async () => {
  const old = await plane.client.beta.memoryStores.create({ name: 'old' });
  await memories.create(old.id, { path: '/kept', content: '' });
  assert.ok((await plane.client.beta.memoryStores.archive(old.id)).archived_at);
  assert.equal(await refusal(memories.create(old.id, { path: '/x', content: '' })), '400 invalid_request_error');
  assert.match(await refusal(sessionWith([{ type: 'memory_store', memory_store_id: old.id }])), /^400 /);
  assert.equal((await all(memories.list(old.id))).length, 1);
});

await tap.check('stores and memories are there after a restart', async () => {
  const before = await all(memories.list(store.id, { view: 'full' }));
  const [emulator] = processes.children;
  await processes.stop(emulator);
  plane = await startControlPlane(processes, holt, undefined, 30, emulatorOptions);
  memories = plane.client.beta.memoryStores.memories;
  assert.deepEqual(await all(memories.list(store.id, { view: 'full' })), before);
  const kept = await plane.client.beta.memoryStores.retrieve(store.id);
  assert.deepEqual([kept.name, kept.description], [store.name, store.description]);
  await plane.client.beta.memoryStores.delete(store.id);
  assert.equal(await refusal(plane.client.beta.memoryStores.retrieve(store.id)), '404 not_found_error');
});

await processes.end();
await tap.check('the emulator ends cleanly', async () => assert.deepEqual(processes.unclean(), []));
tap.end();
