#!/usr/bin/env python3
"""Sessions that outlive their daemon, and sandboxes that outlive their session's work item.

When one of these fails, a restart, an upgrade or a crash of the daemon costs somebody's work.
"""
import os
import pathlib
import signal
import time

from harness import case, needs_root, run, wait_until


def bash(command, expected, **more):
    return {"calls": [{"name": "bash", "input": {"command": command},
                       "expect": {"is_error": False, "text": expected, **more}}]}


def children_of(pid):
    return [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]


def keeper_of(daemon):
    for child in children_of(daemon.process.pid):
        if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "holt-keeper":
            return child
    raise AssertionError("no keeper")


def kill(daemon, victim):
    keeper = keeper_of(daemon)
    if victim in ("front", "both"):
        daemon.process.kill()
    if victim in ("keeper", "both"):
        os.kill(keeper, signal.SIGKILL)
    daemon.wait()


def sandboxes(state):
    return sorted(entry.name for entry in (state / "sandboxes").iterdir())


class Place:
    """An environment, a state directory, and daemons one after another on both."""

    def __init__(self, scene, steps, *emulator_options):
        needs_root()
        self.scene = scene
        self.plane = scene.emulator({"default": {"steps": steps}}, *emulator_options)
        self.environment_id, self.key = self.plane.environment()
        self.state = scene.directory / "state"

    def serve(self, *options, max_idle="200ms"):
        return self.scene.serve(self.plane, self.environment_id, self.key, "--state-dir",
                                str(self.state), "--keep", "10m", "--max-idle", max_idle,
                                "--poll-interval", "20ms", "--log-level", "debug", *options)

    def stopped(self):
        states = self.plane.work_states(self.environment_id)
        return bool(states) and all(state == "stopped" for state in states)


def results_of(place, session):
    return place.plane.verdict(session)["results"]


def interrupted_call(scene, victim):
    """A call runs on while the daemon dies, and is answered once by the next one."""
    place = Place(scene, [
        bash("cd /tmp; export KEPT=yes; echo a >> /workspace/count", ""),
        bash("echo b >> /workspace/count; sleep 2; echo went on", "^went on$"),
        bash("pwd; echo $KEPT; cat /workspace/count", "^/tmp\nyes\na\nb$"),
    ])
    daemon = place.serve()
    session = place.plane.session(place.environment_id)
    wait_until(lambda: daemon.log().count("handed over") == 2, "the second call")
    wait_until(lambda: sandboxes(place.state), "the sandbox")
    count = place.state / "sandboxes" / sandboxes(place.state)[0] / "layer/root/workspace/count"
    wait_until(lambda: count.exists() and count.read_text() == "a\nb\n", "the call to run")
    kill(daemon, victim)
    second = place.serve()
    place.plane.finished(session)
    assert "resumed" in second.log() and "as it was left" in second.log(), second.log()
    assert len(results_of(place, session)) == 3, results_of(place, session)
    wait_until(place.stopped, "the item to be stopped")
    assert second.terminate() == 0, second.log()


@case("kill -9 of the daemon in the middle of a call: it runs on and is answered once")
def front_dies(scene):
    interrupted_call(scene, "front")


@case("kill -9 of keeper in the middle of a call: it runs on and is answered once")
def keeper_dies(scene):
    interrupted_call(scene, "keeper")


@case("kill -9 of both in the middle of a call: it runs on and is answered once")
def both_die(scene):
    interrupted_call(scene, "both")


@case("a call that ended while no daemon ran is answered by the next one")
def ended_meanwhile(scene):
    place = Place(scene, [bash("echo x >> /workspace/count; sleep 0.5; wc -l < /workspace/count",
                               "^1$")])
    daemon = place.serve()
    session = place.plane.session(place.environment_id)
    wait_until(lambda: "handed over" in daemon.log(), "the call")
    kill(daemon, "both")
    time.sleep(1)  # long enough that the call has ended; a shorter time tests less, not wrongly
    place.serve()
    place.plane.finished(session)
    assert len(results_of(place, session)) == 1


@case("a lease that lapsed while no daemon ran begins anew, with the sandbox as it was left")
def lapsed(scene):
    place = Place(scene, [
        bash("export KEPT=yes; echo x >> /workspace/count", ""),
        bash("sleep 2; echo x >> /workspace/count; echo $KEPT; wc -l < /workspace/count",
             "^yes\n2$"),
    ], "--lease-ttl", "1s")
    daemon = place.serve()
    session = place.plane.session(place.environment_id)
    wait_until(lambda: daemon.log().count("handed over") == 2, "the second call")
    kill(daemon, "both")
    wait_until(lambda: place.plane.work_states(place.environment_id) == ["queued"], "the lapse")
    second = place.serve()
    place.plane.finished(session)
    assert "as it was left" in second.log(), second.log()
    assert len(results_of(place, session)) == 2, results_of(place, session)
    wait_until(place.stopped, "the item to be stopped")


@case("a sandbox that was lost with the daemon is replaced, and its calls are not run again")
def lost_sandbox(scene):
    place = Place(scene, [
        {"calls": [{"name": "bash", "input": {"command": "sleep 1000"},
                    "expect": {"is_error": True, "text": "sandbox was lost"}}]},
        bash("ls /workspace; echo anew", "^anew$"),
    ])
    daemon = place.serve()
    session = place.plane.session(place.environment_id)
    wait_until(lambda: "handed over" in daemon.log(), "the call")
    record = (place.state / "sandboxes" / sandboxes(place.state)[0] / "record").read_text()
    kill(daemon, "both")
    os.kill(int(record.split("hand ")[1].split()[0]), signal.SIGKILL)
    place.serve()
    place.plane.finished(session)


@case("a sandbox that dies under its daemon is replaced, and the session goes on")
def dies_under_daemon(scene):
    place = Place(scene, [
        {"calls": [{"name": "bash", "input": {"command": "sleep 1000"},
                    "expect": {"is_error": True, "text": "sandbox was lost"}}]},
        bash("ls /workspace; echo anew", "^anew$"),
    ])
    daemon = place.serve()
    session = place.plane.session(place.environment_id)
    wait_until(lambda: "handed over" in daemon.log(), "the call")
    record = (place.state / "sandboxes" / sandboxes(place.state)[0] / "record").read_text()
    os.kill(int(record.split("hand ")[1].split()[0]), signal.SIGKILL)
    place.plane.finished(session)
    wait_until(place.stopped, "the item to be stopped")


@case("a later work item of the session finds the same shell, files and background jobs")
def kept(scene):
    place = Place(scene, [
        bash("cd /tmp; export KEPT=yes; (while sleep 0.05; do date +%N > /workspace/tick; done) "
             ">/dev/null 2>&1 &\necho one", "^one$"),
        {"end_turn": True},
        bash("pwd; echo $KEPT; a=$(cat /workspace/tick); sleep 0.3; "
             "test \"$a\" != \"$(cat /workspace/tick)\" && echo ticking", "^/tmp\nyes\nticking$"),
    ])
    daemon = place.serve()
    session = place.plane.session(place.environment_id)
    wait_until(place.stopped, "the first item to be stopped")
    first = sandboxes(place.state)
    assert len(first) == 1
    assert daemon.terminate() == 0, daemon.log()
    assert sandboxes(place.state) == first
    second = place.serve()
    place.plane.message(session, "go on")
    place.plane.finished(session)
    assert "as it was left" in second.log(), second.log()
    assert sandboxes(place.state) == first


@case("a kept sandbox ends when its time is over, and with --keep 0 at once")
def expires(scene):
    place = Place(scene, [bash("echo hi", "^hi$")])
    daemon = place.serve("--keep", "500ms")
    place.plane.session(place.environment_id)
    wait_until(place.stopped, "the item to be stopped")
    wait_until(lambda: sandboxes(place.state) == [], "the sandbox to end")
    assert daemon.terminate() == 0
    daemon = place.serve("--keep", "0")
    session = place.plane.session(place.environment_id)
    place.plane.finished(session)
    wait_until(place.stopped, "the item to be stopped")
    wait_until(lambda: sandboxes(place.state) == [], "the sandbox to end")


@case("beyond --keep-most the longest unused sandbox ends")
def too_many(scene):
    place = Place(scene, [bash("echo hi", "^hi$")])
    daemon = place.serve("--keep", "10m", "--keep-most", "1")
    names = []
    for _ in range(2):
        session = place.plane.session(place.environment_id)
        place.plane.finished(session)
        wait_until(place.stopped, "the item to be stopped")
        names.append(set(sandboxes(place.state)))
    last = names[1] - names[0]
    assert daemon.terminate() == 0
    place.serve("--keep-most", "1")  # looks at once
    wait_until(lambda: set(sandboxes(place.state)) == last, "the older one to end")


@case("a sandbox without a row is destroyed at the start")
def no_row(scene):
    place = Place(scene, [bash("echo hi", "^hi$")])
    daemon = place.serve()
    place.plane.session(place.environment_id)
    wait_until(place.stopped, "the item to be stopped")
    assert len(sandboxes(place.state)) == 1
    assert daemon.terminate() == 0
    for file in place.state.glob("holt.db*"):
        file.unlink()
    place.serve()
    wait_until(lambda: sandboxes(place.state) == [], "the orphan to end")


@case("SIGTERM leaves an unfinished session to the next daemon, which goes on with it")
def handed_back(scene):
    place = Place(scene, [
        bash("export KEPT=yes; echo one", "^one$"),
        bash("sleep 2; echo $KEPT", "^yes$"),
    ])
    daemon = place.serve("--drain", "0")
    session = place.plane.session(place.environment_id)
    wait_until(lambda: daemon.log().count("handed over") == 2, "the second call")
    assert daemon.terminate() == 0, daemon.log()
    assert sandboxes(place.state), "the sandbox is gone"
    place.serve()
    place.plane.finished(session)
    assert len(results_of(place, session)) == 2


@case("a state database of a newer holt, and a file that is none, are refused with advice")
def bad_database(scene):
    import sqlite3
    place = Place(scene, [])
    assert place.serve().terminate() == 0
    path = place.state / "holt.db"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=999")
    database.close()
    daemon = place.scene.serve(place.plane, place.environment_id, place.key, "--state-dir",
                               str(place.state), wait=False)
    assert daemon.wait() == 1 and "version 999" in daemon.log(), daemon.log()
    path.write_bytes(b"not a database" * 1000)
    daemon = place.scene.serve(place.plane, place.environment_id, place.key, "--state-dir",
                               str(place.state), wait=False)
    assert daemon.wait() == 1 and "not a database" in daemon.log(), daemon.log()


@case("the state directory may lie where the daemon's user cannot go")
def hidden(scene):
    place = Place(scene, [bash("echo hi", "^hi$")])
    hidden = scene.directory / "hidden"
    hidden.mkdir(mode=0o700)
    place.state = hidden / "state"
    daemon = place.serve()
    place.plane.finished(place.plane.session(place.environment_id))
    wait_until(place.stopped, "the item to be stopped")
    assert daemon.terminate() == 0, daemon.log()
    second = place.serve("--keep", "0")
    wait_until(lambda: sandboxes(place.state) == [], "the sandbox to end")
    assert second.terminate() == 0, second.log()


@case("the state database and what is beside it are root's alone")
def private(scene):
    place = Place(scene, [bash("echo hi", "^hi$")])
    place.serve()
    session = place.plane.session(place.environment_id)
    place.plane.finished(session)
    files = list(place.state.glob("holt.db*"))
    assert len(files) == 3, files
    for file in files:
        assert file.stat().st_mode & 0o077 == 0, file
        assert place.key.encode() not in file.read_bytes()


run()
