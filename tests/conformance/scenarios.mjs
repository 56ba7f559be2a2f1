// What each scenario of scenarios.json needs from the application, the control plane and the worker.
//   turns        the user's messages, in order (default: one)
//   confirm      verdicts for calls that ask, in order
//   answerCustom the application's answer to a custom tool
//   sessions     how many sessions of it run at once
//   leaseTtl     seconds; the worker beats every half of it
//   maxIdleMs    how long the worker stays after the turn ended
//   unanswered   indices of calls that must have no result
//   differs      indices of calls whose result may differ between workers, with the reason
//   only         the workers that it is for (default: all)
//   status       the session's status at the end (default: idle)
//   skills       the agent has skills: the archives of tests/vectors/skills.json and a folder
//   stores       memory stores of the session: name, access, memories {path: content}; what is in them at the end is compared
//   change       what the application does to the stores when the script asks the person
//   isBroken     the stream is made to lose events: what it brought is not compared with the history
const notes = {
  '/deep/er/note.md': 'žluťoučký\nkůň\n',
  '/empty': '',
  '/mine.md': 'old\n',
  '/theirs.md': 'old\n',
  '/both.md': 'old\n',
  '/deleted.md': 'x',
  '/deleted-changed.md': 'old\n',
  '/removed.md': 'x',
  '/removed-edited.md': 'old\n',
};

// Behind `holt worker poll` the official worker does the same once more.
const memoryWorkers = ['sdk', 'serve', 'run'];

export const scenarios = {
  bash: {},
  write: {},
  read: {},
  edit: {},
  glob: {},
  grep: {},
  several_calls: {},
  ask_allow: { confirm: ['allow'] },
  ask_deny: { confirm: ['deny'], unanswered: [0] },
  denied_by_policy: { unanswered: [0] },
  custom_tool: { answerCustom: 'green' },
  stream_dropped: { isBroken: true },
  only_in_history: { isBroken: true },
  duplicated_events: {},
  idle_exit: {},
  terminated: { status: 'terminated' },
  two_sessions: { sessions: 2 },
  // The official worker and `holt worker run` have no sandbox: their sessions share files by design.
  sessions_apart: { sessions: 2, only: ['serve'] },
  unicode: {},
  large_output: {},
  shell_state: {},
  // Through `holt worker poll` the worker takes the item over and loses it between two looks of the poller's.
  lease_lost: { only: ['sdk', 'serve', 'run'], leaseTtl: 2, maxIdleMs: 3000 },
  unknown_events: {},
  // The official worker does not act on an interrupt: its call runs to its end.
  interrupted: { differs: [0] },
  second_turn: { turns: ['go', 'go on'], maxIdleMs: 5000 },
  overloaded: { isBroken: true },
  skills: { skills: true },
  memory_files: { only: memoryWorkers, stores: [{ name: 'notes', memories: notes }, { name: 'Team: all', memories: {} }] },
  memory_changes: {
    only: memoryWorkers,
    stores: [{ name: 'notes', memories: notes }],
    change: async (store) => {
      await store.put('/theirs.md', 'new\n');
      await store.put('/both.md', 'theirs\n');
      await store.put('/added.md', 'added\n');
      await store.put('/deleted-changed.md', 'changed\n');
      await store.remove('/removed.md');
      await store.remove('/removed-edited.md');
    },
  },
  memory_read_only: {
    only: memoryWorkers,
    stores: [{ name: 'notes', access: 'read_only', memories: notes }],
    change: async (store) => {
      await store.put('/theirs.md', 'new\n');
      await store.put('/both.md', 'theirs\n');
      await store.remove('/removed.md');
      await store.remove('/removed-edited.md');
    },
  },
  memory_wiped: { only: memoryWorkers, stores: [{ name: 'notes', memories: notes }] },
  memory_emptied: { only: memoryWorkers, stores: [{ name: 'notes', memories: notes }] },
  memory_marker: { only: memoryWorkers, stores: [{ name: 'notes', memories: notes }] },
  memory_hostile: { only: memoryWorkers, stores: [{ name: 'notes', memories: notes }] },
};
