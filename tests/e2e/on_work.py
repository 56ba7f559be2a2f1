#!/usr/bin/env python3
"""`holt worker poll`, with a script for each work item and without.

When one of these fails, a script that starts its container in the background kills its own session, a
session is served by nobody, or twice, or a script written for `ant` does not run here.
"""
import base64
import json
import os
import signal

from harness import HOLT, case, needs_root, run, wait_until


def bash(command, expected, is_error=False):
    return {"calls": [{"name": "bash", "input": {"command": command},
                       "expect": {"is_error": is_error, "text": expected}}]}


ECHO = {"default": {"steps": [bash("echo from the worker", "^from the worker$")]}}
WORKER = f"{HOLT} worker run --max-idle 100ms"


class Setting:
    """An emulator with an environment, and the scripts and workers of a case."""

    def __init__(self, scene, scripts=None, *options):
        self.scene = scene
        self.plane = scene.emulator(scripts or ECHO, *options)
        self.environment_id, self.key = self.plane.environment()
        self.directory = scene.directory / "scripts"
        self.directory.mkdir()
        self.directory.chmod(0o777)

    def script(self, text):
        path = self.directory / "on-work.sh"
        path.write_text(f"#!/bin/sh\ncd {self.directory}\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def poll(self, *options):
        return self.scene.start("poll", [
            "worker", "poll", "--environment-id", self.environment_id, "--base-url",
            self.plane.url, "--log-level", "debug", "--max-idle", "100ms", *options],
            {"ANTHROPIC_ENVIRONMENT_KEY": self.key})

    def on_work(self, text, *options):
        return self.poll("--on-work", self.script(text), *options)

    def path(self, name):
        return self.directory / name

    def wait_for_file(self, name):
        return wait_until(lambda: self.path(name).exists(), name)

    def wait_for_states(self, *states):
        wait_until(lambda: sorted(self.plane.work_states(self.environment_id)) == sorted(states),
                   f"the items to be {states}")

    def session(self, script=None):
        return self.plane.session(self.environment_id, script)


def says(program, text):
    wait_until(lambda: text in program.log(), f'"{text}"')


@case("without a script the tools run here, one session after another")
def in_process(scene):
    setting = Setting(scene, {"default": {"steps": [
        bash("pwd; cat mine 2>/dev/null; echo $$ > mine", "work"),
        {"calls": [{"name": "read", "input": {"file_path": "/etc/passwd"},
                    "expect": {"is_error": True}}]}]}})
    work = scene.directory / "work"
    work.mkdir()
    program = setting.poll("--workdir", str(work), "--on-work", "in-process")
    for session in [setting.session() for _ in range(2)]:
        setting.plane.finished(session)
    setting.wait_for_states("stopped", "stopped")
    assert program.terminate() == 0, program.log()


@case("--unrestricted-paths lets the file tools leave the working directory")
def unrestricted(scene):
    setting = Setting(scene, {"default": {"steps": [
        {"calls": [{"name": "read", "input": {"file_path": "/etc/passwd"},
                    "expect": {"is_error": False, "text": "root:"}}]},
        bash("echo here > f", ""),
        {"calls": [{"name": "read", "input": {"file_path": "f"},
                    "expect": {"is_error": False, "text": "here"}}]}]}})
    work = scene.directory / "work"
    work.mkdir()
    program = setting.poll("--workdir", str(work), "--unrestricted-paths")
    setting.plane.finished(setting.session())
    assert (work / "f").read_text() == "here\n"
    assert program.terminate() == 0, program.log()


@case("a script gets what ant gives, and may serve the session itself")
def foreground(scene):
    setting = Setting(scene)
    program = setting.on_work(
        f"env > env.new; cat > item; mv env.new env; echo to stdout; exec {WORKER}")
    session = setting.session()
    setting.plane.finished(session)
    setting.wait_for_states("stopped")
    variables = dict(line.split("=", 1) for line in setting.path("env").read_text().splitlines()
                     if "=" in line)
    item = json.loads(setting.path("item").read_text())
    assert item["data"] == {"type": "session", "id": session}, item
    assert item["secret"] == variables["ANTHROPIC_WORK_SECRET"]
    assert variables["ANTHROPIC_WORK_ID"] == item["id"]
    assert variables["ANTHROPIC_SESSION_ID"] == session
    assert variables["ANTHROPIC_ENVIRONMENT_ID"] == setting.environment_id
    assert variables["ANTHROPIC_ENVIRONMENT_KEY"] == setting.key
    assert variables["ANTHROPIC_BASE_URL"] == setting.plane.url
    says(program, "to stdout")
    says(program, "ended here: served")
    assert setting.key not in program.log() and item["secret"] not in program.log()
    assert program.terminate() == 0, program.log()


@case("a script that starts its worker in the background does not kill its session")
def background(scene):
    setting = Setting(scene)
    program = setting.on_work(
        f"(while [ ! -e go ]; do sleep 0.05; done; exec {WORKER}) & touch returned")
    session = setting.session()
    setting.wait_for_file("returned")
    says(program, "the on-work script exited with code 0")
    assert setting.plane.work_states(setting.environment_id) == ["starting"]
    setting.path("go").touch()
    setting.plane.finished(session)
    setting.wait_for_states("stopped")
    says(program, "ended here")
    assert "nobody took" not in program.log()
    assert program.terminate() == 0, program.log()


@case("a worker that comes after the claim has run out finds it made again")
def late_worker(scene):
    setting = Setting(scene, None, "--lease-ttl", "5s")
    program = setting.on_work(f"(while [ ! -e go ]; do sleep 0.05; done; exec {WORKER}) &")
    session = setting.session()
    says(program, "again: nobody has taken it over yet")
    setting.path("go").touch()
    setting.plane.finished(session)
    setting.wait_for_states("stopped")
    says(program, "ended here")
    assert program.log().count("running ") == 1, "the script ran twice"
    assert program.terminate() == 0, program.log()


@case("a claim is made again while the script still runs, and takes no other item along")
def slow_script(scene):
    setting = Setting(scene, None, "--lease-ttl", "5s")
    program = setting.on_work(
        f'while [ ! -e go ]; do sleep 0.05; done; echo "$ANTHROPIC_SESSION_ID" >> served; exec {WORKER}')
    first = setting.session()
    says(program, "running ")
    second = setting.session()
    says(program, "again: nobody has taken it over yet")
    setting.path("go").touch()
    setting.plane.finished(first)
    setting.plane.finished(second)
    setting.wait_for_states("stopped", "stopped")
    assert setting.path("served").read_text().split() == [first, second]
    assert program.terminate() == 0, program.log()


@case("an item that nobody takes over in time is stopped")
def nobody_comes(scene):
    setting = Setting(scene)
    program = setting.on_work("true", "--on-work-timeout", "1s")
    setting.session()
    says(program, "nobody took work")
    setting.wait_for_states("stopped")
    says(program, "ended here: nobody took it over")
    assert program.terminate() == 0, program.log()


@case("a script that fails is warned of, its item is stopped, and the next is served")
def failing_script(scene):
    setting = Setting(scene)
    program = setting.on_work(f"[ -e failed ] || {{ touch failed; exit 3; }}; exec {WORKER}")
    setting.session()
    says(program, "exited with code 3")
    setting.wait_for_states("stopped")
    setting.plane.finished(setting.session())
    setting.wait_for_states("stopped", "stopped")
    assert program.terminate() == 0, program.log()


@case("a script that cannot be run ends the poller, and its item is not lost")
def not_runnable(scene):
    setting = Setting(scene, None, "--lease-ttl", "5s")
    session = setting.session()
    for path in ("/nonexistent/script", "/etc/passwd"):
        program = setting.poll("--on-work", path)
        assert program.wait() == 1, program.log()
        assert "not runnable" in program.log() and path in program.log(), program.log()
    program = setting.on_work(f"exec {WORKER}")
    setting.plane.finished(session)
    assert program.terminate() == 0, program.log()


@case("the next item does not wait for the worker of the one before")
def two_at_once(scene):
    setting = Setting(scene)
    program = setting.on_work(
        f'touch "$ANTHROPIC_SESSION_ID"; (while [ ! -e go ]; do sleep 0.05; done; exec {WORKER}) &')
    sessions = [setting.session() for _ in range(3)]
    for session in sessions:
        setting.wait_for_file(session)
    setting.path("go").touch()
    for session in sessions:
        setting.plane.finished(session)
    setting.wait_for_states("stopped", "stopped", "stopped")
    assert program.terminate() == 0, program.log()


@case("a worker that dies is replaced when its lease has run out")
def dead_worker(scene):
    setting = Setting(scene, {"default": {"steps": [bash(
        "[ -e second ] || { touch first; sleep 1000; }; echo survived", "^survived$")]}},
        "--lease-ttl", "5s")
    program = setting.on_work(f"""if [ -e tried ]; then touch second; exec {WORKER}; fi
touch tried; {WORKER} & echo $! > pid.new; mv pid.new pid; wait $!; sleep 1000""")
    session = setting.session()
    setting.wait_for_file("first")
    says(program, "a worker has taken over")
    os.kill(int(setting.path("pid").read_text()), signal.SIGKILL)
    says(program, "has lost it")
    setting.plane.finished(session)
    setting.wait_for_states("stopped")
    assert program.terminate() == 0, program.log()


@case("SIGTERM reaches the script and what it runs; a worker in the background is left alone")
def shutdown(scene):
    setting = Setting(scene, {"default": {"steps": [
        bash("touch started; while [ ! -e go ]; do sleep 0.05; done; echo done", "^done$")]}})
    program = setting.on_work(f"setsid {WORKER} > /dev/null 2>&1 &")
    session = setting.session()
    setting.wait_for_file("started")
    says(program, "ended here: handed over")
    assert program.terminate() == 0, program.log()
    setting.path("go").touch()
    setting.plane.finished(session)
    setting.wait_for_states("stopped")


@case("SIGTERM ends a script that runs, a second one does not wait for it")
def impatient(scene):
    setting = Setting(scene)
    program = setting.on_work("trap 'touch asked' TERM; touch up; while true; do sleep 0.1; done")
    setting.session()
    setting.wait_for_file("up")
    program.process.send_signal(signal.SIGTERM)
    setting.wait_for_file("asked")
    assert program.process.poll() is None
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 0, program.log()
    assert setting.plane.work_states(setting.environment_id) == ["starting"], "left to the queue"


@case("holt serve gives the items of an environment to its script")
def serve(scene):
    needs_root()
    setting = Setting(scene)
    text = (f"id -u > user; grep NoNewPrivs /proc/self/status > privileges; "
            f"{HOLT} worker run --max-idle 100ms --workdir {setting.directory} &")
    journal = scene.directory / "journal"
    daemon = scene.serve(setting.plane, setting.environment_id, setting.key, "--on-work",
                         setting.script(text), "--journal", str(journal), "--max-sessions", "2")
    sessions = [setting.session() for _ in range(4)]
    for session in sessions:
        setting.plane.finished(session)
    setting.wait_for_states(*["stopped"] * 4)
    assert setting.path("user").read_text().strip() != "0"
    assert setting.path("privileges").read_text().split() == ["NoNewPrivs:", "1"]
    says(daemon, "ended here")
    assert daemon.terminate() == 0, daemon.log()
    events = [json.loads(line)["event"] for line in journal.read_text().splitlines()]
    assert events.count("session_claimed") == events.count("session_ended") == 4, events


@case("holt serve makes a claim again also when only webhooks tell it of work")
def serve_resting(scene):
    needs_root()
    setting = Setting(scene, None, "--lease-ttl", "5s")
    secret = scene.directory / "secret"
    secret.write_text("whsec_" + base64.b64encode(bytes(32)).decode())
    secret.chmod(0o644)
    session = setting.session()
    daemon = scene.serve(
        setting.plane, setting.environment_id, setting.key, "--webhook-listen", "127.0.0.1:0",
        "--webhook-secret-file", str(secret), "--poll", "never", "--on-work", setting.script(
            f"(while [ ! -e go ]; do sleep 0.05; done; exec {WORKER}) &"))
    says(daemon, "again: nobody has taken it over yet")
    setting.path("go").touch()
    setting.plane.finished(session)
    setting.wait_for_states("stopped")
    assert daemon.terminate() == 0, daemon.log()


run()
