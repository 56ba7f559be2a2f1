// Looks at processes, mounts and control groups from the host's side.
import { closeSync, existsSync, openSync, readFileSync, readSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';

function readOr(path, otherwise) {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return otherwise;
  }
}

function linkOr(path, otherwise) {
  try {
    return readlinkSync(path);
  } catch {
    return otherwise;
  }
}

/** Every process: pid, parent, start time (pid and start time together are unique). */
function processTable() {
  const table = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readOr(`/proc/${name}/stat`, '');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields.length > 20) table.push({ pid: Number(name), parent: Number(fields[1]), started: fields[19] });
  }
  return table;
}

/** The process and all below it. */
export function family(pid) {
  const table = processTable();
  const members = table.filter((entry) => entry.pid === pid);
  for (let i = 0; i < members.length; i++) {
    members.push(...table.filter((entry) => entry.parent === members[i].pid));
  }
  return members;
}

export function isAlive({ pid, started }) {
  const stat = readOr(`/proc/${pid}/stat`, '');
  return stat !== '' && stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] === started;
}

/** The members of a family that live in another pid namespace than we: what runs in sandboxes. */
export function sandboxed(pid) {
  const own = readlinkSync('/proc/self/ns/pid');
  return family(pid).filter((entry) => ![own, ''].includes(linkOr(`/proc/${entry.pid}/ns/pid`, '')));
}

/** Proportional and resident memory of processes, in kB. */
export function memoryOf(members) {
  const total = { pss: 0, rss: 0 };
  for (const { pid } of members) {
    const rollup = readOr(`/proc/${pid}/smaps_rollup`, '');
    total.pss += Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0);
    total.rss += Number(/^Rss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0);
  }
  return total;
}

const TICKS_PER_SECOND = 100; // USER_HZ: what /proc counts in, on every architecture Debian has

/** Processor seconds of processes, and of their children that have ended; of those named `name` only, if given. */
export function cpuOf(members, name) {
  let ticks = 0;
  for (const { pid } of members) {
    const stat = readOr(`/proc/${pid}/stat`, '');
    const comm = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (stat === '' || (name !== undefined && comm !== name)) continue;
    for (const field of [11, 12, 13, 14]) ticks += Number(fields[field]); // utime, stime, cutime, cstime
  }
  return ticks / TICKS_PER_SECOND;
}

/** Mounts of any process's namespace that name the directory. */
export function mountsBelow(directory) {
  const found = new Set();
  for (const { pid } of processTable()) {
    for (const line of readOr(`/proc/${pid}/mountinfo`, '').split('\n')) if (line.includes(directory)) found.add(line);
  }
  return [...found];
}

function* directoriesBelow(root, depth) {
  if (depth < 0 || !existsSync(root)) return;
  let entries = [];
  try {
    entries = readdirSync(root, { withFileTypes: true });
  } catch {
    return;
  }
  for (const entry of entries) {
    if (!entry.isDirectory()) continue;
    yield join(root, entry.name);
    yield* directoriesBelow(join(root, entry.name), depth - 1);
  }
}

/** The control groups of a daemon: keeper names its own after the state directory's device and inode. */
export function cgroupsOf(stateDirectory) {
  const { dev, ino } = statSync(stateDirectory);
  const name = `holt-${dev.toString(16)}-${ino.toString(16)}`;
  return [...directoriesBelow('/sys/fs/cgroup', 6)].filter((path) => path.split('/').includes(name));
}

// Larger mappings are address space that a sanitizer reserved; reading them would never end.
const MAPPING_LIMIT_BYTES = 1n << 30n;

/** Names of the secrets whose bytes are in a process's memory, as far as we may read it; undefined if not at all. */
export function secretsInMemory(pid, secrets) {
  const found = new Set();
  let fd;
  try {
    fd = openSync(`/proc/${pid}/mem`, 'r');
  } catch {
    return undefined;
  }
  const chunk = Buffer.alloc(1 << 20);
  const overlap = 4096;
  for (const line of readOr(`/proc/${pid}/maps`, '').split('\n')) {
    const [, from, to, access] = /^([0-9a-f]+)-([0-9a-f]+) (....)/.exec(line) ?? [];
    if (!access?.startsWith('r')) continue;
    const end = BigInt(`0x${to}`);
    const start = BigInt(`0x${from}`);
    if (end - start > MAPPING_LIMIT_BYTES) continue;
    for (let at = start; at < end; at += BigInt(chunk.length - overlap)) {
      const length = Number(end - at < BigInt(chunk.length) ? end - at : BigInt(chunk.length));
      let got = 0;
      try {
        got = readSync(fd, chunk, 0, length, at);
      } catch {
        break;
      }
      const text = chunk.subarray(0, got);
      for (const [name, secret] of Object.entries(secrets)) if (text.includes(secret)) found.add(name);
      if (got < length) break;
    }
  }
  closeSync(fd);
  return found;
}
