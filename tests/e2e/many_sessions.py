"""Many sessions at once on one daemon, each in a sandbox of its own: all complete, nothing is left.

usage: many_sessions.py [COUNT] [AT_ONCE]

COUNT sessions (default 200) are queued before the daemon starts. AT_ONCE of them (default: as many as
the machine's memory allows, at most COUNT) are served at a time, the rest wait in the queue. Each makes three
tool calls; the third asks for a permission that the application gives only when AT_ONCE sessions hold
it, so that as many sandboxes truly stand at the same time. Prints TAP; the lines that begin with
"# figure" are the measurements of bench/README.md.
"""
import http.client
import json
import os
import pathlib
import sys
import threading
import time
import urllib.parse

import harness

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 200
# Short, so that there are many beats; the daemon renews after half of it.
LEASE_TTL_SECONDS = 10
# How long all stand idle together: several beats of each.
HOLD_SECONDS = 2 * LEASE_TTL_SECONDS if COUNT > 200 else LEASE_TTL_SECONDS
# What a sandbox with hand, a shell and its kernel objects takes at the most, and what stays free.
SANDBOX_KB = 10 * 1024
SPARE_KB = 1024 * 1024
BOUND_SECONDS = 900
LOOK_AHEAD = 20

STEPS = [
    {"calls": [{"name": "bash", "input": {"command": "echo $$ > mine; ls -A; readlink /proc/self/ns/pid"},
                "expect": {"is_error": False, "text": r"^mine\npid:\[\d+\]$"}}]},
    {"calls": [{"name": "write", "input": {"file_path": "out.txt", "content": "once\n"},
                "expect": {"is_error": False}}]},
    {"calls": [{"name": "bash", "permission": "ask",
                "input": {"command": "echo again >> out.txt; cat out.txt"},
                "expect": {"is_error": False, "text": r"^once\nagain$"}}]},
    {"end_turn": True},
]


def available_kb():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    return 0


AT_ONCE = min(COUNT, int(sys.argv[2]) if len(sys.argv) > 2 else
              max(1, (available_kb() - SPARE_KB) // SANDBOX_KB))


class Client:
    """One kept connection with the application's key."""

    def __init__(self, plane):
        parts = urllib.parse.urlsplit(plane.url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
        self.headers = {"x-api-key": plane.api_key, "content-type": "application/json",
                        "anthropic-version": "2026-10-21"}

    def request(self, method, path, body=None):
        self.connection.request(method, path, None if body is None else json.dumps(body),
                                self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 200, f"{method} {path}: {answer.status} {text[:300]!r}"
        return json.loads(text)

    def post(self, session, event):
        self.request("POST", f"/v1/sessions/{session}/events", {"events": [event]})


def children(pid):
    try:
        return [int(child) for child in
                pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def family(pid):
    members = [pid]
    for member in members:
        members += children(member)
    return members


def pss_kb(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


class Watch(threading.Thread):
    """The most that front and keeper had while it ran."""

    def __init__(self, front):
        super().__init__(daemon=True)
        self.front = front
        self.keeper = children(front)[0]
        self.peaks = {"front_kb": 0, "keeper_kb": 0, "front_fds": 0, "keeper_fds": 0}
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.25):
            now = {"front_kb": pss_kb(self.front), "keeper_kb": pss_kb(self.keeper),
                   "front_fds": descriptors(self.front), "keeper_fds": descriptors(self.keeper)}
            self.peaks = {name: max(self.peaks[name], value) for name, value in now.items()}


def create(client, environment_id):
    agent = client.request("POST", "/v1/agents", {
        "name": "many", "model": "claude-sonnet-5-5", "tools": [{"type": "agent_toolset_20260401"}]})
    sessions = []
    for _ in range(COUNT):
        session = client.request("POST", "/v1/sessions", {
            "agent": agent["id"], "environment_id": environment_id})["id"]
        client.post(session, {"type": "user.message", "content": [{"type": "text", "text": "go"}]})
        sessions.append(session)
    return sessions


def results_of(client, session):
    report = client.request("GET", f"/emulator/sessions/{session}")
    assert not report["failures"], report["failures"]
    return report


def held_call(client, session):
    """The id of the call that waits for a permission; None while there is none."""
    for event in client.request("GET", f"/v1/sessions/{session}/events?limit=1000")["data"]:
        if event["type"] == "agent.tool_use" and event.get("evaluated_permission") == "ask":
            return event["id"]
    return None


def confirm(client, session, call):
    client.post(session, {"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"})


def scan(sessions, is_done, needed, what):
    """Waits until `needed` of the sessions are done. The queue is served in order, so that a look
    ends at the first few that are not: asking about all would slow down what is measured."""
    remaining = list(sessions)

    def look():
        undone = []
        for index, session in enumerate(remaining):
            if not is_done(session):
                undone.append(session)
                if len(undone) == LOOK_AHEAD:
                    undone += remaining[index + 1:]
                    break
        remaining[:] = undone
        if len(sessions) - len(remaining) >= needed:
            return True
        time.sleep(0.1)
        return False
    harness.wait_until(look, what, BOUND_SECONDS)


def wait_for_held(client, sessions, needed):
    """Waits until `needed` sessions have run two calls and hold the third; {session: call}."""
    held = {}

    def is_held(session):
        if len(results_of(client, session)["results"]) == 2:
            call = held_call(client, session)
            if call is not None:
                held[session] = call
        return session in held
    scan(sessions, is_held, needed, f"{needed} sessions to hold a call")
    return held


def let_all_finish(client, sessions, held):
    """Confirms what is held, now and later, until every session has finished."""
    confirmed = set(held)
    for session, call in held.items():
        confirm(client, session, call)

    def is_finished(session):
        report = results_of(client, session)
        if len(report["results"]) == 2 and session not in confirmed:
            call = held_call(client, session)
            if call is not None:
                confirm(client, session, call)
                confirmed.add(session)
        return report["is_finished"]
    scan(sessions, is_finished, len(sessions), "every session to finish")


def all_stopped(plane, client, environment_id):
    def look():
        return client.request("GET", "/emulator/stats")["work"]["stopped"] >= COUNT
    harness.wait_until(look, "every work item to be stopped", BOUND_SECONDS)


def figure(name, value):
    print(f"# figure {name}: {value}", flush=True)


def report_beats(client):
    beats = client.request("GET", "/emulator/stats")["heartbeats"]
    figure("heartbeats after the first of each session", beats["count"])
    for name in ("p50", "p99", "max"):
        figure(f"heartbeat lateness {name}, ms", beats[f"late_{name}_ms"])


@harness.case(f"{COUNT} sessions complete, {AT_ONCE} of them at the same time")
def many(scene):
    harness.needs_root()
    plane = scene.emulator({"default": {"steps": STEPS}}, "--lease-ttl", f"{LEASE_TTL_SECONDS}s")
    environment_id, key = plane.environment()
    client = Client(plane)
    sessions = create(client, environment_id)
    begun = time.monotonic()
    state = scene.directory / "state"
    daemon = scene.serve(plane, environment_id, key, "--max-sessions", str(AT_ONCE), "--max-idle",
                         "1s", "--state-dir", str(state))
    watch = Watch(daemon.process.pid)
    watch.start()
    held = wait_for_held(client, sessions, AT_ONCE)
    standing = time.monotonic() - begun
    assert len(os.listdir(state / "sandboxes")) >= AT_ONCE
    members = family(daemon.process.pid)
    inside = sum(pss_kb(pid) for pid in members if pid not in (watch.front, watch.keeper))
    time.sleep(HOLD_SECONDS)
    held_until = time.monotonic()
    let_all_finish(client, sessions, held)
    all_stopped(plane, client, environment_id)
    wall = time.monotonic() - begun - (held_until - begun - standing)
    watch.over.set()
    watch.join()
    figure("sessions", COUNT)
    figure("sandboxes at the same time", AT_ONCE)
    figure("wall, without the pause, s", f"{wall:.1f}")
    figure(f"until {AT_ONCE} sandboxes stood with two calls answered, s", f"{standing:.1f}")
    figure("front, most PSS, MB", f"{watch.peaks['front_kb'] / 1024:.1f}")
    figure("keeper, most PSS, MB", f"{watch.peaks['keeper_kb'] / 1024:.1f}")
    figure("front, most descriptors", watch.peaks["front_fds"])
    figure("keeper, most descriptors", watch.peaks["keeper_fds"])
    figure("hand and shell of a sandbox, PSS, MB", f"{inside / 1024 / AT_ONCE:.2f}")
    report_beats(client)
    for session in sessions:
        results = results_of(client, session)["results"]
        assert len(results) == 3, (session, results)
    assert daemon.terminate(120) == 0, daemon.log()
    assert os.listdir(state / "sandboxes") == []
    assert not [pid for pid in members if pathlib.Path(f"/proc/{pid}/stat").exists()
                and pid in family(os.getpid())]


harness.run()
