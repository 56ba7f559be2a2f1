#!/usr/bin/env python3
"""Skills in a session's sandbox, by `holt serve` and by `holt worker run`.

When one of these fails, an agent does not find its skills, finds them altered, or a bad skill ends
the session.
"""
import http.client
import io
import json
import stat
import tarfile
import urllib.parse
import zipfile

from harness import case, needs_root, run, wait_until

LOOK = "(cd skills && find . -mindepth 1 -printf '%P %m %s %y\\n' | sort); echo end"


def bash(command, expected, is_error=False):
    return {"calls": [{"name": "bash", "input": {"command": command},
                       "expect": {"is_error": is_error, "text": expected}}]}


def make_skills(directory):
    """A folder, a tar, and three that are no good."""
    tree = directory / "folder"
    (tree / "scripts" / "empty").mkdir(parents=True)
    (tree / "SKILL.md").write_text("---\nname: folder\n---\n")
    (tree / "scripts" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "scripts" / "run.sh").chmod(0o711)
    (tree / "link").symlink_to("/etc/passwd")
    with tarfile.open(directory / "packed.tar.gz", "w:gz") as archive:
        for name, data in (("packed/SKILL.md", b"packed\n"), ("packed/a/b", b"\xff\0\n")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (directory / "broken.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with zipfile.ZipFile(directory / "evil.zip", "w") as archive:
        archive.writestr("evil/../../../evil", "x")
    with zipfile.ZipFile(directory / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/zeros", b"\0" * (40 << 20))


def session_with(plane, environment_id, names):
    skills = [{"type": "custom", "skill_id": name, "version": "latest"} for name in names]
    agent = plane.request("POST", "/v1/agents", {
        "name": "test", "model": "claude-sonnet-5-5", "skills": skills,
        "tools": [{"type": "agent_toolset_20260401"}]})
    session = plane.request("POST", "/v1/sessions",
                            {"agent": agent["id"], "environment_id": environment_id})
    plane.message(session["id"], "go")
    return session["id"]


EXPECTED = "\n".join([
    "^folder 700 \\d+ d", "folder/SKILL.md 644 21 f", "folder/scripts 700 \\d+ d",
    "folder/scripts/empty 700 \\d+ d", "folder/scripts/run.sh 755 19 f",
    "packed 700 \\d+ d", "packed/SKILL.md 644 7 f", "packed/a 700 \\d+ d", "packed/a/b 644 3 f", "end$"])

STEPS = [bash(LOOK, EXPECTED), bash("skills/folder/scripts/run.sh; od -An -tx1 skills/packed/a/b",
                                    "^ran\n ff 00 0a$")]
NAMES = ["folder", "broken", "evil", "missing", "bomb", "packed"]


def plane_with_skills(scene, steps):
    directory = scene.directory / "served"
    directory.mkdir()
    make_skills(directory)
    return scene.emulator({"default": {"steps": steps}}, "--skills", str(directory))


@case("holt serve puts skills in place before the first call; bad ones are left out")
def serve(scene):
    needs_root()
    plane = plane_with_skills(scene, STEPS)
    environment_id, key = plane.environment()
    daemon = scene.serve(plane, environment_id, key, "--max-idle", "100ms")
    plane.finished(session_with(plane, environment_id, NAMES))
    for name in ("broken", "evil", "missing", "bomb"):
        assert f"skill {name} is left out" in daemon.log(), name
    wait_until(lambda: plane.work_states(environment_id) == ["stopped"], "the item to be stopped")


@case("skills are there for an unprivileged agent too")
def unprivileged(scene):
    needs_root()
    plane = plane_with_skills(scene, STEPS + [bash("stat -c %u skills/folder/SKILL.md", "^1000$")])
    environment_id, key = plane.environment()
    scene.serve(plane, environment_id, key, "--user", "agent")
    plane.finished(session_with(plane, environment_id, ["folder", "packed"]))


def take_item(plane, environment_id, key):
    """Polls and acknowledges as `ant` does before it starts a worker."""
    parts = urllib.parse.urlsplit(plane.url)

    def request(method, path):
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        connection.request(method, path, None, {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return json.loads(text) if text else None
    item = wait_until(lambda: request("GET", f"/v1/environments/{environment_id}/work/poll"),
                      "an item")
    request("POST", f"/v1/environments/{environment_id}/work/{item['id']}/ack")
    return item


def run_worker(scene, plane, environment_id, key, workdir):
    item = take_item(plane, environment_id, key)
    return scene.start("worker", ["worker", "run", "--workdir", str(workdir), "--max-idle", "100ms"], {
        "ANTHROPIC_BASE_URL": plane.url, "ANTHROPIC_ENVIRONMENT_ID": environment_id,
        "ANTHROPIC_ENVIRONMENT_KEY": key, "ANTHROPIC_WORK_ID": item["id"],
        "ANTHROPIC_SESSION_ID": item["data"]["id"],
        **({"ANTHROPIC_WORK_SECRET": item["secret"]} if item.get("secret") else {})})


@case("holt worker run puts them below its workdir and removes them at the end")
def worker(scene):
    plane = plane_with_skills(scene, STEPS + [bash("echo mine > skills/other; touch skills/folder/more", "")])
    environment_id, key = plane.environment()
    workdir = scene.directory / "work"
    (workdir / "skills" / "folder").mkdir(parents=True)
    (workdir / "skills" / "folder" / "stale").write_text("of a worker that died")
    session = session_with(plane, environment_id, NAMES)
    program = run_worker(scene, plane, environment_id, key, workdir)
    plane.finished(session)
    assert program.wait() == 0, program.log()
    assert sorted(path.name for path in (workdir / "skills").iterdir()) == ["other"]


@case("a skills folder that leads out of the workdir is not followed")
def escape(scene):
    plane = plane_with_skills(scene, [bash("ls skills/", "^\\(no output\\)$")])
    environment_id, key = plane.environment()
    workdir, outside = scene.directory / "work", scene.directory / "outside"
    workdir.mkdir()
    outside.mkdir()
    (workdir / "skills").symlink_to(outside)
    session = session_with(plane, environment_id, ["folder"])
    program = run_worker(scene, plane, environment_id, key, workdir)
    plane.finished(session)
    assert program.wait() == 0, program.log()
    assert not list(outside.iterdir())
    assert "skill folder is left out" in program.log()


@case("a call of an operation's name is nobody's: it is not answered and does nothing")
def operations(scene):
    calls = [{"name": name, "input": {"argv": ["touch", "made"], "root": "/", "path": "made"},
              "answered": "never"} for name in ("holt.exec", "holt.run", "holt.put", "holt.remove")]
    plane = scene.emulator({"default": {"steps": [
        {"calls": calls}, bash("ls", "^\\(no output\\)$")]}})
    environment_id, key = plane.environment()
    workdir = scene.directory / "work"
    workdir.mkdir()
    session = session_with(plane, environment_id, [])
    program = run_worker(scene, plane, environment_id, key, workdir)
    found = plane.finished(session)
    assert [call["results"] for call in found["calls"]] == [0, 0, 0, 0, 1], found["calls"]
    assert program.wait() == 0, program.log()


run()
