#!/usr/bin/env python3
"""Wrong command lines, wrong keys, hosts that cannot, peers that talk nonsense.

When one of these fails, somebody's first minute with holt is spent guessing, or one bad answer from
the control plane ends a daemon that serves fifty sessions.
"""
import http.server
import json
import os
import socket
import subprocess
import threading

from harness import HOLT, Scene, case, needs_root, run, wait_until


def holt(*arguments, environment=None):
    return subprocess.run([HOLT, *arguments], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL,
                          env={"PATH": os.environ["PATH"], **(environment or {})})


def check_usage(arguments, word, environment=None):
    """Exit code 2, nothing on stdout, one line on stderr that names the trouble."""
    done = holt(*arguments, environment=environment)
    assert done.returncode == 2, f"{arguments}: exit code {done.returncode}: {done.stderr}"
    assert done.stdout == "", f"{arguments}: stdout {done.stdout!r}"
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"{arguments}: stderr {done.stderr!r}"
    assert word in lines[0], f"{arguments}: {lines[0]!r} does not say {word!r}"


KEY = {"ANTHROPIC_ENVIRONMENT_KEY": "sk-ant-oat01-x"}
USAGE = [
    (["nosuch"], "nosuch", None),
    (["emulate", "--nosuch"], "--nosuch", None),
    (["emulate", "--listen", "nonsense"], "nonsense", None),
    (["emulate", "--lease-ttl", "x"], "x", None),
    (["emulate", "--script", "/nonexistent.json"], "/nonexistent.json", None),
    (["serve", "--nosuch"], "--nosuch", KEY),
    (["serve"], "environment", None),
    (["serve", "--environment-id", "env_1"], "KEY", None),
    (["serve", "--environment-id", "env_1", "--max-idle", "soon"], "soon", KEY),
    (["serve", "--environment-id", "env_1", "--user", "nobody"], "nobody", KEY),
    (["serve", "--environment-id", "env_1", "--max-sessions", "0"], "0", KEY),
    (["serve", "--environment-id", "env_1", "--base-url", "ftp://x"], "ftp://x", KEY),
    (["worker", "run"], "session", None),
    (["worker", "run", "--nosuch"], "--nosuch", None),
    (["session"], "prompt", None),
    (["session", "hi"], "ANTHROPIC_API_KEY", None),
    (["session", "hi"], "environment", {"ANTHROPIC_API_KEY": "k"}),
    (["session", "--timeout", "never", "hi"], "never", {"ANTHROPIC_API_KEY": "k"}),
    (["demo", "--user", "me"], "me", None),
    (["demo", "extra"], "extra", None),
]


@case("a wrong command line is one clear line and exit code 2")
def usage(_):
    for arguments, word, environment in USAGE:
        check_usage(arguments, word, environment)


@case("every command explains itself with --help")
def helps(_):
    overview = holt("--help")
    assert overview.returncode == 0
    for name in ("serve", "worker run", "emulate", "session", "demo"):
        assert name in overview.stdout, name
        done = holt(*name.split(), "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"usage: holt {name}"), name


@case("a script that is wrong is refused with the place of the mistake")
def bad_scripts(scene):
    for text, word in [("{", "JSON"), ('{"steps":[{"nosuch":1}]}', "step"),
                       ('{"steps":[{"calls":[{"input":{}}]}]}', "name"),
                       ('{"scripts":{"a":{"steps":5}}}', "steps")]:
        path = scene.directory / "script.json"
        path.write_text(text)
        check_usage(["emulate", "--script", str(path)], word)


@case("a wrong environment key ends the daemon with a line that says so")
def wrong_key(scene):
    needs_root()
    plane = scene.emulator()
    environment_id, _ = plane.environment()
    daemon = scene.serve(plane, environment_id, "sk-ant-oat01-wrong", wait=False)
    assert daemon.wait() == 1
    assert "401" in daemon.log() and "key" in daemon.log(), daemon.log()
    assert "sk-ant-oat01-wrong" not in daemon.log()


@case("an unreachable control plane is retried, and SIGTERM still ends the daemon cleanly")
def unreachable(scene):
    needs_root()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        daemon = scene.start("serve", [
            "serve", "--environment-id", "env_1", "--base-url", f"http://127.0.0.1:{port}",
            "--state-dir", str(scene.directory / "state")], KEY)
        wait_until(lambda: "127.0.0.1" in daemon.log() and "warn" in daemon.log(),
                   "a warning about the control plane")
    assert daemon.terminate() == 0, daemon.log()


class Nonsense(http.server.BaseHTTPRequestHandler):
    """Answers every poll with the next body of a list, then with an empty queue."""
    protocol_version = "HTTP/1.1"
    bodies = []
    polls = 0

    def do_GET(self):
        cls = type(self)
        body = cls.bodies[cls.polls] if cls.polls < len(cls.bodies) else b"null"
        cls.polls += 1
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@case("malformed answers to a poll are survived")
def malformed_poll(scene):
    needs_root()
    Nonsense.bodies = [b"{", b'"work"', json.dumps({"type": "work", "id": 5, "data": []}).encode(),
                       b"[" * 100000]
    Nonsense.polls = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nonsense)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        daemon = scene.start("serve", [
            "serve", "--environment-id", "env_1", "--base-url",
            f"http://127.0.0.1:{server.server_port}", "--state-dir",
            str(scene.directory / "state"), "--poll-interval", "10ms"], KEY)
        wait_until(lambda: Nonsense.polls > len(Nonsense.bodies) or daemon.process.poll() is not None,
                   "a poll after the last malformed answer", 120)
        assert daemon.process.poll() is None, daemon.log()
        assert daemon.terminate() == 0, daemon.log()
    finally:
        server.shutdown()
        server.server_close()


@case("a state directory that cannot be made ends the daemon with its name")
def bad_state_directory(scene):
    needs_root()
    blocker = scene.directory / "file"
    blocker.write_text("")
    state = str(blocker / "state")
    daemon = scene.start("serve", ["serve", "--environment-id", "env_1", "--base-url",
                                   "http://127.0.0.1:9", "--state-dir", state], KEY)
    assert daemon.wait() == 1
    assert state in daemon.log(), daemon.log()


@case("a host without user namespaces is told what is missing")
def no_user_namespaces(scene):
    needs_root()
    command = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    daemon = scene.start("serve", ["serve", "--environment-id", "env_1", "--base-url",
                                   "http://127.0.0.1:9", "--state-dir",
                                   str(scene.directory / "state")], KEY,
                         prefix=("unshare", "--user", "--map-root-user", "sh", "-c", command, "sh"))
    assert daemon.wait() == 1, daemon.log()
    assert "user namespace" in daemon.log(), daemon.log()


def serve_script(scene, steps):
    plane = scene.emulator({"default": {"steps": steps}})
    environment_id, key = plane.environment()
    daemon = scene.serve(plane, environment_id, key, "--max-idle", "1s")
    session = plane.session(environment_id)
    plane.finished(session)
    wait_until(lambda: plane.work_states(environment_id) == ["stopped"], "the item to be stopped")
    assert daemon.terminate() == 0, daemon.log()
    return daemon


def bash(command, expected):
    return {"calls": [{"name": "bash", "input": {"command": command},
                       "expect": {"is_error": False, "text": expected}}]}


@case("unknown events and tools are left alone and the session goes on")
def unknown_events(scene):
    needs_root()
    serve_script(scene, [
        {"emit": {"type": "agent.dreaming", "id": "sevt_unknown", "depth": {"a": [1, 2]}}},
        {"emit": {"type": "session.status_wobbling"}},
        bash("echo one", "^one$"),
        {"calls": [{"name": "teleport", "input": {}, "answered": False},
                   {"name": "bash", "input": {"command": "echo two"},
                    "expect": {"is_error": False, "text": "^two$"}}]},
    ])


@case("malformed events on the stream are survived")
def malformed_stream(scene):
    needs_root()
    serve_script(scene, [
        bash("echo one", "^one$"),
        {"raw_sse": "event: agent.tool_use\ndata: {\"type\":\"agent.tool_use\",\n\n"},
        {"raw_sse": "data: [1,2,3]\n\n"},
        {"raw_sse": "event: agent.tool_use\ndata: {\"type\":\"agent.tool_use\",\"id\":7,\"name\":[]}\n\n"},
        {"raw_sse": ":::\n\u0000\r\r\nretry: x\n\n"},
        bash("echo two", "^two$"),
    ])


@case("an event of 10 MB does not end the session or the daemon")
def huge_event(scene):
    needs_root()
    serve_script(scene, [
        bash("echo one", "^one$"),
        {"emit": {"type": "agent.message",
                  "content": [{"type": "text", "text": "x" * (10 * 1024 * 1024)}]}},
        bash("echo two", "^two$"),
    ])


run()
