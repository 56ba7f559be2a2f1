// The official poller, which starts `holt worker run` for each item, as `ant beta:worker poll --on-work` does.
import { spawn } from 'node:child_process';
import Anthropic from '@anthropic-ai/sdk';

const environmentKey = process.env.ANTHROPIC_ENVIRONMENT_KEY;
const stop = new AbortController();
let current;
process.on('SIGTERM', () => {
  stop.abort();
  current?.kill('SIGTERM');
});

const client = new Anthropic({ apiKey: null, authToken: environmentKey, logLevel: 'info' });
const poller = client.beta.environments.work.poller({
  environmentId: process.env.ANTHROPIC_ENVIRONMENT_ID,
  environmentKey,
  autoStop: false,
  signal: stop.signal,
});
console.log('worker ready');
for await (const work of poller) {
  current = spawn(
    process.env.HOLT,
    [
      ...['worker', 'run', '--workdir', process.env.WORKDIR],
      ...['--max-idle', `${process.env.MAX_IDLE_MS}ms`, '--sync-memory', `${process.env.SYNC_MEMORY_MS}ms`],
    ],
    {
      env: {
        ...process.env,
        ANTHROPIC_WORK_ID: work.id,
        ANTHROPIC_ENVIRONMENT_ID: work.environment_id,
        ANTHROPIC_SESSION_ID: work.data.id,
        ...(work.secret ? { ANTHROPIC_WORK_SECRET: work.secret } : {}),
      },
      stdio: ['pipe', 'inherit', 'inherit'],
    },
  );
  current.stdin.end(JSON.stringify(work));
  const code = await new Promise((resolve) => current.on('close', (exit, signal) => resolve(signal ?? exit)));
  console.log(`holt worker run ended: ${code}`);
}
process.exit(0);
