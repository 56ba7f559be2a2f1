#!/usr/bin/env python3
"""The configuration file of `holt serve`: several environments, and a change while it runs.

When one of these fails, an operator's file does something else than it says, or a mistake in one
environment ends the others.
"""
import base64
import hashlib
import hmac
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

from harness import HOLT, case, needs_root, run, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
GREETING = {"default": {"steps": [{"calls": [
    {"name": "bash", "input": {"command": "echo hello"},
     "expect": {"is_error": False, "text": "hello"}}]}]}}


def holt(*arguments, environment=None):
    return subprocess.run([HOLT, *arguments], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL,
                          env={"PATH": os.environ["PATH"], **(environment or {})})


def write(path, text):
    """In place of what was there, in one step, as editors and deployments do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.rename(path)


class Served:
    """A control plane with one environment, and its part of a configuration file."""

    def __init__(self, scene, key=None):
        self.plane = scene.emulator(GREETING)
        self.id, real_key = self.plane.environment()
        self.key_file = scene.directory / f"{self.id}.key"
        self.key_file.write_text((key or real_key) + "\n")
        self.key_file.chmod(0o600)

    def table(self, *lines):
        return "\n".join(["[[environments]]", f'id = "{self.id}"', f'base_url = "{self.plane.url}"',
                          f'key_file = "{self.key_file}"', *lines, ""])


def general(scene, *lines):
    return "\n".join([f'state_dir = "{scene.directory}/state"',
                      f'ready_file = "{scene.directory}/ready"', *lines, ""])


def serve(scene, text, *options, wait=True):
    path = scene.directory / "holt.toml"
    write(path, text)
    program = scene.start("serve", ["serve", "--config", str(path), *options])
    if wait:
        scene.ready_line(program, scene.directory / "ready")
    return program, path


@case("two environments of two control planes are served by one daemon")
def two(scene):
    needs_root()
    both = [Served(scene), Served(scene)]
    daemon, _ = serve(scene, general(scene) + both[0].table() + both[1].table('max_idle = "100ms"'))
    sessions = [(one, one.plane.session(one.id)) for one in both for _ in range(3)]
    for one, session in sessions:
        one.plane.finished(session)
    assert daemon.terminate() == 0, daemon.log()


@case("one slot for the whole daemon serves both environments in turn")
def one_slot(scene):
    needs_root()
    both = [Served(scene), Served(scene)]
    lines = ["max_sessions = 1", "max_starting = 1", 'max_idle = "50ms"']
    daemon, _ = serve(scene, general(scene, *lines) + both[0].table() + both[1].table(),
                      "--journal", str(scene.directory / "journal"))
    sessions = [(one, one.plane.session(one.id)) for _ in range(3) for one in both]
    for one, session in sessions:
        one.plane.finished(session)
    assert daemon.terminate() == 0, daemon.log()
    live = most = 0
    for line in (scene.directory / "journal").read_text().splitlines():
        live += ('"session_claimed"' in line) - ('"session_ended"' in line)
        most = max(most, live)
    assert most == 1, f"{most} sessions at once"


@case("an environment with a wrong key ends alone; the daemon ends with the last one")
def wrong_key(scene):
    needs_root()
    good, bad = Served(scene), Served(scene, "sk-ant-oat01-wrong")
    daemon, _ = serve(scene, general(scene) + bad.table() + good.table())
    line = f"environment {bad.id} is not served any more"
    wait_until(lambda: line in daemon.log(), "the wrong key to be said")
    good.plane.finished(good.plane.session(good.id))
    assert "401" in daemon.log() and "1 of 2 are" in daemon.log(), daemon.log()
    assert "sk-ant-oat01-wrong" not in daemon.log()
    assert daemon.terminate() == 0, daemon.log()
    (scene.directory / "ready").unlink()
    both_bad = general(scene) + bad.table() + Served(scene, "sk-ant-oat01-false").table()
    daemon, _ = serve(scene, both_bad, wait=False)
    assert daemon.wait() == 1, daemon.log()


@case("a bad file is refused with its line before anything is started")
def bad_file(scene):
    path = scene.directory / "holt.toml"
    write(path, "max_sesions = 3\n")
    done = holt("serve", "--config", str(path))
    assert done.returncode == 2, done
    assert f'{path}:1: unknown key "max_sesions": did you mean "max_sessions"?' in done.stderr
    assert holt("serve", "--config", str(scene.directory / "none")).returncode == 2


@case("config check and config show say what a file means")
def check(scene):
    path = scene.directory / "holt.toml"
    write(path, 'max_sessions = 5\n[[environments]]\nid = "env_1"\nkey_file = "/k"\n')
    done = holt("config", "check", str(path))
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.splitlines()[0] == f"{path}: fine"
    assert "1 environment, up to 5 sessions" in done.stdout
    shown = holt("config", "show", str(path), environment={"ANTHROPIC_ENVIRONMENT_KEY": "sk-1"})
    assert shown.returncode == 0 and "sk-1" not in shown.stdout + shown.stderr, shown
    assert "# key: (set)" in shown.stdout and "max_sessions = 5 " in shown.stdout, shown
    write(path, "max_sessions = 0\n[logs]\n")
    done = holt("config", "check", str(path))
    assert done.returncode == 1 and done.stdout == "", done
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [f"{path}:1", f"{path}:2"]
    assert holt("config", "show", str(path)).returncode == 1
    for arguments in (["check", "a", "b"], ["check", "--nosuch"], ["show", "a", "b"]):
        assert holt("config", *arguments).returncode == 2, arguments


def reload(daemon, path, text, expected):
    write(path, text)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: expected in daemon.log(), f"the log to say {expected!r}")


@case("SIGHUP changes what can change, and says what cannot")
def reload_changes(scene):
    needs_root()
    one = Served(scene)
    lines = ["max_sessions = 1", 'max_idle = "1h"']
    daemon, path = serve(scene, general(scene, *lines) + one.table(), "--drain", "5s")
    one.plane.finished(one.plane.session(one.id))
    waiting = one.plane.session(one.id)  # no slot: the first session idles for an hour
    lines = ["max_sessions = 2", 'max_idle = "50ms"', 'drain = "1s"', 'read_media = false',
             "[log]", 'format = "json"']
    reload(daemon, path, general(scene, *lines) + one.table('worker_id = "w"') +
           Served(scene).table(), "was read again")
    one.plane.finished(waiting)
    log = daemon.log()
    assert f"{path} was read again; changed: max_sessions, max_idle, log.format" in log, log
    for words in ("read_media has changed: it takes effect when holt serve starts again",
                  f"environments.worker_id of {one.id} has changed: it takes effect when",
                  "is new: it is served when holt serve starts again"):
        assert words in log, words
    assert "drain" not in log, "the command line comes first"
    assert '"room":"orchestrator"' in log, "the form of the log did not change"
    assert daemon.terminate() == 0, daemon.log()


def deliver(url, key):
    """The status of a genuine delivery that is signed with `key`."""
    body = b'{"type":"event","id":"e","data":{"type":"session.created","id":"sesn_1"}}'
    stamp = str(int(time.time()))
    mac = hmac.new(key, b"msg_1." + stamp.encode() + b"." + body, hashlib.sha256).digest()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {
                "webhook-id": "msg_1", "webhook-timestamp": stamp,
                "webhook-signature": "v1," + base64.b64encode(mac).decode()}), timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        return answer.code


@case("SIGHUP takes new webhook secrets, and keeps the old ones when one cannot be read")
def reload_secrets(scene):
    needs_root()
    one = Served(scene)
    keys = [b"holt-test-signing-key-0123456789", b"holt-another-key-of-the-rotation"]
    paths = [scene.directory / f"secret-{number}" for number in range(2)]
    for path, key in zip(paths, keys):
        path.write_text("whsec_" + base64.b64encode(key).decode() + "\n")

    def text(*files):
        listed = ", ".join(f'"{file}"' for file in files)
        return (general(scene) + f'[webhook]\nlisten = "127.0.0.1:0"\nsecret_files = [{listed}]\n' +
                one.table())

    daemon, path = serve(scene, text(paths[0]))
    url = (scene.directory / "ready").read_text().strip()
    assert [deliver(url, key) for key in keys] == [200, 401]
    reload(daemon, path, text(paths[1]), "changed: webhook.secret_files")
    assert [deliver(url, key) for key in keys] == [401, 200]
    paths[0].chmod(0o600)  # root's own
    reload(daemon, path, text(*paths), "the webhook secrets stay as they were")
    assert [deliver(url, key) for key in keys] == [401, 200]
    assert daemon.terminate() == 0, daemon.log()


@case("a bad file on SIGHUP changes nothing and every mistake is said")
def reload_bad(scene):
    needs_root()
    one = Served(scene)
    good = general(scene) + one.table()
    daemon, path = serve(scene, good)
    reload(daemon, path, 'max_sessions = 0\nlog.level = "loud"\n', "nothing was changed")
    assert f"{path}:1: max_sessions takes" in daemon.log(), daemon.log()
    assert f"{path}:2: log.level takes" in daemon.log(), daemon.log()
    path.unlink()
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "cannot be read: No such file" in daemon.log(), "the missing file")
    reload(daemon, path, good, "was read again; changed: nothing")
    path.chmod(0o600)  # root's own: the daemon gave that up
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "cannot be read: Permission denied" in daemon.log(), "the unreadable file")
    one.plane.finished(one.plane.session(one.id))
    assert daemon.terminate() == 0, daemon.log()


@case("SIGHUP without a file is only a warning")
def reload_without(scene):
    needs_root()
    one = Served(scene)
    daemon = scene.serve(one.plane, one.id, one.key_file.read_text().strip())
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "there is no configuration file" in daemon.log(), "the warning")
    one.plane.finished(one.plane.session(one.id))
    assert daemon.terminate() == 0, daemon.log()


run()
