// The official EnvironmentWorker, unmodified, as its documentation runs it.
import Anthropic from '@anthropic-ai/sdk';

const environmentKey = process.env.ANTHROPIC_ENVIRONMENT_KEY;
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());

const client = new Anthropic({ apiKey: null, authToken: environmentKey, logLevel: 'info' });
const worker = client.beta.environments.work.worker({
  environmentId: process.env.ANTHROPIC_ENVIRONMENT_ID,
  environmentKey,
  workdir: process.env.WORKDIR,
  maxIdleMs: Number(process.env.MAX_IDLE_MS),
  memorySyncIntervalMs: Number(process.env.SYNC_MEMORY_MS),
});
console.log('worker ready');
await worker.run(stop.signal);
process.exit(0);
