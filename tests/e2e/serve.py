#!/usr/bin/env python3
"""What a user of `holt serve`, `holt session` and `holt demo` sees, with sandboxes.

When one of these fails, an option does not do what its help says.
"""
import base64
import json
import os
import signal
import subprocess
import zlib

from harness import HOLT, case, needs_root, run, wait_until


def bash(command, expected, is_error=False):
    return {"calls": [{"name": "bash", "input": {"command": command},
                       "expect": {"is_error": is_error, "text": expected}}]}


def read(path):
    return {"calls": [{"name": "read", "input": {"file_path": path}}]}


def played(scene, steps, *options):
    """Plays steps through `holt serve` and returns (plane, session id, daemon)."""
    needs_root()
    plane = scene.emulator({"default": {"steps": steps}})
    environment_id, key = plane.environment()
    daemon = scene.serve(plane, environment_id, key, *options)
    session = plane.session(environment_id)
    plane.finished(session)
    return plane, session, daemon


def png():
    """A PNG of one pixel."""
    def chunk(kind, data):
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0])) +
            chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b""))


def make_files():
    picture = base64.b64encode(png()).decode()
    return bash(f"echo {picture} | base64 -d > p.png; printf '%%PDF-1.4\\n%%%%EOF\\n' > d.pdf", "")


@case("an image is read as an image block and a PDF as a document block")
def media(scene):
    plane, session, _ = played(scene, [make_files(), read("p.png"), read("d.pdf")])
    blocks = [result["content"][0] for result in plane.verdict(session)["results"]]
    assert blocks[1]["type"] == "image", blocks[1]
    assert blocks[1]["source"]["media_type"] == "image/png"
    assert base64.b64decode(blocks[1]["source"]["data"]) == png()
    assert blocks[2]["type"] == "document", blocks[2]
    assert blocks[2]["source"]["media_type"] == "application/pdf"


@case("--read-media off answers text, as the official worker does")
def no_media(scene):
    plane, session, _ = played(scene, [make_files(), read("p.png")], "--read-media", "off")
    blocks = [result["content"][0] for result in plane.verdict(session)["results"]]
    assert blocks[1]["type"] == "text" and "PNG" in blocks[1]["text"], blocks[1]


@case("--user root is root inside, over files that look owned by root")
def as_root(scene):
    played(scene, [
        bash("id -u; stat -c %u:%g /usr/bin/env; touch f; chown 1000:1000 f; stat -c %u:%g f",
             "^0\n0:0\n1000:1000$"),
        bash("read inside outside count < /proc/self/uid_map; echo $inside $count; "
             "test $outside -ge 65536 && echo unprivileged outside",
             "^0 65536\nunprivileged outside$"),
    ])


@case("--user agent is an unprivileged user inside")
def as_agent(scene):
    played(scene, [
        bash("id -u; id -g; echo $HOME; echo $USER", "^1000\n1000\n/home/agent\nagent$"),
        bash("touch /etc/x 2>&1 || echo refused; touch here && echo made", "refused\nmade$"),
        bash("grep CapEff /proc/self/status", "^CapEff:\t0000000000000000$"),
        {"calls": [{"name": "write", "input": {"file_path": "w.txt", "content": "x"},
                    "expect": {"is_error": False, "text": "^wrote 1 bytes to w.txt$"}}]},
        bash("stat -c %u w.txt", "^1000$"),
    ], "--user", "agent")


@case("--memory and --pids hold inside")
def limits(scene):
    played(scene, [
        bash("head -c 200M /dev/zero | tail -c 200M | wc -c; echo survived", "^[^2]*survived$"),
        bash("(for i in $(seq 60); do sleep 2 & done) 2>&1 | grep -c fork", "[1-9]"),
    ], "--memory", "64M", "--pids", "30")


@case("a result that is too large for the control plane is cut, and says where the whole is")
def too_large(scene):
    played(scene, [
        bash("echo the stream is attached", "attached"),
        {"fail_requests": {"path": "events", "status": 413}},
        bash("yes holt | head -c 100000",
             r"holt\n.*\n\[the first 65536 of 99999 bytes: the result was too large for "
             r"the control plane; all of it is in /workspace/.holt/results/\S+\.txt\]$"),
        bash("cat /workspace/.holt/results/*.txt | wc -c", "^99999$"),
    ])


@case("two sessions have nothing in common")
def apart(scene):
    needs_root()
    steps = [bash("test ! -e mine && echo $$ > mine && sleep 0.2 && cat /tmp/* 2>/dev/null; "
                  "touch /tmp/here; ls", "^mine$")]
    plane = scene.emulator({"default": {"steps": steps}})
    environment_id, key = plane.environment()
    scene.serve(plane, environment_id, key)
    for session in [plane.session(environment_id) for _ in range(2)]:
        plane.finished(session)


@case("two daemons on one environment share its sessions, each served once")
def two_daemons(scene):
    needs_root()
    plane = scene.emulator({"default": {"steps": [
        bash("echo x >> count; wc -l < count", "^1$"), bash("sleep 0.1; echo y", "^y$")]}})
    environment_id, key = plane.environment()
    daemons = [scene.serve(plane, environment_id, key, "--max-sessions", "2", "--max-idle", "50ms")
               for _ in range(2)]
    sessions = [plane.session(environment_id) for _ in range(12)]
    for session in sessions:
        assert len(plane.finished(session)["results"]) == 2
    for daemon in daemons:
        assert "claimed as work" in daemon.log(), "one daemon did everything"


@case("the key is taken from a file, and the file need not be readable later")
def key_file(scene):
    needs_root()
    plane = scene.emulator({"default": {"steps": [bash("echo hi", "^hi$")]}})
    environment_id, key = plane.environment()
    path = scene.directory / "key"
    path.write_text(key + "\n")
    path.chmod(0o600)
    ready = scene.directory / "ready"
    daemon = scene.start("serve", [
        "serve", "--environment-id", environment_id, "--base-url", plane.url, "--state-dir",
        str(scene.directory / "state"), "--environment-key-file", str(path), "--ready-file",
        str(ready)])
    scene.ready_line(daemon, ready)
    path.unlink()
    plane.finished(plane.session(environment_id))
    assert daemon.terminate() == 0, daemon.log()


@case("SIGTERM lets a running call finish and be answered")
def drain(scene):
    needs_root()
    plane = scene.emulator({"default": {"steps": [bash("sleep 1; echo finished", "^finished$")]}})
    environment_id, key = plane.environment()
    daemon = scene.serve(plane, environment_id, key, "--log-level", "debug")
    session = plane.session(environment_id)
    wait_until(lambda: "handed over" in daemon.log(), "the call")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.log()
    assert plane.work_states(environment_id) == ["stopped"]


@case("a second signal does not wait for the running call")
def hurry(scene):
    needs_root()
    plane = scene.emulator({"default": {"steps": [bash("sleep 1000", "never")]}})
    environment_id, key = plane.environment()
    daemon = scene.serve(plane, environment_id, key, "--drain", "600s", "--log-level", "debug")
    plane.session(environment_id)
    wait_until(lambda: "handed over" in daemon.log(), "the call")
    daemon.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "Terminated" in daemon.log(), "the first signal to be seen")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.log()
    # The turn is not over: the item is left to whoever comes next.
    assert plane.work_states(environment_id) == ["active"]


@case("a daemon that was killed leaves nothing that the next one does not sweep")
def swept(scene):
    needs_root()
    plane = scene.emulator({"default": {"steps": [bash("sleep 1000", "never")]}})
    environment_id, key = plane.environment()
    state = str(scene.directory / "state")
    first = scene.serve(plane, environment_id, key, "--state-dir", state)
    plane.session(environment_id)
    wait_until(lambda: "ready in" in first.log(), "the sandbox")
    first.process.kill()
    first.wait()
    second = scene.serve(plane, environment_id, key, "--state-dir", state)
    assert second.terminate() == 0, second.log()
    assert os.listdir(f"{state}/sandboxes") == []


@case("holt session streams a session to its end")
def session_command(scene):
    plane, _, _ = played(scene, [{"message": "hello \u001b[31mred"}, bash("echo out", "^out$")])
    environment_id = plane.request("GET", "/v1/environments")["data"][0]["id"]
    environment = {"PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": plane.url,
                   "ANTHROPIC_API_KEY": plane.api_key, "ANTHROPIC_ENVIRONMENT_ID": environment_id}
    done = subprocess.run([HOLT, "session", "do it"], env=environment, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for word in ("running", "hello", "bash", "echo out", "end_turn", "done"):
        assert word in done.stdout, done.stdout
    assert "\u001b" not in done.stdout, "an agent's escape sequence reached the terminal"
    lines = subprocess.run([HOLT, "session", "--json", "do it"], env=environment, timeout=120,
                           capture_output=True, text=True, check=True).stdout.splitlines()
    types = [json.loads(line)["type"] for line in lines]
    assert "agent.tool_use" in types and "user.tool_result" in types, types
    wrong = subprocess.run([HOLT, "session", "x"], env={**environment, "ANTHROPIC_API_KEY": "no"},
                           capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 1 and "401" in wrong.stderr, wrong.stderr


@case("holt demo runs as root and as agent, and fails when an expectation is missed")
def demo(scene):
    needs_root()
    for user in ("root", "agent"):
        done = subprocess.run([HOLT, "demo", "--user", user], capture_output=True, text=True,
                              timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        for word in ("hello.txt", "end_turn", "created in", "MB"):
            assert word in done.stdout, done.stdout
    script = scene.directory / "script.json"
    script.write_text(json.dumps({"steps": [bash("echo a", "^b$")]}))
    done = subprocess.run([HOLT, "demo", "--script", str(script)], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 1 and "expectation" in done.stdout, done.stdout + done.stderr


run()
