"""One session served under a fault: a proxy, a daemon that is started again when it dies, a verdict.

Many rigs run at a time, each in a thread with a directory, a proxy and a daemon of its own; the
rigs of one thread share an emulator. What a verdict asks of every run, whatever was broken:
each tool call has exactly one result and ran exactly once, every work item is stopped, and nothing
is left: no process, control group, mount, directory, range of ids, or descriptor.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from harness import HOLT, Scene, wait_until  # noqa: E402
from proxy import Proxy  # noqa: E402

LEASE_TTL = "3s"
# A whole run: the longest path is two leases that lapse one after the other.
RUN_SECONDS = float(os.environ.get("HOLT_FAULT_RUN_SECONDS", 90))
RESTART_SECONDS = 0.3  # after a daemon that ended by itself, with an error
DESCRIPTORS_SPARE = 12  # connections that the daemon may keep for the next request
SANITIZER_WORDS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:")


class Broken(AssertionError):
    """The promise that was not kept, in one line."""


def require(condition, text):
    if not condition:
        raise Broken(text)


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def process_state(pid):
    """The letter of proc_pid_stat(5); "" for no process."""
    text = read(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2] if ")" in text else ""


def is_alive(pid):
    return process_state(pid) not in ("", "Z", "X")


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def signal_pid(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Daemon:
    """A running `holt serve`: front, which was started, and keeper, which front started."""

    def __init__(self, program):
        self.program = program
        self.front = program.process.pid
        self.keeper = None
        self.baseline = {}
        self.was_hit = False  # one of its processes was killed: it will end by itself

    def find_keeper(self):
        if self.keeper is None:
            for word in read(f"/proc/{self.front}/task/{self.front}/children").split():
                if read(f"/proc/{word}/comm").strip() == "holt-keeper":
                    self.keeper = int(word)
        return self.keeper

    def pids(self):
        self.find_keeper()
        return [pid for pid in (self.front, self.keeper) if pid is not None]

    def kill(self, victim):
        """SIGKILL to `front`, `keeper` or `both`; the others go on if they were held."""
        self.find_keeper()
        named = {"front": [self.front], "keeper": [self.keeper], "both": self.pids()}[victim]
        for pid in named:
            if pid is not None:
                self.was_hit = True
                signal_pid(pid, signal.SIGKILL)
        for pid in self.pids():
            signal_pid(pid, signal.SIGCONT)

    def is_held(self):
        return any(process_state(pid) == "T" for pid in self.pids())

    def is_over(self):
        return self.program.process.poll() is not None


class Rig:
    """Use as a context. `victim`: who is killed when a process is held at a fault point."""

    def __init__(self, plane, rules=(), fault=None, victim=None, options=(), environment=None,
                 max_idle="300ms", prefix=()):
        self.plane, self.fault, self.victim = plane, fault, victim
        self.options, self.max_idle, self.prefix = options, max_idle, prefix
        self.extra_environment = environment or {}
        self.rules = rules
        for rule in rules:
            if rule.victim is not None:
                rule.act = lambda victim=rule.victim: self.kill(victim)
        self.scene = Scene()
        self.daemon = None
        self.starts = 0
        self.holds = 0
        self.kills = 0
        self.counts = {}  # sandbox -> the lines that calls left in it, kept beyond its end
        self.wait_to_start = 0
        self.run_seconds = RUN_SECONDS
        self.timed_kills = []  # (seconds after the first start, victim), in order
        self.first_start = None

    def __enter__(self):
        self.scene.__enter__()
        self.state = self.scene.directory / "state"
        self.environment_id, self.key = self.plane.environment()
        self.proxy = Proxy(self.plane.url, self.rules)
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            error.add_note(self.story())
        # A rig that failed may leave a held process, which no SIGTERM reaches.
        if self.daemon is not None and not self.daemon.is_over():
            for pid in self.daemon.pids():
                signal_pid(pid, signal.SIGCONT)
        self.proxy.close()
        self.scene.__exit__()

    # The daemon.

    def start(self):
        ready = self.scene.directory / f"ready-{self.starts}"
        environment = {"ANTHROPIC_ENVIRONMENT_KEY": self.key, **self.extra_environment}
        if self.fault is not None and self.starts == 0:
            environment["HOLT_FAULT"] = self.fault
        self.daemon = Daemon(self.scene.start("serve", [
            "serve", "--environment-id", self.environment_id, "--base-url", self.proxy.url,
            "--state-dir", str(self.state), "--ready-file", str(ready), "--max-idle", self.max_idle,
            "--poll-interval", "20ms", "--max-sessions", "4", "--log-level", "debug",
            *self.options], environment, self.prefix))
        self.ready = ready
        self.first_start = self.first_start or time.monotonic()
        self.starts += 1

    def supervise(self):
        """What a service manager does, and what the test does at a fault point."""
        daemon = self.daemon
        self.look_at_counts()
        if self.timed_kills and time.monotonic() - self.first_start >= self.timed_kills[0][0]:
            self.kill(self.timed_kills.pop(0)[1])
        if daemon.is_over():
            # A daemon that gave up may do so again: not a hundred times a second.
            if daemon.program.process.returncode > 0 and self.wait_to_start == 0:
                self.wait_to_start = time.monotonic() + RESTART_SECONDS
            if time.monotonic() >= self.wait_to_start:
                self.wait_to_start = 0
                self.start()
            return
        daemon.find_keeper()
        if not daemon.baseline and self.ready.exists():
            daemon.baseline = {pid: descriptors(pid) for pid in daemon.pids()}
        if daemon.is_held():
            self.holds += 1
            if self.victim is None:
                for pid in daemon.pids():
                    signal_pid(pid, signal.SIGCONT)
            else:
                self.kill(self.victim)

    def look_at_counts(self):
        for sandbox in self.kept_directories():
            text = read(self.state / "sandboxes" / sandbox / "layer/root" / COUNT.lstrip("/"))
            if text:
                self.counts[sandbox] = text

    def kill(self, victim):
        """From any thread; a daemon that is over is left alone."""
        self.kills += 1
        self.daemon.kill(victim)

    def drive(self, condition, what, seconds=None):
        seconds = self.run_seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        next_look = 0
        while time.monotonic() < deadline:
            self.supervise()
            if time.monotonic() >= next_look:
                value = condition()
                if value:
                    return value
                next_look = time.monotonic() + 0.04
            time.sleep(0.005)
        raise Broken(f"waited {seconds:g} s for {what}")

    def story(self):
        """For whoever has to find out: what the proxy saw, what the programs said."""
        first = self.proxy.log[0][0] if self.proxy.log else 0
        seen = "\n".join(f"{at - first:8.3f} {step} {what}" for at, step, what in
                         self.proxy.log[-120:])
        return f"{seen}\n{self.scene.logs()}"

    # The session.

    def is_stopped(self):
        states = self.plane.work_states(self.environment_id)
        return bool(states) and all(state == "stopped" for state in states)

    def serve(self, script, messages=1):
        """Plays a script to its end; returns the emulator's verdict."""
        self.start()
        session = self.plane.session(self.environment_id, script)
        for turn in range(1, messages):
            self.drive(lambda: self._turns(session) >= turn and self.is_stopped(),
                       f"turn {turn} to end and its item to be stopped")
            self.plane.message(session, "go on")
        self.drive(lambda: self.plane.verdict(session)["is_finished"], "the session's end")
        self.drive(self.is_stopped, "the item to be stopped")
        self.session = session
        return self.plane.verdict(session)

    def _turns(self, session):
        events = self.plane.request("GET", f"/v1/sessions/{session}/events?limit=1000")["data"]
        return sum(1 for event in events if event["type"] == "session.status_idle" and
                   event["stop_reason"]["type"] != "requires_action")

    # The verdict.

    def judge(self, verdict, may_repeat=False, is_sandbox_lost=False, answers=()):
        """`answers`: how many results a call may have, by (step, call), when it is not one."""
        answers = dict(answers)
        if not is_sandbox_lost:
            require(not verdict["failures"], "; ".join(verdict["failures"])[:300])
        lines = [line for text in self.counts.values() for line in text.split()]
        require(lines, "no sandbox was seen in which a call ran")
        require(len(lines) == len(set(lines)),
                f"a call ran twice: {list(self.counts.values())}")
        for call in verdict["calls"]:
            place = f"step {call['step']} call {call['call']}"
            require(call["results"] in answers.get((call["step"], call["call"]), (1,)),
                    f"{place} has {call['results']} results")
            require(call["contradictions"] == 0, f"{place} was answered twice, differently")
            require(may_repeat or call["repeats"] == 0,
                    f"{place}: the result was posted {call['repeats'] + 1} times")

    def kept_directories(self):
        try:
            return sorted(os.listdir(self.state / "sandboxes"))
        except FileNotFoundError:
            return []

    def finish(self, is_terminated=True):
        """Ends the daemon as a service manager does, and looks for what is left."""
        self.timed_kills = []  # too late for a fault
        if self.daemon.was_hit:
            self.drive(lambda: not self.daemon.was_hit, "the daemon to be started again", 30)
        if is_terminated:
            self.drive(lambda: not self.kept_directories(), "the sandbox to be removed", 30)
        self.drive(lambda: self.daemon.baseline, "the daemon to be ready", 30)
        self._check_descriptors()
        marks = self._marks()
        daemon = self.daemon
        # A second fault may be due: as long as the service is wanted it is started again.
        status = daemon.program.terminate()
        require(status == 0, f"the daemon ended with {status}: {daemon.program.log()[-300:]}")
        for program in self.scene.programs:
            for word in SANITIZER_WORDS:
                require(word not in program.log(), f"{word} {program.log()[-1500:]}")
        wait_until(lambda: not any(is_alive(pid) for pid in daemon.pids()), "keeper to end")
        left = self._left(marks)
        require(not left or not is_terminated, "left behind: " + ", ".join(left)[:300])

    def _check_descriptors(self):
        """Descriptors of processes that live: as at their start, but for kept connections."""
        baseline = self.daemon.baseline

        def excess():
            return {pid: (descriptors(pid), count) for pid, count in baseline.items()
                    if is_alive(pid) and descriptors(pid) > count +
                    (DESCRIPTORS_SPARE if pid == self.daemon.front else 0)}
        try:
            wait_until(lambda: not excess(), "descriptors", 10)
        except AssertionError:
            raise Broken(f"descriptors now, at the start: {list(excess().values())}") from None

    def _marks(self):
        status = os.stat(self.state)
        return f"holt-{status.st_dev:x}-{status.st_ino:x}"

    def _left(self, group):
        directory = str(self.scene.directory)
        left = [f"process {pid} ({read(f'/proc/{pid}/comm').strip()})"
                for pid in os.listdir("/proc") if pid.isdigit() and is_alive(pid) and
                (group in read(f"/proc/{pid}/cgroup") or
                 str(self.state) in read(f"/proc/{pid}/cmdline"))]
        for parent, names, _ in os.walk("/sys/fs/cgroup"):
            left += [f"group {parent}/{name}" for name in names if name == group]
        left += [f"mount {line.split()[4]}" for line in read("/proc/self/mountinfo").splitlines()
                 if directory in line.split()[4] and line.split()[4] != str(self.state)]
        registry = "/run/holt/ids"
        for name in os.listdir(registry) if os.path.isdir(registry) else []:
            try:
                if os.readlink(f"{registry}/{name}").startswith(directory):
                    left.append(f"ids {name}")
            except OSError:
                pass
        left += [f"directory {name}" for name in self.kept_directories()]
        known = re.compile(r"^(sandboxes|skeleton|front|lock|.*\.db(-wal|-shm)?|[a-z-]+\.lock)$")
        left += [f"file {name}" for name in os.listdir(self.state) if not known.match(name)]
        return left


def start_emulator(scene, scripts, *more):
    return scene.emulator(scripts, "--lease-ttl", LEASE_TTL, *more)


# Scripts. Every call that changes something leaves a line in a file; the last call shows them all.

COUNT = "/workspace/count"


def step(command, expected=None, **more):
    call = {"name": "bash", "input": {"command": command}, **more}
    if expected is not None:
        call["expect"] = {"is_error": False, "text": expected}
    return {"calls": [call]}


def counted(number, *commands, expected=None):
    return step("; ".join([f"echo {number} >> {COUNT}", *commands]), expected)


SCRIPTS = {
    # One turn of four calls; the session ends.
    "counted": {"steps": [
        counted(1, "A=kept", "echo one", expected="^one$"),
        counted(2, "touch /workspace/started", "sleep 0.25", "echo two", expected="^two$"),
        {"calls": [{"name": "read", "input": {"file_path": "count"},
                    "expect": {"is_error": False, "text": "1\\n.*2"}}]},
        counted(3, "echo $A", f"cat {COUNT}", expected="^kept\n1\n2\n3$"),
        {"terminate": True}]},
    # Long enough for a second heartbeat.
    "long": {"steps": [
        counted(1, "sleep 1.8", "echo one", expected="^one$"),
        counted(2, f"cat {COUNT}", expected="^1\n2$"),
        {"terminate": True}]},
    # The same work where the sandbox does not survive: what it says does not matter.
    "lost": {"steps": [
        step(f"echo 1 >> {COUNT}"),
        step(f"echo 2 >> {COUNT}; touch /workspace/started; sleep 0.25"),
        step(f"cat {COUNT}"),
        {"terminate": True}]},
    # Two turns, each with an item of its own; the second finds the shell of the first.
    "kept": {"steps": [
        counted(1, "A=kept", "echo one", expected="^one$"),
        {"end_turn": True},
        counted(2, "echo $A", f"cat {COUNT}", expected="^kept\n1\n2$"),
        {"terminate": True}]},
}
