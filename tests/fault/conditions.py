"""What befalls the machine: its clock jumps, its disk is full, its database is locked or read-only.

The state directories of these runs are small file systems in a mount namespace of the test's own.
"""
import ctypes
import os
import signal
import sqlite3
import subprocess
import time

from proxy import Rule
from rig import COUNT, Rig, counted, descriptors, require

SHIFTED_CLOCK = os.environ.get("SHIFTED_CLOCK")
DAY = 86400
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
PATIENCE = ("--request-timeout", "2s")
TROUBLE_SECONDS = 1.2  # how long the disk stays full, or the database locked

SCRIPTS = {
    # Its first call gives the test the time to act; all of it fits into one page of a full disk.
    "slow": {"steps": [
        counted(1, "sleep 0.7", "echo one", expected="^one$"),
        counted(2, "echo two", expected="^two$"),
        counted(3, f"cat {COUNT}", expected="^1\n2\n3$"),
        {"terminate": True}]},
}


def enter_mount_namespace():
    """Before any thread starts: what is mounted here ends with the test."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or \
            libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a mount namespace")


def running_first_call(rig):
    rig.drive(lambda: any(text.startswith("1") for text in rig.counts.values()),
              "the first call to run")


def session_of(rig):
    rig.start()
    return rig.plane.session(rig.environment_id, "slow")


def to_the_end(rig, session, words=()):
    rig.drive(lambda: rig.plane.verdict(session)["is_finished"], "the session's end")
    rig.drive(rig.is_stopped, "the item to be stopped")
    verdict = rig.plane.verdict(session)
    rig.judge(verdict)
    rig.finish()
    restarts = [f"{rig.starts - 1} restarts"] if rig.starts > 1 else []
    return ", ".join(["served", *words, *restarts])


def pause(rig, seconds):
    """Goes on supervising; the trouble lasts for this long."""
    end = time.monotonic() + seconds
    rig.drive(lambda: time.monotonic() >= end, "the trouble to pass")


# The clock.

def clock_jump(plane, seconds, victim):
    with Rig(plane, options=PATIENCE) as rig:
        offset = rig.scene.directory / "offset"
        offset.write_text("0\n")
        offset.chmod(0o644)
        rig.extra_environment = {
            "LD_PRELOAD": SHIFTED_CLOCK, "SHIFTED_CLOCK_FILE": str(offset),
            # The shim comes before the sanitizer's library, which then refuses to start.
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        session = session_of(rig)
        running_first_call(rig)
        offset.write_text(f"{seconds}\n")
        if victim is not None:
            rig.kill(victim)
        words = to_the_end(rig, session)
        year = time.strftime("%Y-%m-%d", time.gmtime(time.time() + seconds))
        require(year in rig.scene.logs(), "the daemon's clock did not jump")
        return words


# The disk.

class SmallDisk:
    """A file system of its own below a rig's state directory."""

    def __init__(self, rig, size="64m"):
        self.rig, self.ballast = rig, rig.state / "ballast"
        rig.state.mkdir(mode=0o755)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "holt-fault",
                        str(rig.state)], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", str(self.rig.state)], check=True)

    def fill(self):
        with open(self.ballast, "wb", buffering=0) as file:
            for size in (1 << 20, 4096, 512):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError:
                    pass

    def free(self):
        self.ballast.unlink()


def full_disk(plane, moment, victim):
    with Rig(plane, options=PATIENCE) as rig, SmallDisk(rig) as disk:
        rig.start()
        rig.drive(rig.ready.exists, "the daemon to be ready")
        if moment == "before the claim":
            disk.fill()
        session = plane.session(rig.environment_id, "slow")
        if moment == "while a call runs":
            running_first_call(rig)
            disk.fill()
        if victim is not None:
            rig.kill(victim)
        pause(rig, TROUBLE_SECONDS)
        disk.free()
        return to_the_end(rig, session)


# The database.

def databases(rig):
    return [path for path in rig.state.rglob("*.db*") if "sandboxes" not in path.parts]


def read_only(plane, victim):
    """The daemon finds its database on a file system that became read-only, as a sick disk does."""
    with Rig(plane, options=PATIENCE) as rig:
        session = session_of(rig)
        running_first_call(rig)
        require(databases(rig), "there is no database")
        path = databases(rig)[0]
        rig.kill(victim)
        rig.daemon.program.wait()
        subprocess.run(["mount", "--bind", path.parent, path.parent], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", path.parent], check=True)
            rig.drive(lambda: rig.starts > 1, "a second start")
            second = rig.daemon.program
            rig.drive(lambda: second.process.poll() is not None or rig.ready.exists(),
                      "the second daemon to see the database")
            require(second.process.poll() == 1,
                    f"on a read-only database a daemon started: {second.process.poll()}")
            require(str(rig.state) in second.log(), "the message does not say where")
        finally:
            subprocess.run(["umount", "-l", path.parent], check=True)
        return to_the_end(rig, session)


def locked(plane):
    """Somebody else, a backup say, holds the database's write lock for a while."""
    with Rig(plane, options=PATIENCE) as rig:
        session = session_of(rig)
        running_first_call(rig)
        path = next(path for path in databases(rig) if path.suffix == ".db")
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        pause(rig, TROUBLE_SECONDS)
        connection.execute("ROLLBACK")
        connection.close()
        return to_the_end(rig, session)


# The sandbox itself.

def lost_sandbox(plane, victim):
    """hand dies under a running call: the one case in which a call is answered by an error."""
    with Rig(plane, options=PATIENCE) as rig:
        rig.start()
        session = plane.session(rig.environment_id, "lost")
        rig.drive(lambda: any("2" in text for text in rig.counts.values()),
                  "the second call to run")
        record = (rig.state / "sandboxes" / next(iter(rig.counts)) / "record").read_text()
        pid = int(record.split("hand ")[1].split()[0])
        if victim is not None:
            rig.kill(victim)
        os.kill(pid, signal.SIGKILL)
        rig.drive(lambda: plane.verdict(session)["is_finished"], "the session's end")
        rig.drive(rig.is_stopped, "the item to be stopped")
        verdict = plane.verdict(session)
        rig.judge(verdict, is_sandbox_lost=True)
        lost = verdict["results"][1]
        require(lost["is_error"] and "lost" in lost["content"][0]["text"],
                f"the call that was lost is answered {lost['content']}")
        rig.finish()
        return "served, the running call answered: the sandbox was lost"


# Descriptors.

def rounds(plane):
    """Round after round of sessions in one daemon, each with broken connections: none adds up."""
    faults = [("session", "drop_middle"), ("history", "drop_before"), ("stream", "drop_after"),
              ("stream", "cut_event"), ("post", "drop_after"), ("first_beat", "drop_middle")]
    with Rig(plane, [Rule(step, fault, nth, count=1) for step, fault in faults
                     for nth in (1, 6, 12)], options=PATIENCE) as rig:
        rig.start()
        counts = []
        for _ in range(4):
            sessions = [plane.session(rig.environment_id, "counted") for _ in range(3)]
            for session in sessions:
                rig.drive(lambda session=session: plane.verdict(session)["is_finished"],
                          "the session's end")
                failures = plane.verdict(session)["failures"]
                require(not failures, "; ".join(failures)[:300])
            rig.drive(lambda: rig.is_stopped() and not rig.kept_directories(), "the round's end")
            counts.append({pid: descriptors(pid) for pid in rig.daemon.pids()})
        for pid, first in counts[0].items():
            require(counts[-1][pid] <= max(first, counts[1][pid]) + 2,
                    f"descriptors, round by round: {[count[pid] for count in counts]}")
        rig.finish()
        return "12 sessions served"


def cells(cell):
    for victim in (None, "front", "keeper", "both"):
        yield cell("while a call runs", "kill hand" + (f" and {victim}" if victim else ""),
                   lambda plane, victim=victim: lost_sandbox(plane, victim))
    yield cell("round after round", "connections dropped", rounds)
    if SHIFTED_CLOCK is not None:
        for name, seconds in (("a day on", DAY), ("a day back", -DAY), ("a minute back", -60)):
            for victim in (None, "front", "both"):
                fault = f"clock jumps {name}" + (f", kill {victim}" if victim else "")
                yield cell("while a call runs", fault, lambda plane, seconds=seconds,
                           victim=victim: clock_jump(plane, seconds, victim))
    for moment in ("before the claim", "while a call runs"):
        for victim in (None, "front", "keeper", "both"):
            yield cell(moment, "disk full" + (f", kill {victim}" if victim else ""),
                       lambda plane, moment=moment, victim=victim: full_disk(plane, moment, victim))
    for victim in ("front", "both"):
        yield cell("while a call runs", f"database read-only, kill {victim}",
                   lambda plane, victim=victim: read_only(plane, victim))
    yield cell("while a call runs", "database locked", locked)
