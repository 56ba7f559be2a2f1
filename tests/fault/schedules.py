#!/usr/bin/env python3
"""Random scenarios under random faults at random moments; the same promises hold for each.

SEED names the run (random, and printed, when unset), COUNT how many schedules (default 40), FIRST
the number of the first. One schedule again: SEED=s FIRST=n COUNT=1. When one fails, a user has met
a combination of troubles that nobody thought of.
"""
import concurrent.futures
import os
import random
import sys
import time
import traceback

from points import INTERNAL_POINTS
from proxy import STREAM_FAULTS, Rule
from rig import COUNT as COUNT_FILE
from rig import Broken, Rig, Scene, require, start_emulator
from table import (JOBS, MORE_FAULTS, OPENING_FAULTS, REQUEST_FAULTS, VICTIMS, check_retry_after,
                   has_fault_points)

SEED = os.environ.get("SEED") or str(random.SystemRandom().randrange(10**9))
COUNT = int(os.environ.get("COUNT", 40))
FIRST = int(os.environ.get("FIRST", 0))
STEPS = ("poll", "ack", "first_beat", "session", "stream", "history", "post", "beat", "stop")
PATIENCE = ("--request-timeout", "2s")
RUN_SECONDS = 150  # several leases may lapse, one after the other


class Schedule:
    """What is played, what is broken, and what the end must look like."""

    def __init__(self, number):
        self.number = number
        self.name = f"s{number}"
        self.random = random.Random(f"{SEED}:{number}")
        self.steps, self.answers, self.lines = [], {}, []
        self.messages = 1
        self._make_scenario()
        self._make_faults()

    # The scenario.

    def _make_scenario(self):
        makers = [self._counted] * 4 + [self._reads, self._confirmed, self._denied,
                                        self._interrupted]
        self._counted()
        for _ in range(self.random.randint(0, 5)):
            self.random.choice(makers)()
        if self.random.random() < 0.25:
            self.steps.append({"end_turn": True})
            self.messages = 2
            self._counted()
        self._last()
        self.steps.append({"terminate": True})

    def _call(self, command, expected=None, **more):
        call = {"name": "bash", "input": {"command": command}, **more}
        if expected is not None:
            call["expect"] = {"is_error": False, "text": expected}
        return call

    def _line(self, is_certain=True):
        """The next number, and the command that leaves it in the file."""
        number = len(self.lines) + 1
        self.lines.append((number, is_certain))
        return number, f"echo {number} >> {COUNT_FILE}"

    def _counted(self):
        number, command = self._line()
        pause = self.random.choice(["", "", "sleep 0.1; ", "sleep 0.4; "])
        self.steps.append({"calls": [self._call(f"{command}; {pause}echo did {number}",
                                                f"^did {number}$")],
                           "duplicate": self.random.random() < 0.2,
                           "hide_from_streams": False})

    def _reads(self):
        calls = [self.random.choice([
            {"name": "read", "input": {"file_path": "count"},
             "expect": {"is_error": False, "text": "^1|\t1|1"}},
            {"name": "glob", "input": {"pattern": "*"}, "expect": {"text": "count"}},
            {"name": "grep", "input": {"pattern": "1", "path": "."}, "expect": {"text": "count"}},
        ]) for _ in range(self.random.randint(2, 4))]
        self.steps.append({"calls": calls})

    def _confirmed(self):
        number, command = self._line()
        self.steps.append({"calls": [self._call(f"{command}; echo did {number}",
                                                f"^did {number}$", permission="ask")],
                           "confirm": [{"call": 0, "result": "allow"}]})

    def _denied(self):
        self.answers[(len(self.steps), 0)] = (0,)
        self.steps.append({"calls": [self._call(f"echo denied >> {COUNT_FILE}", permission="ask")],
                           "confirm": [{"call": 0, "result": "deny"}]})

    def _interrupted(self):
        """A call that only the user's interrupt ends; it may not have begun by then."""
        _, command = self._line(is_certain=False)
        self.answers[(len(self.steps), 0)] = (0, 1)
        self.steps += [{"calls": [self._call(f"{command}; sleep 600", answered=False)]},
                       {"wait_ms": self.random.choice([1, 150, 400])}, {"interrupt": True}]

    def _last(self):
        _, command = self._line()
        lines = "".join(f"{number}\n" if is_certain else f"({number}\n)?"
                        for number, is_certain in self.lines)[:-1]
        self.steps.append({"calls": [self._call(f"{command}; cat {COUNT_FILE}", f"^{lines}$")]})

    # The faults.

    def _make_faults(self):
        self.rules, self.kills, self.holds = [], [], None
        self.victim = self.random.choice(VICTIMS)
        for _ in range(self.random.choice([1, 1, 2, 2, 3, 4])):
            self.random.choice([self._wire, self._wire, self._wire_kill, self._timed_kill])()
        if INTERNAL_POINTS and has_fault_points() and self.random.random() < 0.5:
            point = self.random.choice(INTERNAL_POINTS)
            self.holds = f"{point[0]}:hold:{self.random.randint(1, 3)}"

    def _wire(self):
        step = self.random.choice(STEPS)
        faults = OPENING_FAULTS if step == "stream" else REQUEST_FAULTS + MORE_FAULTS.get(step, ())
        fault = self.random.choice(faults)
        count = self.random.choice([1, 1, 1, 2, 3]) if fault in STREAM_FAULTS or \
            fault in ("500", "503", "529", "drop_before", "drop_after") else 1
        self.rules.append(Rule(step, fault, self.random.randint(1, 3), count))

    def _wire_kill(self):
        self.rules.append(Rule(self.random.choice(STEPS),
                               self.random.choice(["act_before", "act_after"]),
                               self.random.randint(1, 3), victim=self.random.choice(VICTIMS)))

    def _timed_kill(self):
        self.kills.append((self.random.uniform(0.05, 2.5), self.random.choice(VICTIMS)))

    def __str__(self):
        kills = [f"kill {victim} at {seconds:.2f} s" for seconds, victim in self.kills]
        held = [f"{self.holds} kill {self.victim}"] if self.holds else []
        return ", ".join([str(rule) + (f" kill {rule.victim}" if rule.victim else "")
                          for rule in self.rules] + kills + held)

    # The run.

    def play(self, plane):
        with Rig(plane, self.rules, options=PATIENCE, fault=self.holds,
                 victim=self.victim if self.holds else None) as rig:
            rig.run_seconds = RUN_SECONDS
            rig.timed_kills = sorted(self.kills)
            verdict = rig.serve(self.name, self.messages)
            rig.judge(verdict, may_repeat=True, answers=self.answers)
            rig.finish()
            for rule in self.rules:
                if rule.fault in ("429", "503", "529") and len(self.rules) == 1 and \
                        rig.starts == 1:
                    check_retry_after(rig, rule)
            return rig.starts - 1


def run(schedule, planes):
    start = time.monotonic()
    plane = planes[schedule.number % len(planes)]
    try:
        restarts = schedule.play(plane)
        return True, f"served in {time.monotonic() - start:.1f} s, {restarts} restarts", ""
    except Exception as error:
        story = [] if isinstance(error, Broken) else [traceback.format_exc()]
        return False, f"{error}".replace("\n", " ")[:300], "\n".join(
            story + getattr(error, "__notes__", []))


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP making sandboxes needs root")
        return 0
    schedules = [Schedule(number) for number in range(FIRST, FIRST + COUNT)]
    print(f"1..{COUNT}\n# SEED={SEED}", flush=True)
    scripts = {schedule.name: {"steps": schedule.steps} for schedule in schedules}
    scripts["default"] = {"steps": []}
    scenes = [Scene().__enter__() for _ in range(min(4, COUNT))]
    broken = 0
    try:
        planes = [start_emulator(scene, scripts) for scene in scenes]
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            running = {pool.submit(run, schedule, planes): schedule for schedule in schedules}
            for place, future in enumerate(concurrent.futures.as_completed(running), 1):
                schedule, (is_good, outcome, story) = running[future], future.result()
                broken += 0 if is_good else 1
                print(f"{'ok' if is_good else 'not ok'} {place} - schedule "
                      f"{schedule.number}: {schedule}".replace("#", ""), flush=True)
                print(f"#   {outcome}", flush=True)
                for line in story.splitlines():
                    print(f"#   {line}", flush=True)
    finally:
        for scene in scenes:
            scene.__exit__()
    print(f"# {COUNT} schedules of SEED={SEED}: {COUNT - broken} served as promised, "
          f"{broken} broken", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
