// The built `holt emulate` over HTTP: what a worker and an application rely on, as TAP.
// A worker written here plays the wire; the official SDK plays it in tests/conformance.
import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { spawn, spawnSync } from 'node:child_process';

const HOLT = process.env.HOLT;
const WAIT_MS = 60_000;
const SECRET = 'whsec_aG9sdC10ZXN0LXNpZ25pbmcta2V5LTAxMjM0NTY3ODk=';
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'holt-emulate-'));
const running = new Set();

after(() => {
    for (const child of running) child.kill('SIGKILL');
    fs.rmSync(directory, { recursive: true, force: true });
});

async function eventually(what, check) {
    const end = Date.now() + WAIT_MS;
    for (;;) {
        const value = await check();
        if (value) return value;
        assert.ok(Date.now() < end, `never: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

function writeScript(name, scripts) {
    const file = path.join(directory, name);
    fs.writeFileSync(file, JSON.stringify({ scripts }));
    return file;
}

async function start(...options) {
    const child = spawn(HOLT, ['emulate', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
    running.add(child);
    const exited = new Promise((resolve) => child.on('exit', (code, signal) => {
        running.delete(child);
        resolve({ code, signal });
    }));
    const line = await new Promise((resolve, reject) => {
        child.stdout.once('data', (data) => resolve(String(data)));
        exited.then(() => reject(new Error('it ended before it listened')));
    });
    assert.match(line, /^listening on http:\/\/127\.0\.0\.1:\d+\n$/);
    return new Plane(child, exited, line.trim().slice('listening on '.length));
}

class Plane {
    constructor(child, exited, url) {
        Object.assign(this, { child, exited, url, headers: { 'x-api-key': 'org-key' } });
    }

    async call(method, target, body, headers = this.headers) {
        const answer = await fetch(this.url + target, {
            method,
            headers: { ...headers, 'content-type': 'application/json' },
            body: body === undefined ? undefined : JSON.stringify(body),
        });
        const text = await answer.text();
        assert.ok(answer.headers.get('request-id') || target.includes('/poll'));
        return { status: answer.status, headers: answer.headers, json: text === '' ? null : JSON.parse(text) };
    }

    async good(method, target, body, headers) {
        const answer = await this.call(method, target, body, headers);
        assert.equal(answer.status, 200, JSON.stringify(answer.json));
        return answer.json;
    }

    async stop() {
        this.child.kill('SIGTERM');
        assert.deepEqual(await this.exited, { code: 0, signal: null });
    }

    async prepare() {
        this.environment = await this.good('POST', '/v1/environments', { name: 'e', config: { type: 'self_hosted' } });
        this.agent = await this.good('POST', '/v1/agents', { name: 'a', model: 'm', tools: [{ type: 'agent_toolset_20260401' }] });
        this.work = `/v1/environments/${this.environment.id}/work`;
        const { key } = await this.good('POST', `/emulator/environments/${this.environment.id}/keys`);
        this.worker = { authorization: `Bearer ${key}` };
        return this;
    }

    session(script) {
        return this.good('POST', '/v1/sessions', {
            agent: this.agent.id, environment_id: this.environment.id, metadata: script ? { script } : {},
        });
    }

    say(session) {
        return this.send(session, { type: 'user.message', content: [{ type: 'text', text: 'go' }] });
    }

    send(session, ...events) {
        return this.call('POST', `/v1/sessions/${session.id}/events`, { events });
    }

    answer(session, call, text, more = {}) {
        return this.send(session, { type: 'user.tool_result', tool_use_id: call.id, is_error: false, content: [{ type: 'text', text }], ...more });
    }

    async events(session, query = '') {
        return (await this.good('GET', `/v1/sessions/${session.id}/events?limit=1000${query}`)).data;
    }

    report(session) {
        return this.good('GET', `/emulator/sessions/${session.id}`);
    }

    // The calls of the session's history, once there are `count`.
    calls(session, count) {
        return eventually(`${count} calls`, async () => {
            const calls = (await this.events(session)).filter((event) => event.type.endsWith('tool_use'));
            return calls.length >= count && calls;
        });
    }

    finished(session) {
        return eventually('the script is finished', async () => {
            const report = await this.report(session);
            return report.is_finished && report;
        });
    }

    poll(query = 'block_ms=999') {
        return this.good('GET', `${this.work}/poll?${query}`, undefined, this.worker);
    }

    // Claims, acks and beats once.
    async claim() {
        const item = await eventually('work', () => this.poll());
        await this.good('POST', `${this.work}/${item.id}/ack`, undefined, this.worker);
        item.beat = await this.good('POST', `${this.work}/${item.id}/heartbeat?expected_last_heartbeat=NO_HEARTBEAT`, undefined, this.worker);
        return item;
    }

    beat(item, expected) {
        return this.call('POST', `${this.work}/${item.id}/heartbeat?expected_last_heartbeat=${encodeURIComponent(expected)}`, undefined, this.worker);
    }

    // A stream's frames as they come; ends when the server ends it.
    async stream(session) {
        const answer = await fetch(`${this.url}/v1/sessions/${session.id}/events/stream`, { headers: this.headers });
        assert.equal(answer.status, 200);
        assert.match(answer.headers.get('content-type'), /^text\/event-stream/);
        const stream = { text: '', isEnded: false };
        (async () => {
            const decoder = new TextDecoder();
            try {
                for await (const bytes of answer.body) stream.text += decoder.decode(bytes, { stream: true });
            } catch { /* cut off */ }
            stream.isEnded = true;
        })();
        await eventually('a ping', () => stream.text.includes('event: ping\ndata: {"type":"ping"}\n\n'));
        return stream;
    }
}

test('bad usage exits 2 with one line', () => {
    const bad = path.join(directory, 'bad.json');
    fs.writeFileSync(bad, '{"steps":[{"dance":true}]}');
    for (const [options, says] of [
        [['--nonsense'], /unknown option/], [['--listen', 'x'], /ADDRESS:PORT/], [['extra'], /unexpected argument/],
        [['--listen', '127.0.0.1:99999'], /between/], [['--script', bad], /step 0: unknown kind "dance"/],
        [['--lease-ttl', 'soon'], /no duration/], [['--webhook-url', 'http://127.0.0.1:1'], /belong together/],
        [['--webhook-url', 'http://127.0.0.1:1', '--webhook-secret', 'x'], /whsec_/], [['--script'], /value missing/],
    ]) {
        const result = spawnSync(HOLT, ['emulate', ...options], { encoding: 'utf8' });
        assert.equal(result.status, 2, options.join(' '));
        assert.match(result.stderr, says);
        assert.equal(result.stderr.trim().split('\n').length, 1, result.stderr);
    }
    const missing = spawnSync(HOLT, ['emulate', '--script', path.join(directory, 'none')], { encoding: 'utf8' });
    assert.notEqual(missing.status, 0);
});

test('the ready file holds the URL', async () => {
    const file = path.join(directory, 'ready');
    const plane = await start('--ready-file', file);
    assert.equal(fs.readFileSync(file, 'utf8'), `${plane.url}\n`);
    await plane.stop();
});

test('wrong credentials are refused everywhere', async () => {
    const plane = await (await start('--api-key', 'org-key', '--environment-key', 'sk-ant-oat01-shared')).prepare();
    const session = await plane.session();
    const wrong = [{}, { 'x-api-key': 'no' }, { authorization: 'Bearer sk-ant-oat01-no' }, { authorization: 'Bearer no' }];
    for (const headers of wrong) {
        for (const [method, target] of [
            ['GET', '/v1/environments'], ['GET', `${plane.work}/poll`], ['GET', `/v1/sessions/${session.id}`],
            ['GET', `/v1/sessions/${session.id}/events`], ['GET', '/v1/sessions/sesn_none'], ['GET', '/emulator/stats'],
        ]) {
            const answer = await plane.call(method, target, undefined, headers);
            assert.equal(answer.status, 401, target);
            assert.equal(answer.json.error.type, 'authentication_error');
            assert.equal(answer.json.request_id, answer.headers.get('request-id'));
        }
    }
    const other = await plane.good('POST', '/v1/environments', { name: 'other' });
    assert.equal((await plane.call('GET', `/v1/environments/${other.id}/work/poll`, undefined, plane.worker)).status, 401);
    assert.equal((await plane.call('GET', `/v1/environments/${other.id}/work/poll`, undefined, { authorization: 'Bearer sk-ant-oat01-shared' })).status, 200);
    assert.equal((await plane.call('GET', `${plane.work}/poll`, undefined, plane.headers)).status, 401);
    const bearer = { authorization: 'Bearer org-key' };
    assert.equal((await plane.call('GET', '/v1/environments', undefined, bearer)).status, 200);
    // A sessions token opens its own session and item, and nothing else.
    const item = await plane.claim();
    const { sessions_token: token } = JSON.parse(Buffer.from(item.secret, 'base64url'));
    const tokenHeaders = { authorization: `Bearer ${token}` };
    assert.equal((await plane.call('GET', `/v1/sessions/${session.id}`, undefined, tokenHeaders)).status, 200);
    const stranger = await plane.session();
    assert.equal((await plane.call('GET', `/v1/sessions/${stranger.id}`, undefined, tokenHeaders)).status, 401);
    assert.equal((await plane.call('GET', `${plane.work}/poll`, undefined, tokenHeaders)).status, 401);
    assert.equal((await plane.call('POST', `${plane.work}/${item.id}/stop`, { force: true }, tokenHeaders)).status, 200);
    await plane.stop();
});

test('objects are created, changed, listed in pages and ended', async () => {
    const plane = await (await start()).prepare();
    for (let i = 0; i < 4; i++) await plane.good('POST', '/v1/agents?beta=true', { name: `a${i}`, model: { id: 'm' } });
    const first = await plane.good('GET', '/v1/agents?limit=3');
    const second = await plane.good('GET', `/v1/agents?limit=3&page=${first.next_page}`);
    assert.equal(first.data.length + second.data.length, 5);
    assert.equal(second.next_page, null);
    assert.equal((await plane.call('GET', '/v1/agents?limit=0')).status, 400);
    assert.equal((await plane.call('GET', '/v1/agents?page=x')).status, 400);
    const changed = await plane.good('POST', `/v1/agents/${plane.agent.id}`, { version: 1, system: 'be brief' });
    assert.equal(changed.version, 2);
    assert.equal((await plane.call('POST', `/v1/agents/${plane.agent.id}`, { version: 1 })).status, 409);
    assert.equal((await plane.good('GET', `/v1/agents/${plane.agent.id}?version=1`)).system, null);
    const session = await plane.session();
    assert.equal(session.agent.version, 2);
    assert.equal(session.agent.tools[0].default_config.enabled, true);
    assert.equal((await plane.call('POST', '/v1/sessions', { agent: plane.agent.id, environment_id: plane.environment.id, metadata: { script: 'none' } })).status, 400);
    assert.equal((await plane.call('POST', '/v1/sessions', { agent: 'agent_none', environment_id: plane.environment.id })).status, 404);
    assert.equal((await plane.good('POST', `/v1/sessions/${session.id}/archive`)).status, 'terminated');
    assert.equal((await plane.say(session)).status, 400);
    assert.equal((await plane.good('DELETE', `/v1/sessions/${session.id}`)).type, 'session_deleted');
    assert.equal((await plane.call('GET', `/v1/sessions/${session.id}`)).status, 404);
    // Its item is still queued: the poll that gets it says 404, the next one is empty.
    assert.equal((await plane.call('GET', `${plane.work}/poll`, undefined, plane.worker)).status, 404);
    assert.equal(await plane.poll(''), null);
    await plane.good('POST', `/v1/environments/${plane.environment.id}/archive`);
    assert.equal((await plane.call('POST', '/v1/sessions', { agent: plane.agent.id, environment_id: plane.environment.id })).status, 400);
    await plane.good('DELETE', `/v1/environments/${plane.environment.id}`);
    assert.equal((await plane.call('GET', `/v1/environments/${plane.environment.id}`)).status, 404);
    assert.equal((await plane.call('PUT', '/v1/environments')).status, 405);
    assert.equal((await plane.call('GET', '/v1/nothing')).status, 404);
    await plane.stop();
});

test('bodies are bounded and must be JSON objects', async () => {
    const plane = await start();
    for (const body of ['{', '[]', '\u0000', '{"a":1}x']) {
        const answer = await fetch(`${plane.url}/v1/environments`, { method: 'POST', headers: plane.headers, body });
        assert.equal(answer.status, 400);
    }
    const status = await new Promise((resolve) => {
        const request = http.request(`${plane.url}/v1/environments`, { method: 'POST', headers: { ...plane.headers, 'content-length': 17 << 20 } }, (answer) => {
            resolve(answer.statusCode);
            answer.resume();
        });
        request.on('error', () => resolve('cut'));
        request.write('{');
    });
    assert.equal(status, 413);
    await plane.good('GET', '/v1/environments');
    await plane.stop();
});

test('the lease: one holder, exact preconditions, lapse and re-queue', async () => {
    const plane = await (await start('--lease-ttl', '1s')).prepare();
    assert.equal((await plane.call('GET', `${plane.work}/poll?block_ms=0`, undefined, plane.worker)).status, 400);
    assert.equal((await plane.call('GET', `${plane.work}/poll?block_ms=1000`, undefined, plane.worker)).status, 400);
    const waiting = [plane.poll(), plane.poll()];
    await plane.session();
    const got = (await Promise.all(waiting)).filter(Boolean);
    assert.equal(got.length, 1, 'two waiting workers, one item');
    const [item] = got;
    assert.equal(await plane.poll(''), null);
    assert.equal((await plane.good('GET', `${plane.work}/poll?reclaim_older_than_ms=0`, undefined, plane.worker)).id, item.id);
    assert.equal((await plane.beat(item, 'NO_HEARTBEAT')).status, 412);
    assert.equal((await plane.good('POST', `${plane.work}/${item.id}/ack`, undefined, plane.worker)).state, 'starting');
    assert.equal((await plane.call('POST', `${plane.work}/${item.id}/ack`, undefined, plane.worker)).status, 409);
    const first = (await plane.beat(item, 'NO_HEARTBEAT')).json;
    assert.deepEqual([first.type, first.state, first.lease_extended, first.ttl_seconds], ['work_heartbeat', 'active', true, 1]);
    const refused = await plane.beat(item, 'NO_HEARTBEAT');
    assert.equal(refused.status, 412);
    assert.equal(refused.json.error.details.error_code, 'heartbeat_precondition_failed');
    assert.equal(refused.json.error.details.current_state.last_heartbeat, first.last_heartbeat);
    assert.equal((await plane.beat(item, first.last_heartbeat)).status, 200);
    // Without another beat it lapses and is handed out again.
    const again = await plane.claim();
    assert.equal(again.id, item.id);
    assert.equal((await plane.beat(item, first.last_heartbeat)).status, 412);
    assert.equal((await plane.good('POST', `${plane.work}/${item.id}/stop`, {}, plane.worker)).state, 'stopping');
    assert.equal((await plane.beat(again, again.beat.last_heartbeat)).json.state, 'stopping');
    assert.equal((await plane.good('POST', `${plane.work}/${item.id}/stop`, { force: true }, plane.worker)).state, 'stopped');
    assert.equal((await plane.call('POST', `${plane.work}/${item.id}/stop`, { force: true }, plane.worker)).status, 409);
    const updated = await plane.good('POST', `${plane.work}/${item.id}`, { metadata: { a: 'b' } });
    assert.deepEqual(updated.metadata, { a: 'b' });
    assert.deepEqual((await plane.good('GET', plane.work)).data.map((work) => work.state), ['stopped']);
    const stats = await plane.good('GET', `${plane.work}/stats`);
    assert.deepEqual([stats.type, stats.depth, stats.pending], ['work_queue_stats', 0, 0]);
    assert.equal((await plane.good('GET', '/emulator/stats')).work.stopped, 1);
    await plane.stop();
});

test('calls, expectations, confirmations and rejected posts', async () => {
    const script = writeScript('calls.json', {
        default: {
            steps: [
                { thinking: true },
                { calls: [
                    { name: 'read', expect: { is_error: false, text: '^a\\d$' } },
                    { name: 'mine', custom: true, thread: 'sthr_1' },
                    { name: 'bash', permission: 'ask' }, { name: 'bash', permission: 'deny' },
                    { name: 'other', answered: false }, { name: 'never', answered: 'never' }] },
                { end_turn: true, stop_reason: 'budget_reached' },
                { message: 'again' },
                { calls: [{ name: 'a', permission: 'ask' }, { name: 'b', permission: 'ask' }], confirm: [{ call: 0, result: 'deny' }, { call: 1, result: 'allow' }], duplicate: true },
                { terminate: true },
            ],
        },
    });
    const plane = await (await start('--script', script)).prepare();
    const session = await plane.session();
    const stream = await plane.stream(session);
    await plane.say(session);
    const [read, mine, ask, deny, , never] = await plane.calls(session, 6);
    assert.equal(mine.type, 'agent.custom_tool_use');
    assert.equal(mine.session_thread_id, 'sthr_1');
    assert.deepEqual([ask.evaluated_permission, deny.evaluated_permission], ['ask', 'deny']);
    const idle = await eventually('idle', async () => (await plane.events(session)).find((event) => event.type === 'session.status_idle'));
    assert.deepEqual(idle.stop_reason, { type: 'requires_action', event_ids: [read.id, mine.id, ask.id] });
    assert.equal((await plane.answer(session, { id: 'sevt_none' }, 'x')).status, 400);
    assert.equal((await plane.answer(session, mine, 'x')).status, 400, 'a custom call takes a custom result');
    assert.equal((await plane.answer(session, read, '')).status, 400, 'empty text');
    assert.equal((await plane.answer(session, read, 'b')).status, 200);
    assert.equal((await plane.answer(session, read, 'b')).status, 400, 'twice');
    assert.equal((await plane.answer(session, read, 'c')).status, 400, 'twice, and differently');
    assert.equal((await plane.answer(session, never, 'x')).status, 200);
    assert.equal((await plane.send(session, { type: 'user.custom_tool_result', custom_tool_use_id: mine.id, content: [] })).status, 200);
    assert.equal((await plane.send(session, { type: 'user.tool_confirmation', tool_use_id: read.id, result: 'allow' })).status, 400);
    assert.equal((await plane.send(session, { type: 'user.tool_confirmation', tool_use_id: ask.id, result: 'allow' })).status, 200);
    assert.equal((await plane.answer(session, ask, 'x')).status, 200);
    await eventually('the turn ends', async () => (await plane.events(session)).some((event) => event.stop_reason?.type === 'budget_reached'));
    await plane.say(session);
    const calls = await plane.calls(session, 8);
    await plane.answer(session, calls[7], 'ok');
    const report = await plane.finished(session);
    assert.equal(report.posts_rejected, 6);
    assert.equal(report.calls.length, 8);
    const { results, repeats, contradictions } = report.calls.find((call) => call.tool_use_id === read.id);
    assert.deepEqual([results, repeats, contradictions], [1, 2, 1]);
    assert.equal(report.failures.length, 2, report.failures.join('; '));
    assert.match(report.failures[0], /^step 1 call 0: expected \/\^a\\d\$\/, got b$/);
    assert.match(report.failures[1], /^step 1 call 5: /);
    assert.deepEqual(report.results.map((result) => result.name), ['read', 'never', 'mine', 'bash', 'b']);
    assert.equal((await plane.good('GET', `/v1/sessions/${session.id}`)).status, 'terminated');
    await eventually('the stream has it all', () => stream.text.includes('event: session.status_terminated'));
    assert.equal(stream.text.split(`"id":"${calls[7].id}"`).length, 3, 'delivered twice');
    const uses = await plane.events(session, '&types[]=agent.tool_use&types%5B%5D=agent.custom_tool_use&order=desc');
    assert.equal(uses.length, 8);
    assert.equal(uses[0].id, calls[7].id);
    await plane.stop();
});

test('streams: hidden events, raw bytes, unknown types, drops', async () => {
    const script = writeScript('streams.json', {
        default: {
            steps: [
                { emit: { type: 'future.event', x: 1 } }, { raw_sse: 'data: {broken\n\n' }, { interrupt: true },
                { calls: [{ name: 'read' }], hide_from_streams: true }, { wait_ms: 1 }, { drop_streams: true },
            ],
        },
    });
    const plane = await (await start('--script', script)).prepare();
    const session = await plane.session();
    const stream = await plane.stream(session);
    await plane.say(session);
    const [call] = await plane.calls(session, 1);
    await eventually('the idle event', () => stream.text.includes('event: session.status_idle'));
    assert.ok(stream.text.includes('event: future.event\ndata: {"type":"future.event","x":1'));
    assert.ok(stream.text.includes('data: {broken\n\n'));
    assert.ok(stream.text.includes('event: user.interrupt'));
    assert.ok(!stream.text.includes('agent.tool_use'));
    await plane.answer(session, call, 'x');
    await eventually('the drop', () => stream.isEnded);
    await plane.finished(session);
    await plane.stop();
});

test('a 10 MB result passes and a reader that does not read is cut off', async () => {
    const script = writeScript('large.json', { default: { steps: [{ calls: Array(6).fill({ name: 'read' }) }] } });
    const plane = await (await start('--script', script)).prepare();
    const session = await plane.session();
    const stream = await plane.stream(session);
    let slow = null; // never reads at first: the kernel's buffers fill, then the emulator's
    http.get(`${plane.url}/v1/sessions/${session.id}/events/stream`, { headers: plane.headers }, (answer) => {
        slow = answer;
        answer.pause();
    });
    await eventually('both streams', () => slow);
    await plane.say(session);
    const text = 'x'.repeat(10 << 20);
    let posted = 0;
    for (const call of await plane.calls(session, 6)) {
        assert.equal((await plane.answer(session, call, text)).status, 200);
        posted += text.length;
        await eventually('the fast reader has it', () => stream.text.length > posted);
    }
    const report = await plane.finished(session);
    assert.equal(report.results[3].content[0].text.length, text.length);
    await eventually('the fast reader has all', () => stream.text.includes('end_turn'));
    let taken = 0;
    const outcome = await new Promise((resolve) => {
        slow.on('data', (data) => { taken += data.length; });
        slow.on('error', () => resolve('cut'));
        slow.on('end', () => resolve('ended'));
        slow.resume();
    });
    assert.equal(outcome, 'cut');
    assert.ok(taken < posted);
    await plane.stop();
});

test('scripted faults: failed requests, lost lease, stopping', async () => {
    const script = writeScript('faults.json', {
        default: {
            steps: [
                { fail_requests: { path: 'session', status: 529, count: 2, retry_after: 1 } },
                { fail_requests: { path: 'poll', status: 503 } },
                { calls: [{ name: 'read' }] }, { lapse_lease: true }, { calls: [{ name: 'read' }] }, { stopping: true },
            ],
        },
    });
    const plane = await (await start('--script', script)).prepare();
    const session = await plane.session();
    const item = await plane.claim();
    await plane.say(session);
    const [call] = await plane.calls(session, 1);
    for (const status of [529, 529, 200]) {
        const answer = await plane.call('GET', `/v1/sessions/${session.id}`, undefined, plane.worker);
        assert.equal(answer.status, status);
        if (status === 529) {
            assert.equal(answer.headers.get('retry-after'), '1');
            assert.equal(answer.json.error.type, 'overloaded_error');
        }
        await plane.good('GET', `/v1/sessions/${session.id}`); // applications see none of it
    }
    assert.equal((await plane.call('GET', `${plane.work}/poll`, undefined, plane.worker)).status, 503);
    await plane.answer(session, call, 'x');
    await plane.calls(session, 2);
    assert.equal((await plane.beat(item, item.beat.last_heartbeat)).status, 412);
    const again = await plane.claim();
    assert.equal(again.id, item.id);
    await plane.answer(session, (await plane.calls(session, 2))[1], 'x');
    await plane.finished(session);
    assert.equal((await plane.beat(again, again.beat.last_heartbeat)).json.state, 'stopping');
    await plane.stop();
});

test('a later message queues a new item', async () => {
    const plane = await (await start('--script', writeScript('two.json', { default: { steps: [{ end_turn: true }, { message: 'b' }] } }))).prepare();
    const session = await plane.session();
    const first = await plane.claim();
    await plane.say(session);
    await eventually('idle', async () => (await plane.events(session)).some((event) => event.stop_reason?.type === 'end_turn'));
    await plane.good('POST', `${plane.work}/${first.id}/stop`, { force: true }, plane.worker);
    assert.equal(await plane.poll(''), null);
    await plane.say(session);
    const second = await plane.claim();
    assert.notEqual(second.id, first.id);
    assert.notEqual(second.secret, first.secret);
    assert.equal(second.data.id, session.id);
    await plane.stop();
});

test('with --data everything continues after kill -9', async () => {
    const data = path.join(directory, 'data');
    const script = writeScript('data.json', { default: { steps: [{ message: 'a' }, { calls: [{ name: 'read', expect: { text: '^ok$' } }, { name: 'read' }] }, { message: 'done' }] } });
    const before = await (await start('--data', data, '--script', script)).prepare();
    const session = await before.session();
    const item = await before.claim();
    const idle = await before.session();
    await before.say(session);
    const [first, second] = await before.calls(session, 2);
    await before.answer(session, first, 'not ok');
    const history = await before.events(session);
    before.child.kill('SIGKILL');
    await before.exited;
    const plane = await start('--data', data, '--script', script);
    Object.assign(plane, { environment: before.environment, agent: before.agent, work: before.work, worker: before.worker });
    assert.deepEqual(await plane.events(session), history);
    assert.equal((await plane.beat(item, item.beat.last_heartbeat)).status, 200, 'the lease is still held');
    assert.equal((await plane.claim()).data.id, idle.id, 'queued work is still queued');
    assert.equal((await plane.answer(session, first, 'ok')).status, 400, 'still answered');
    await plane.answer(session, second, 'x');
    const report = await plane.finished(session);
    assert.equal(report.failures.length, 1);
    assert.equal(fs.statSync(path.join(data, 'emulator.db')).mode & 0o77, 0, 'the file holds keys');
    await plane.stop();
});

test('webhooks are signed and retried under the same id', async () => {
    const got = [];
    const receiver = http.createServer((request, answer) => {
        let body = '';
        request.on('data', (data) => { body += data; });
        request.on('end', () => {
            got.push({ headers: request.headers, body });
            answer.statusCode = got.length === 1 ? 500 : 200;
            answer.end();
        });
    });
    await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    const script = writeScript('hook.json', { default: { steps: [{ wait_ms: 1 }] } });
    const plane = await (await start('--script', script, '--webhook-secret', SECRET, '--webhook-url', `http://127.0.0.1:${receiver.address().port}/hook`)).prepare();
    const session = await plane.session();
    await plane.say(session);
    await eventually('three deliveries', () => got.length >= 3);
    const key = Buffer.from(SECRET.slice('whsec_'.length), 'base64');
    for (const { headers, body } of got) {
        const content = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
        assert.equal(headers['webhook-signature'], `v1,${crypto.createHmac('sha256', key).update(content).digest('base64')}`);
        assert.ok(Math.abs(Date.now() / 1000 - Number(headers['webhook-timestamp'])) < 300);
        assert.equal(JSON.parse(body).data.id, session.id);
    }
    const types = new Set(got.map(({ body }) => JSON.parse(body).data.type));
    assert.deepEqual([...types].sort(), ['session.status_idled', 'session.status_run_started']);
    assert.equal(got.filter(({ headers }) => headers['webhook-id'] === got[0].headers['webhook-id']).length, 2);
    await plane.stop();
    receiver.closeAllConnections();
    receiver.close();
});

test('a thousand sessions at once complete', async () => {
    const count = 1000;
    const plane = await (await start('--script', writeScript('many.json', { default: { steps: [{ calls: [{ name: 'read', expect: { text: '^ok$' } }] }] } }))).prepare();
    const sessions = [];
    for (let i = 0; i < count; i += 50) {
        sessions.push(...await Promise.all(Array.from({ length: 50 }, () => plane.session())));
    }
    const claimed = new Set();
    await Promise.all(Array.from({ length: 20 }, async () => {
        while (claimed.size < count) {
            const item = await plane.poll();
            if (item === null) continue;
            assert.ok(!claimed.has(item.id), 'handed out twice');
            claimed.add(item.id);
            await plane.good('POST', `${plane.work}/${item.id}/ack`, undefined, plane.worker);
            const session = { id: item.data.id };
            await plane.say(session);
            const [call] = await plane.calls(session, 1);
            await plane.answer(session, call, 'ok');
            assert.deepEqual((await plane.finished(session)).failures, []);
            await plane.good('POST', `${plane.work}/${item.id}/stop`, { force: true }, plane.worker);
        }
    }));
    assert.equal((await plane.good('GET', '/emulator/stats')).work.stopped, count);
    await plane.stop();
});
