"""What the end-to-end tests share: TAP output, programs started and ended by id, a small API client.

A test file calls `case(name)(function)` for each case and `run()` at the end. The built program is
named by HOLT. Nothing here sleeps for a fixed time: it waits for a condition, with a generous bound.
"""
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

HOLT = os.path.abspath(os.environ.get("HOLT", "build/release/src/cmd/holt"))
WAIT_SECONDS = 60

_cases = []


class Skip(Exception):
    """Raised by a case that this machine cannot run; the message says what it lacks."""


def case(name):
    def register(function):
        _cases.append((name, function))
        return function
    return register


def run():
    print(f"1..{len(_cases)}", flush=True)
    failed = False
    for number, (name, function) in enumerate(_cases, 1):
        with Scene() as scene:
            try:
                function(scene)
                print(f"ok {number} - {name}", flush=True)
            except Skip as reason:
                print(f"ok {number} - {name} # SKIP {reason}", flush=True)
            except Exception:
                failed = True
                print(f"not ok {number} - {name}", flush=True)
                for line in (traceback.format_exc() + scene.logs()).splitlines():
                    print(f"# {line}", flush=True)
    sys.exit(1 if failed else 0)


def wait_until(condition, what, seconds=WAIT_SECONDS):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s for {what}")


def needs_root():
    if os.geteuid() != 0:
        raise Skip("making sandboxes needs root")


class Program:
    """A started holt command; its output goes to a file."""

    def __init__(self, scene, name, arguments, environment, prefix=(), pass_fds=()):
        self.name = name
        self.log_path = scene.directory / f"{name}-{len(scene.programs)}.log"
        base = {"PATH": os.environ["PATH"]}
        for key in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "HOLT_FAULT"):
            if key in os.environ:
                base[key] = os.environ[key]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*prefix, HOLT, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**base, **environment}, cwd=scene.directory,
                pass_fds=pass_fds)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait(self, seconds=WAIT_SECONDS):
        return self.process.wait(seconds)

    def terminate(self, seconds=WAIT_SECONDS):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)


class Scene:
    """A temporary directory, the programs started in it, and their end."""

    def __enter__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holt-test-"))
        self.directory.chmod(0o755)
        self.programs = []
        return self

    def __exit__(self, *_):
        for program in reversed(self.programs):
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGTERM)
                try:
                    program.wait(45)
                except subprocess.TimeoutExpired:
                    program.process.kill()
                    program.wait()
        for sandboxes in self.directory.glob("*/sandboxes"):
            if any(sandboxes.iterdir()):
                self.sweep(sandboxes.parent)
        shutil.rmtree(self.directory, ignore_errors=True)

    def sweep(self, state):
        """Ends the sandboxes that daemons of this state directory kept."""
        ready = self.directory / "sweep.ready"
        ready.unlink(missing_ok=True)
        program = self.start("sweep", [
            "serve", "--environment-id", "env_none", "--base-url", "http://127.0.0.1:9",
            "--state-dir", str(state), "--ready-file", str(ready), "--keep", "0"],
            {"ANTHROPIC_ENVIRONMENT_KEY": "sk-none"})
        self.ready_line(program, ready)
        program.terminate()

    def logs(self):
        return "".join(f"\n-- {program.name}\n{program.log()[-6000:]}" for program in self.programs)

    def start(self, name, arguments, environment=None, prefix=(), pass_fds=()):
        program = Program(self, name, arguments, environment or {}, prefix, pass_fds)
        self.programs.append(program)
        return program

    def ready_line(self, program, path):
        def look():
            if path.exists():
                return path.read_text().strip() or True
            if program.process.poll() is not None:
                raise AssertionError(f"{program.name} ended early:\n{program.log()}")
            return None
        return wait_until(look, f"{program.name} to be ready")

    def emulator(self, scripts=None, *more):
        """Starts `holt emulate`; returns its ControlPlane."""
        ready = self.directory / f"emulator-{len(self.programs)}.ready"
        arguments = ["emulate", "--api-key", "sk-ant-test", "--ready-file", str(ready), *more]
        if scripts is not None:
            path = self.directory / "scripts.json"
            path.write_text(json.dumps({"scripts": scripts}))
            arguments += ["--script", str(path)]
        program = self.start("emulator", arguments)
        return ControlPlane(self.ready_line(program, ready), "sk-ant-test")

    def serve(self, plane, environment_id, key, *more, wait=True):
        """Starts `holt serve` for an environment of the plane."""
        number = len(self.programs)
        ready = self.directory / f"serve-{number}.ready"
        program = self.start(
            "serve",
            ["serve", "--environment-id", environment_id, "--base-url", plane.url, "--state-dir",
             str(self.directory / f"state-{number}"), "--ready-file", str(ready), "--keep", "0",
             *more],
            {"ANTHROPIC_ENVIRONMENT_KEY": key})
        if wait:
            self.ready_line(program, ready)
        return program


class ControlPlane:
    """The application's side of the API, as small as the tests need it."""

    def __init__(self, url, api_key):
        self.url = url
        self.api_key = api_key

    def request(self, method, path, body=None, expect=200):
        parts = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=WAIT_SECONDS)
        headers = {"x-api-key": self.api_key, "content-type": "application/json",
                   "anthropic-version": "2026-10-21",
                   "anthropic-beta": "managed-agents-2026-04-01"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == expect, f"{method} {path}: {answer.status} {text[:500]!r}"
        return json.loads(text)

    def environment(self):
        """A new self-hosted environment: (id, key)."""
        body = {"name": "test", "config": {"type": "self_hosted"}}
        created = self.request("POST", "/v1/environments", body)
        key = self.request("POST", f"/emulator/environments/{created['id']}/keys")
        return created["id"], key["key"]

    def session(self, environment_id, script=None, prompt="go"):
        """A new session with its first message sent; returns its id."""
        agent = self.request("POST", "/v1/agents", {
            "name": "test", "model": "claude-sonnet-5-5",
            "tools": [{"type": "agent_toolset_20260401"}]})
        body = {"agent": agent["id"], "environment_id": environment_id}
        if script is not None:
            body["metadata"] = {"script": script}
        session = self.request("POST", "/v1/sessions", body)
        self.message(session["id"], prompt)
        return session["id"]

    def message(self, session_id, text):
        self.request("POST", f"/v1/sessions/{session_id}/events", {"events": [
            {"type": "user.message", "content": [{"type": "text", "text": text}]}]})

    def verdict(self, session_id):
        return self.request("GET", f"/emulator/sessions/{session_id}")

    def finished(self, session_id, seconds=WAIT_SECONDS):
        """Waits for the session's script to end; fails on a missed expectation."""
        def look():
            found = self.verdict(session_id)
            assert not found["failures"], found["failures"]
            return found if found["is_finished"] else None
        return wait_until(look, f"session {session_id} to finish", seconds)

    def work_states(self, environment_id):
        listed = self.request("GET", f"/v1/environments/{environment_id}/work")
        return [item["state"] for item in listed["data"]]
