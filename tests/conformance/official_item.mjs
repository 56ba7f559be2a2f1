// The official EnvironmentWorker on one claimed item, as an on-work script starts it; the item is in its environment.
import Anthropic from '@anthropic-ai/sdk';

const client = new Anthropic({ apiKey: null, authToken: process.env.ANTHROPIC_ENVIRONMENT_KEY, logLevel: 'info' });
const worker = client.beta.environments.work.worker({
  workdir: process.env.WORKDIR,
  maxIdleMs: Number(process.env.MAX_IDLE_MS),
});
await worker.handleItem();
process.exit(0);
