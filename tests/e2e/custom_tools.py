#!/usr/bin/env python3
"""Custom tools of `holt serve`: programs of the operator, in the sandbox and on the host.

When one of these fails, a custom tool is not answered, sees what it must not, or outlives its call.
"""
import json
import os
import signal
import subprocess

from harness import HOLT, case, needs_root, run, wait_until


def custom(name, given, expected=None, is_error=False, **more):
    call = {"name": name, "custom": True, "input": given, **more}
    if expected is not None:
        call["expect"] = {"is_error": is_error, "text": expected}
    return {"calls": [call]}


def bash(command, expected):
    return {"calls": [{"name": "bash", "input": {"command": command},
                       "expect": {"is_error": False, "text": expected}}]}


def tool(scene, name, script, where, **more):
    """A [tools.NAME] table whose command is a shell script."""
    lines = [f"[tools.{name}]", f"command = {json.dumps(['/bin/sh', '-c', script])}",
             f'where = "{where}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    return "\n".join(lines) + "\n"


def serve(scene, plane, environment_id, key, tools, *more):
    path = scene.directory / "holt.toml"
    path.write_text("".join(tools))
    return scene.serve(plane, environment_id, key, "--config", str(path), *more)


def play(scene, steps, tools, *more):
    needs_root()
    plane = scene.emulator({"default": {"steps": steps}})
    environment_id, key = plane.environment()
    daemon = serve(scene, plane, environment_id, key, tools, *more)
    session = plane.session(environment_id)
    return plane, session, plane.finished(session), daemon


@case("in the sandbox: input in, output out, among the agent's files")
def in_sandbox(scene):
    play(scene, [
        bash("echo 7 > number", ""),
        custom("add", {"to": [1, "ü"]}, r'^\{"to":\[1,"ü"\]\} 7 /workspace add sevt_\w+ sesn_\w+$'),
        custom("fail", {}, "^broken$", is_error=True),
        bash("cat made", "^by the tool$"),
    ], [
        tool(scene, "add", 'echo "$(cat) $(cat number) $PWD $HOLT_TOOL_NAME $HOLT_TOOL_USE_ID '
             '$HOLT_SESSION_ID"; echo by the tool > made', "sandbox"),
        tool(scene, "fail", "echo out; echo broken >&2; exit 3", "sandbox"),
    ])


@case("on the host: beside the daemon, with no key, no privilege and none of its files")
def on_host(scene):
    play(scene, [
        custom("look", {"city": "Brno"},
               r'^\{"city":"Brno"\}\nuid [1-9]\d*\nno key\nfds 0 1 2 3\nat /\nCapEff:\t0{16}$'),
        bash("cat /proc/net/unix >/dev/null; echo inside", "^inside$"),
    ], [tool(scene, "look", 'cat; echo; echo "uid $(id -u)"; env | grep -q -i anthropic || echo no key; '
             "echo fds $(ls /proc/self/fd); echo at $PWD; grep CapEff /proc/self/status", "host")])


@case("a tool that is not declared is left to its owner, and a schema is kept")
def schema(scene):
    path = scene.directory / "schema.json"
    path.write_text(json.dumps({"type": "object", "required": ["city"],
                                "properties": {"city": {"type": "string"}}}))
    scene.directory.chmod(0o755)
    _, _, found, _ = play(scene, [
        custom("other", {}, answered="never"),
        custom("weather", {}, "^weather: city is required$", is_error=True),
        custom("weather", {"city": 7}, "^weather: city must be of type string$", is_error=True),
        custom("weather", {"city": "Brno"}, "^sunny$"),
        {"calls": [{"name": "weather", "input": {"city": "Brno"}, "answered": "never"}]},
        bash("echo on", "^on$"),
    ], [tool(scene, "weather", "echo sunny", "host", schema=str(path))])
    assert [call["results"] for call in found["calls"]] == [0, 1, 1, 1, 0, 1], found["calls"]


@case("time is bounded, in both places, and nothing is left running")
def timeouts(scene):
    mark = f"987{os.getpid()}"
    play(scene, [
        custom("slow_inside", {}, r"^slow_inside: timed out after 300 ms\nearly$", is_error=True),
        custom("slow_outside", {}, r"^slow_outside: timed out after 300 ms\nearly$", is_error=True),
        bash(f"sleep 0.2; grep -l -z {mark} /proc/[0-9]*/cmdline 2>/dev/null | grep -v /$$/ | "
             "grep -c sleep || echo none", "none"),
    ], [tool(scene, f"slow_{place}", f"echo early; sleep {mark} & sleep {mark}", where,
             timeout="300ms") for place, where in (("inside", "sandbox"), ("outside", "host"))])
    left = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, text=True)
    assert left.stdout == "", left.stdout


@case("an interrupt ends a tool, in both places")
def interrupts(scene):
    steps = []
    for name in ("inside", "outside"):
        steps += [custom(name, {}, answered=False), {"wait_ms": 1500}, {"interrupt": True},
                  bash(f"echo after {name}", f"^after {name}$")]
    _, _, found, _ = play(scene, steps, [
        tool(scene, "inside", "exec sleep 1000", "sandbox"),
        tool(scene, "outside", "exec sleep 1000", "host")])
    assert [call["results"] for call in found["calls"]] == [1, 1, 1, 1], found["calls"]
    ended = [result for result in found["results"] if result["name"] == "outside"]
    assert ended[0]["is_error"] and "interrupted" in ended[0]["content"][0]["text"], ended


@case("kill -9 in the middle: a tool in the sandbox goes on, one on the host is never run twice")
def killed(scene):
    needs_root()
    counter = scene.directory / "counter"
    counter.mkdir()
    counter.chmod(0o777)
    plane = scene.emulator({
        "default": {"steps": [custom("inside", {}, "^went 1$")]},
        "host": {"steps": [custom("outside", {}, "restarted while this call ran", is_error=True)]},
    })
    tools = [
        tool(scene, "inside", "echo x >> runs; touch started; sleep 2; echo went $(wc -l < runs)", "sandbox"),
        tool(scene, "outside", f"echo x >> {counter}/runs; exec sleep 1000", "host")]
    environment_id, key = plane.environment()
    state = scene.directory / "state"
    daemon = serve(scene, plane, environment_id, key, tools, "--state-dir", str(state), "--keep", "10m")
    sessions = [plane.session(environment_id), plane.session(environment_id, "host")]
    wait_until(lambda: (counter / "runs").exists(), "the tool on the host")
    wait_until(lambda: list(state.glob("**/started")), "the tool in the sandbox")
    daemon.process.send_signal(signal.SIGKILL)
    daemon.wait()
    serve(scene, plane, environment_id, key, tools, "--state-dir", str(state), "--keep", "10m")
    for session in sessions:
        plane.finished(session)
    assert (counter / "runs").read_text() == "x\n"


@case("a bad table or schema is told before anything is claimed")
def refused(scene):
    needs_root()
    path = scene.directory / "holt.toml"
    for text, expected in (
            ("[tools.x]\n", "the tool x has no command"),
            ("[tools.x]\ncommand = []\n", "tools.x.command takes"),
            ("[tools.x]\ncommand = \"ls\"\n", "tools.x.command takes"),
            ("[tools.x]\ncommand = [\"/bin/ls\"]\nwhere = \"moon\"\n", "tools.x.where takes"),
            ("[tools.x]\ncommand = [\"/bin/ls\"]\ntimeuot = \"1s\"\n", "did you mean"),
            ("[tools.x]\ncommand = [\"/bin/ls\"]\ntimeout = 0\n", "tools.x.timeout takes"),
            ("[tools.\"x.y\"]\ncommand = [\"/bin/ls\"]\n", "a tool's name is"),
            ("tools = 3\n", "[tools.NAME]")):
        path.write_text(text)
        done = subprocess.run([HOLT, "config", "check", str(path)], capture_output=True, text=True)
        assert done.returncode != 0 and expected in done.stdout + done.stderr, (text, done)
    schema = scene.directory / "schema.json"
    for content, expected in ((None, "No such file"), ("{", "schema.json"), ("[]", "is an object")):
        if content is not None:
            schema.write_text(content)
        path.write_text(tool(scene, "x", "ls", "host", schema=str(schema)))
        done = subprocess.run([HOLT, "serve", "--config", str(path), "--environment-id", "env_1",
                               "--state-dir", str(scene.directory / "state")],
                              capture_output=True, text=True, timeout=60,
                              env={**os.environ, "ANTHROPIC_ENVIRONMENT_KEY": "sk-ant-oat01-x"})
        assert done.returncode == 2 and expected in done.stderr, done
        assert "custom tool x" in done.stderr, done


run()
