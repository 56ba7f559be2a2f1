// No credential is in a sandbox: looked for from inside, and in the memory of its processes from outside.
// The same search must find secrets that are planted, or it would prove nothing.
// usage: key_not_in_sandbox.mjs HOLT. Prints TAP.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sandboxed, family, secretsInMemory } from '../conformance/host.mjs';
import { Processes } from '../conformance/processes.mjs';
import { playSession, startControlPlane } from '../conformance/session.mjs';
import { Tap } from '../conformance/tap.mjs';
import { workers } from '../conformance/workers.mjs';

const BOUND_MS = 300_000;
const SCANNER = readFileSync(fileURLToPath(new URL('find_secrets.py', import.meta.url)), 'utf8');
const holt = resolve(process.argv[2]);
const MARK = 0x55;
const PLACEHOLDER = '@SECRETS@';
const PLANTED = 'sk-ant-planted-0123456789abcdef';

/**
 * Between daemon and control plane: keeps the secrets that a poll brings, and puts them, marked, in the place of
 * PLACEHOLDER in the script's calls, since the script is written before there are any.
 */
async function startListener(target, secrets) {
  const fill = (text) => text.replaceAll(PLACEHOLDER, Object.values(secrets).map(hidden).join(' '));
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, target);
    const headers = { ...request.headers, host: url.host, 'accept-encoding': 'identity' };
    const onward = http.request(url, { method: request.method, headers }, (answer) => {
      const { 'content-length': _, 'transfer-encoding': __, connection: ___, ...kept } = answer.headers;
      response.writeHead(answer.statusCode, kept);
      response.flushHeaders();
      const isStream = url.pathname.endsWith('/stream');
      let text = '';
      answer.setEncoding('utf8').on('data', (part) => {
        text += part;
        const end = isStream ? text.lastIndexOf('\n') + 1 : 0;
        response.write(fill(text.slice(0, end)));
        text = text.slice(end);
      });
      answer.on('end', () => {
        if (url.pathname.endsWith('/work/poll')) keepSecret(text, secrets);
        response.end(fill(text));
      });
      answer.on('error', () => response.destroy());
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  return { server, baseURL: `http://127.0.0.1:${server.address().port}` };
}

function keepSecret(body, secrets) {
  const secret = body.startsWith('{') ? JSON.parse(body).secret : undefined;
  if (!secret) return;
  secrets['work secret'] = secret;
  secrets['sessions token'] = JSON.parse(Buffer.from(secret, 'base64url').toString()).sessions_token;
}

const hidden = (secret) => Buffer.from(secret).map((byte) => byte ^ MARK).toString('hex');

const PLANT = [
  `planted=$(python3 -c "print(bytes(b ^ ${MARK} for b in bytes.fromhex('${hidden(PLANTED)}')).decode())")`,
  'echo "token=$planted" > planted.txt',
  'PLANTED=$planted sleep 600 >/dev/null 2>&1 &',
].join('\n');

const bash = (command) => ({ calls: [{ name: 'bash', input: { command }, expect: { is_error: false } }] });
const script = {
  scripts: {
    search: {
      steps: [
        { calls: [{ name: 'write', input: { file_path: 'find_secrets.py', content: SCANNER }, expect: { is_error: false } }] },
        bash(`python3 find_secrets.py ${PLACEHOLDER}`),
        { calls: [{ name: 'ask_person', input: {}, custom: true }] },
        bash(PLANT),
        bash(`python3 find_secrets.py ${hidden(PLANTED)}`),
        { end_turn: true },
      ],
    },
  },
};

/** The scanner's lines in the order of its calls. */
const findings = ({ history }) =>
  history
    .filter(({ type }) => type === 'user.tool_result')
    .map(({ content }) => content[0].text)
    .filter((text) => text.startsWith('{"looked"'))
    .map((text) => JSON.parse(text));

function lookFromOutside(daemon, secrets) {
  const inside = sandboxed(daemon).map(({ pid }) => ({ pid, found: secretsInMemory(pid, secrets) }));
  const all = family(daemon).map(({ pid }) => secretsInMemory(pid, secrets));
  return { inside, all };
}

const tap = new Tap();
const processes = new Processes();
let listener;
try {
  const directory = processes.directory();
  const scripts = join(directory, 'scripts.json');
  writeFileSync(scripts, JSON.stringify(script));
  const secrets = {};
  const plane = await startControlPlane(processes, holt, scripts, 60);
  secrets['environment key'] = plane.environmentKey;
  listener = await startListener(plane.baseURL, secrets);
  const place = await workers.serve.start(processes, {
    holt,
    ...plane,
    baseURL: listener.baseURL,
    maxIdleMs: 20_000,
  });
  let outside;
  const answerCustom = () => {
    outside = lookFromOutside(place.daemon.child.pid, secrets);
    return 'looked';
  };
  const report = await processes.whileRunning(
    playSession(plane, { script: 'search', answerCustom, boundMs: BOUND_MS }),
  );
  const [clean, planted] = findings(report);

  await tap.check('the search from inside runs, and knows every secret', () => {
    assert.deepEqual(report.record.failures, []);
    assert.deepEqual(Object.keys(secrets).sort(), ['environment key', 'sessions token', 'work secret']);
    assert.ok(clean.looked.files > 0 && clean.looked.environments > 1, JSON.stringify(clean.looked));
  });
  await tap.check('no secret in environments, memory and files as seen from inside', () => {
    assert.deepEqual(clean.found, []);
  });
  await tap.check('no secret in the memory of the processes in the sandbox as seen from outside', () => {
    assert.ok(outside.inside.length >= 2, `${outside.inside.length} processes`);
    for (const { pid, found } of outside.inside) assert.deepEqual([...(found ?? ['unreadable'])], [], `process ${pid}`);
  });
  await tap.check('the search from inside finds what is planted', () => {
    assert.ok(planted.found.includes('file /workspace/planted.txt'), JSON.stringify(planted));
    assert.ok(planted.found.some((place) => place.startsWith('environ of ')), JSON.stringify(planted));
    assert.ok(planted.found.some((place) => place.startsWith('memory of ')), JSON.stringify(planted));
  });
  await tap.check('the search from outside finds the key in the daemon itself', () => {
    assert.ok(outside.all.some((found) => found?.has('environment key')));
  });
} catch (error) {
  tap.line(false, 'the search', `${error.stack}\n${processes.logs()}`);
} finally {
  await processes.end();
  listener?.server.close();
}
tap.end();
