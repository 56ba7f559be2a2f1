// The ways to serve an environment: each entry starts a worker and says where its sessions' files are.
import { chmodSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

// As often as the official worker allows.
const SYNC_MEMORY_MS = 5000;

const script = (name) => fileURLToPath(new URL(name, import.meta.url));

const common = (setting) => ({
  ANTHROPIC_BASE_URL: setting.baseURL,
  ANTHROPIC_ENVIRONMENT_ID: setting.environmentId,
  ANTHROPIC_ENVIRONMENT_KEY: setting.environmentKey,
  MAX_IDLE_MS: String(setting.maxIdleMs),
  SYNC_MEMORY_MS: String(SYNC_MEMORY_MS),
});

async function startNode(processes, setting, program, env = {}) {
  const workdir = processes.directory();
  for (let i = 0; i < (setting.workers ?? 1); i++) {
    const worker = processes.start(program, process.execPath, [script(program)], {
      env: { ...common(setting), WORKDIR: workdir, ...env },
      cwd: workdir,
    });
    await processes.said(worker, /worker ready/);
  }
  return { workdir };
}

export const workers = {
  sdk: {
    title: 'official worker',
    start: (processes, setting) => startNode(processes, setting, 'official_worker.mjs'),
  },
  serve: {
    title: 'holt serve',
    start: async (processes, setting) => {
      const state = processes.directory();
      const daemon = processes.start(
        'holt serve',
        setting.holt,
        [
          'serve',
          ...['--environment-id', setting.environmentId],
          ...['--base-url', setting.baseURL],
          ...['--state-dir', join(state, 'state')],
          ...['--max-idle', `${setting.maxIdleMs}ms`],
          ...['--sync-memory', `${SYNC_MEMORY_MS}ms`],
          ...['--keep', '0'],
          ...(setting.more ?? []),
        ],
        { env: { ANTHROPIC_ENVIRONMENT_KEY: setting.environmentKey, ...setting.env } },
      );
      return { workdir: '/workspace', daemon, stateDir: join(state, 'state') };
    },
  },
  poll: {
    // The script returns at once and its worker comes later, as a container does: the item must wait for it.
    title: 'holt worker poll, official worker in the background',
    start: async (processes, setting) => {
      const workdir = processes.directory();
      const onWork = join(processes.directory(), 'on-work');
      writeFileSync(onWork, `#!/bin/sh\n(sleep 0.2; exec '${process.execPath}' '${script('official_item.mjs')}') &\n`);
      chmodSync(onWork, 0o755);
      const poller = processes.start('holt worker poll', setting.holt, ['worker', 'poll', '--on-work', onWork], {
        env: { ...common(setting), WORKDIR: workdir },
        cwd: workdir,
      });
      await processes.said(poller, /polling environment/);
      return { workdir };
    },
  },
  run: {
    title: 'holt worker run',
    start: (processes, setting) => startNode(processes, setting, 'on_work.mjs', { HOLT: setting.holt }),
  },
};
