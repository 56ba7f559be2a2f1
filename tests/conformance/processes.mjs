// Starts the programs under test, waits for what they say, and ends them; each test run owns one of these.
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LOG_LIMIT_BYTES = 256 * 1024;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `probe` answers something true; the bound is generous, it only ends a test that hangs. */
export async function until(what, probe, boundMs = 60_000) {
  const end = Date.now() + boundMs;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`gave up waiting for ${what}`);
    await sleep(50);
  }
}

export class Processes {
  #children = [];
  #directories = [];
  #breakOff;
  #broken = new Promise((_, reject) => (this.#breakOff = reject));

  constructor() {
    this.#broken.catch(() => {});
  }

  /** Waits for `work`, but not longer than every program runs: one that ends by itself is a failure. */
  whileRunning(work) {
    return Promise.race([work, this.#broken]);
  }

  /** What was started, in order. */
  get children() {
    return this.#children;
  }

  directory() {
    const path = mkdtempSync(join(tmpdir(), 'holt-test-'));
    chmodSync(path, 0o755); // a daemon's state is below, and part of it is not root's
    this.#directories.push(path);
    return path;
  }

  start(name, command, args, options = {}) {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...cleanEnvironment(), ...options.env },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    const running = { name, child, output: '', exit: undefined };
    const keep = (bytes) => {
      running.output = (running.output + bytes).slice(-LOG_LIMIT_BYTES);
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    running.ended = new Promise((resolve) => {
      child.on('error', (error) => {
        keep(`\n${error}\n`);
        running.exit = 'not started';
        resolve();
      });
      child.on('close', (code, signal) => {
        running.exit = signal ?? code;
        if (!running.isStopping) this.#breakOff(new Error(`${name} ended by itself (${running.exit})`));
        resolve();
      });
    });
    if (options.input !== undefined) child.stdin.end(options.input);
    this.#children.push(running);
    return running;
  }

  /** Waits for a line of output; fails at once when the program ends first. */
  async said(running, pattern) {
    return until(`"${pattern.source}" from ${running.name}`, () => {
      const match = pattern.exec(running.output);
      if (!match && running.exit !== undefined) {
        throw new Error(`${running.name} ended (${running.exit}):\n${running.output.slice(-2000)}`);
      }
      return match;
    });
  }

  async stop(running) {
    if (running.exit !== undefined) return;
    running.isStopping = true;
    running.child.kill('SIGTERM');
    const forced = setTimeout(() => running.child.kill('SIGKILL'), 20_000);
    await running.ended;
    clearTimeout(forced);
  }

  /** Ends everything, the last started first, and removes the directories. */
  async end() {
    for (const running of this.#children.reverse()) await this.stop(running);
    for (const path of this.#directories) rmSync(path, { recursive: true, force: true });
  }

  /** What did not end with 0 when it was asked to end: a crash, or a leak that a sanitizer found. */
  unclean() {
    return this.#children.filter(({ exit }) => exit !== undefined && exit !== 0).map(({ name, exit }) => `${name}: ${exit}`);
  }

  logs(lines = 25) {
    return this.#children
      .map(({ name, exit, output }) => {
        const tail = output.trimEnd().split('\n').slice(-lines).join('\n');
        return `--- ${name} (${exit === undefined ? 'running' : `ended: ${exit}`})\n${tail}`;
      })
      .join('\n');
  }
}

/** The caller's own settings for the API must not leak into a test. */
function cleanEnvironment() {
  const names = Object.keys(process.env).filter((name) => !/^(ANTHROPIC_|HOLT_|.*_proxy$)/i.test(name));
  return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}
