#!/usr/bin/env python3
"""Every point of an item's life, with every fault: what became of the session.

When a cell fails, a user has a session that waits for ever, a command that ran twice, or a machine
that fills up with what dead sessions left. usage: table.py [WORD...]: only the cells that have all
the words in their name, and none of those written -WORD. HOLT_FAULT_JOBS runs that many cells at a time.
"""
import concurrent.futures
import os
import socket
import subprocess
import sys
import threading
import time
import traceback

import conditions
from points import INTERNAL_POINTS, WEBHOOK_POINTS, WIRE_POINTS
from proxy import RETRY_AFTER_SECONDS, STREAM_FAULTS, Rule
from rig import HOLT, SCRIPTS, Broken, Rig, Scene, require, start_emulator

JOBS = int(os.environ.get("HOLT_FAULT_JOBS", 8))
VICTIMS = ("front", "keeper", "both")
REQUEST_FAULTS = ("drop_before", "drop_after", "drop_middle", "429", "500", "503", "529",
                  "late_500", "truncated", "garbage", "trickled", "half_open", "delayed")
OPENING_FAULTS = ("drop_before", "drop_after", "429", "500", "503", "529", "half_open", "delayed",
                  *sorted(STREAM_FAULTS))
MORE_FAULTS = {"poll": ("stale",), "history": ("stale",)}
# The control plane took the result, and holt could not know it: it may post it again.
UNKNOWN = {"drop_after", "drop_middle", "late_500", "truncated", "garbage"}
# Short enough for the peers that never answer; longer than a poll is held.
PATIENCE = ("--request-timeout", "2s")


class Cell:
    def __init__(self, point, fault, play):
        self.point, self.fault, self.play = point, fault, play
        self.outcome, self.seconds, self.is_good = "", 0.0, False

    @property
    def name(self):
        return f"{self.point}: {self.fault}"


def check_retry_after(rig, rule):
    """Nobody asks again before the time that the control plane named."""
    struck = [at for at, name, what in rig.proxy.log
              if name == rule.step and what == f"fault {rule.fault}"]
    again = [at for at, name, what in rig.proxy.log
             if name == rule.step and what == "request" and struck and at > struck[0]]
    require(not again or again[0] - struck[0] >= RETRY_AFTER_SECONDS * 0.99,
            f"asked again after {again[0] - struck[0] if again else 0:.2f} s in spite of "
            "retry-after")


def play(plane, rules, script="counted", messages=1, may_repeat=False, is_struck=None, **options):
    """Serves one session under the rules; the outcome in a few words."""
    with Rig(plane, rules, options=PATIENCE, **options) as rig:
        return see_through(rig, script, messages, rules, may_repeat, is_struck)


def see_through(rig, script, messages, rules, may_repeat, is_struck):
    verdict = rig.serve(script, messages)
    for rule in rules:
        require(rule.struck, f"{rule} never struck")
        if rule.fault in ("429", "503", "529"):
            check_retry_after(rig, rule)
    rig.judge(verdict, may_repeat=may_repeat, is_sandbox_lost=script == "lost")
    rig.finish()
    # A point of the sandbox's end is reached after the session's.
    require(is_struck is None or is_struck(rig), "the point was never reached")
    repeats = sum(call["repeats"] for call in verdict["calls"])
    words = ["served"]
    if rig.starts > 1:
        words.append(f"{rig.starts - 1} restart" + ("s" if rig.starts > 2 else ""))
    if repeats:
        words.append("repeat refused")
    return ", ".join(words)


def wire_cells():
    for step, name, script, messages, nth in WIRE_POINTS:
        faults = OPENING_FAULTS if step == "stream" else REQUEST_FAULTS + MORE_FAULTS.get(step, ())
        for fault in faults:
            def run(plane, step=step, fault=fault, script=script, messages=messages, nth=nth):
                return play(plane, [Rule(step, fault, nth)], script, messages,
                            may_repeat=step == "post" and fault in UNKNOWN)
            yield Cell(name, fault.replace("_", " "), run)


def wire_kill_cells():
    for step, name, script, messages, nth in WIRE_POINTS:
        for moment, fault in (("sent", "act_before"), ("answered", "act_after")):
            for victim in VICTIMS:
                def run(plane, step=step, fault=fault, script=script, messages=messages, nth=nth,
                        victim=victim):
                    # The answer of a post is dropped; a front that lives posts again.
                    may_repeat = (step, fault, victim) == ("post", "act_after", "keeper")
                    return play(plane, [Rule(step, fault, nth, victim=victim)], script, messages,
                                may_repeat=may_repeat)
                yield Cell(f"{name} {moment}", f"kill {victim}", run)


def stale_history_cells():
    """The list that a restarted daemon gets is older than the call whose result hand keeps."""
    for victim in VICTIMS:
        def run(plane, victim=victim):
            return play(plane, [Rule("post", "act_before", 2, victim=victim),
                                Rule("history", "stale", 2)])
        yield Cell("post sent", f"kill {victim}, then stale history", run)


def internal_cells():
    for point, script, messages, nth in INTERNAL_POINTS:
        for victim in VICTIMS:
            def run(plane, point=point, script=script, messages=messages, nth=nth, victim=victim):
                return play(plane, [], script, messages, fault=f"{point}:hold:{nth}",
                            victim=victim, is_struck=lambda rig: rig.holds > 0)
            yield Cell(point, f"kill {victim}", run)


def play_webhook(point, victim):
    """The emulator of this run tells the daemon by webhook; it tries again until it is heard."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = "whsec_aG9sdC10ZXN0LXNpZ25pbmcta2V5LTAxMjM0NTY3ODk="
    with Scene() as scene:
        plane = start_emulator(scene, SCRIPTS, "--webhook-url", f"http://127.0.0.1:{port}/webhook",
                               "--webhook-secret", secret)
        with Rig(plane, fault=f"{point}:hold:1", victim=victim,
                 options=(*PATIENCE, "--webhook-listen", f"127.0.0.1:{port}", "--poll", "recovery",
                          "--recovery-interval", "1s"),
                 environment={"ANTHROPIC_WEBHOOK_SIGNING_KEY": secret}) as rig:
            return see_through(rig, "counted", 1, [], False, lambda rig: rig.holds > 0)


def webhook_cells():
    for point in WEBHOOK_POINTS:
        for victim in VICTIMS:
            yield Cell(point, f"kill {victim}", lambda plane, point=point, victim=victim:
                       play_webhook(point, victim))


def has_fault_points():
    """Whether the program was built with the option `faults`."""
    known = subprocess.run(["grep", "-c", "HOLT_FAULT", HOLT], capture_output=True, check=False)
    return known.stdout.strip() not in (b"", b"0")


class Emulators:
    """One emulator for each thread, kept to the end."""

    def __init__(self):
        self.local = threading.local()
        self.scenes = []

    def plane(self):
        if not hasattr(self.local, "plane"):
            scene = Scene().__enter__()
            self.scenes.append(scene)
            self.local.plane = start_emulator(scene, {**SCRIPTS, **conditions.SCRIPTS})
        return self.local.plane

    def close(self):
        for scene in self.scenes:
            scene.__exit__()


def run_cell(cell, emulators):
    start = time.monotonic()
    story = []
    try:
        cell.outcome = cell.play(emulators.plane())
        cell.is_good = True
    except Broken as error:
        cell.outcome = str(error).replace("\n", " ")
        story = getattr(error, "__notes__", [])
    except Exception as error:
        cell.outcome = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        story = [traceback.format_exc(), *getattr(error, "__notes__", [])]
    cell.seconds = time.monotonic() - start
    return story


def print_table(cells):
    points = list(dict.fromkeys(cell.point for cell in cells))
    width = max(len(cell.point) for cell in cells)
    fault_width = max(len(cell.fault) for cell in cells)
    print(f"# {len(points)} points, {len(cells)} runs: point, fault, outcome, seconds")
    for cell in sorted(cells, key=lambda cell: points.index(cell.point)):
        mark = "" if cell.is_good else "BROKEN "
        print(f"# {cell.point:{width}}  {cell.fault:{fault_width}}  {mark}{cell.outcome}  "
              f"{cell.seconds:.1f}")


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP making sandboxes needs root")
        return 0
    cells = [*wire_cells(), *wire_kill_cells(), *stale_history_cells(),
             *conditions.cells(Cell)]
    if has_fault_points():
        cells += [*internal_cells(), *webhook_cells()]
    words = sys.argv[1:]
    cells = [cell for cell in cells
             if all((word.lstrip("-") in cell.name) != word.startswith("-") for word in words)]
    conditions.enter_mount_namespace()
    print(f"1..{len(cells)}", flush=True)
    emulators = Emulators()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        # The slowest first would be better; they are spread well enough.
        running = {pool.submit(run_cell, cell, emulators): cell for cell in cells}
        for number, future in enumerate(concurrent.futures.as_completed(running), 1):
            cell, story = running[future], future.result()
            print(f"{'ok' if cell.is_good else 'not ok'} {number} - {cell.name} ({cell.seconds:.1f} s)"
                  + ("" if cell.is_good else f" # {cell.outcome[:120]}"), flush=True)
            for text in story:
                for line in text.splitlines():
                    print(f"#   {line}", flush=True)
    emulators.close()
    print_table(cells)
    return 0 if all(cell.is_good for cell in cells) else 1


if __name__ == "__main__":
    sys.exit(main())
