// Plays the application's part of a session with the official client and reports what the control plane recorded.
import Anthropic from '@anthropic-ai/sdk';
import { sleep, until } from './processes.mjs';

export const API_KEY = 'sk-ant-api03-conformance';
const RECONNECT_MS = 100;
const HISTORY_MS = 500;
const BOUND_MS = 100_000;

/** Starts `holt emulate` on a free port and makes an environment with a key on it through the official client. */
export async function startControlPlane(processes, holt, scripts, leaseTtlSeconds, { more = [], skills = [] } = {}) {
  const emulator = processes.start('holt emulate', holt, [
    'emulate',
    ...['--listen', '127.0.0.1:0'],
    ...(scripts ? ['--script', scripts] : []),
    ...['--api-key', API_KEY],
    ...['--lease-ttl', String(leaseTtlSeconds)],
    ...more,
  ]);
  const [, baseURL] = await processes.said(emulator, /listening on (http:\/\/[0-9.:]+)/);
  const client = new Anthropic({ apiKey: API_KEY, baseURL, logLevel: 'off' });
  const environment = await client.beta.environments.create({
    name: 'conformance',
    config: { type: 'self_hosted' },
  });
  const { key } = await client.post(`/emulator/environments/${environment.id}/keys`, { body: {} });
  const agent = await client.beta.agents.create({
    name: 'conformance',
    model: 'claude-opus-4-8',
    tools: [
      { type: 'agent_toolset_20260401' },
      {
        type: 'custom',
        name: 'ask_person',
        description: 'Asks the person at the desk',
        input_schema: { type: 'object', properties: { question: { type: 'string' } } },
      },
    ],
    skills: skills.map((id) => ({ type: 'custom', skill_id: id, version: 'latest' })),
  });
  return { emulator, baseURL, client, environmentId: environment.id, environmentKey: key, agentId: agent.id };
}

/**
 * Creates a session with a script, sends its turns, answers what is the application's to answer, and follows
 * the events until the script is over. `options`: script, turns, confirm (verdicts in order), answerCustom
 * (a text, or a function that is told the session's id and promises one), boundMs,
 * onEvent (called with each event once), resources (of the session).
 */
export async function playSession(plane, options) {
  const { client } = plane;
  const session = await client.beta.sessions.create({
    agent: plane.agentId,
    environment_id: plane.environmentId,
    metadata: { script: options.script },
    ...(options.resources ? { resources: options.resources } : {}),
  });
  const player = new Player(client, session.id, options);
  await player.play();
  return player.report();
}

class Player {
  constructor(client, id, options) {
    this.client = client;
    this.id = id;
    this.options = options;
    this.events = new Map();
    this.streamed = [];
    this.turns = [...(options.turns ?? ['go'])];
    this.verdicts = [...(options.confirm ?? [])];
    this.answered = new Set();
    this.isOver = false;
    this.stop = new AbortController();
    this.attached = new Promise((resolve) => (this.isAttached = resolve));
    this.stop.signal.addEventListener('abort', this.isAttached);
  }

  async play() {
    const bound = setTimeout(() => this.stop.abort(), this.options.boundMs ?? BOUND_MS);
    const following = [this.followStream(), this.followHistory()];
    try {
      await this.attached;
      await this.say();
      await until(`session ${this.options.script}`, () => this.isOver || this.failure, this.options.boundMs ?? BOUND_MS);
    } catch (error) {
      const types = [...this.events.values()].map((event) => event.type);
      throw new Error(`${error.message}; events so far: ${types.join(' ')}`, { cause: error });
    } finally {
      clearTimeout(bound);
      this.stop.abort();
      await Promise.allSettled(following);
    }
    if (this.failure) throw this.failure;
  }

  /** Sends the next turn; false when there is none left. */
  async say() {
    const text = this.turns.shift();
    if (text === undefined) return false;
    await this.send({ type: 'user.message', content: [{ type: 'text', text }] });
    return true;
  }

  async send(event) {
    await this.client.beta.sessions.events.send(this.id, { events: [event] });
  }

  async followStream() {
    const { signal } = this.stop;
    while (!signal.aborted && !this.isOver) {
      try {
        const stream = await this.client.beta.sessions.events.stream(this.id, {}, { signal });
        this.isAttached();
        for await (const event of stream) {
          if (event.id) this.streamed.push(event.id);
          await this.handle(event);
          if (this.isOver) return;
        }
      } catch (error) {
        if (error.status >= 400 && error.status < 500) this.failure ??= error;
      }
      await sleep(RECONNECT_MS);
    }
  }

  // What the stream did not bring (dropped, hidden) is found in the history.
  async followHistory() {
    while (!this.stop.signal.aborted && !this.isOver && !this.failure) {
      await sleep(HISTORY_MS);
      try {
        for await (const event of this.client.beta.sessions.events.list(this.id, { limit: 7 })) {
          await this.handle(event);
        }
      } catch (error) {
        if (!this.stop.signal.aborted && error.status >= 400 && error.status < 500) this.failure ??= error;
      }
    }
  }

  async handle(event) {
    if (!event.id || this.events.has(event.id)) return;
    this.events.set(event.id, event);
    this.options.onEvent?.(event);
    const handler = handlers[event.type];
    if (!handler) return;
    try {
      await handler(this, event);
    } catch (error) {
      this.failure ??= error;
    }
  }

  async confirmAndAnswer(ids) {
    for (const id of ids) {
      const call = this.events.get(id) ?? (await this.findEvent(id));
      if (!call || this.answered.has(id)) continue;
      if (call.type === 'agent.custom_tool_use') {
        this.answered.add(id);
        const { answerCustom = 'answered by the application' } = this.options;
        const text = typeof answerCustom === 'function' ? await answerCustom(this.id) : answerCustom;
        await this.send({
          type: 'user.custom_tool_result',
          custom_tool_use_id: id,
          content: [{ type: 'text', text }],
        });
      } else if (call.evaluated_permission === 'ask') {
        this.answered.add(id);
        await this.send({
          type: 'user.tool_confirmation',
          tool_use_id: id,
          result: this.verdicts.shift() ?? 'deny',
        });
      }
    }
  }

  async findEvent(id) {
    for await (const event of this.client.beta.sessions.events.list(this.id)) if (event.id === id) return event;
    return undefined;
  }

  async report() {
    const history = [];
    for await (const event of this.client.beta.sessions.events.list(this.id)) history.push(event);
    const session = await this.client.beta.sessions.retrieve(this.id);
    const record = await this.client.get(`/emulator/sessions/${this.id}`);
    return { id: this.id, history, session, record, streamed: this.streamed };
  }
}

const handlers = {
  'session.status_idle': async (player, event) => {
    if (event.stop_reason.type === 'requires_action') {
      await player.confirmAndAnswer(event.stop_reason.event_ids);
    } else if (!(await player.say())) {
      player.isOver = true;
    }
  },
  'session.status_terminated': async (player) => {
    player.isOver = true;
  },
};

/** Waits until the control plane has every work item of the environment stopped; returns the items. */
export async function itemsStopped(plane) {
  return until('the work items to be stopped', async () => {
    const items = [];
    for await (const item of plane.client.beta.environments.work.list(plane.environmentId)) items.push(item);
    return items.length > 0 && items.every((item) => item.state === 'stopped') && items;
  });
}
