#!/usr/bin/env python3
"""Memory stores end to end: the folder an agent sees, and what becomes of the store.

Each case runs in this container (`holt worker run`) and, where the kind of place matters, in a sandbox
(`holt serve`). When one fails, an agent's notes are lost, another session's are overwritten, or a
hostile folder does more than end up as a few refused files.
"""
import hashlib
import http.client
import json
import os
import pathlib
import urllib.parse

from harness import case, needs_root, run, wait_until

SYNC = "5s"
MARKER = ".anthropic-memory-store"


def digest(content):
    return hashlib.sha256(content.encode()).hexdigest()


class Store:
    """A memory store as an application sees it."""

    def __init__(self, plane, name="notes", memories=None):
        self.plane = plane
        self.id = plane.request("POST", "/v1/memory_stores", {"name": name})["id"]
        self.base = f"/v1/memory_stores/{self.id}/memories"
        for path, content in (memories or {}).items():
            self.create(path, content)

    def create(self, path, content):
        return self.plane.request("POST", self.base, {"path": "/" + path, "content": content})

    def items(self):
        found, cursor = {}, ""
        while cursor is not None:
            page = self.plane.request("GET", f"{self.base}?view=full&limit=20{cursor}")
            found.update({item["path"][1:]: item for item in page["data"]})
            cursor = page["next_page"] and "&page=" + urllib.parse.quote(page["next_page"])
        return found

    def contents(self):
        return {path: item["content"] for path, item in self.items().items()}

    def update(self, path, content):
        self.plane.request("POST", f"{self.base}/{self.items()[path]['id']}", {"content": content})

    def delete(self, path):
        self.plane.request("DELETE", f"{self.base}/{self.items()[path]['id']}")

    def attached(self, **more):
        return {"type": "memory_store", "memory_store_id": self.id, **more}


def bash(command, **expect):
    """In a subshell: the next call starts in the same place."""
    return {"calls": [{"name": "bash", "input": {"command": f"({command}\n)"}, "expect": expect or {"is_error": False}}]}


def write(path, content, **expect):
    return {"calls": [{"name": "write", "input": {"file_path": path, "content": content},
                       "expect": expect or {"is_error": False}}]}


# What the agent waits for is put into the store, and so into its folder, by the application.
def wait_for(path):
    return bash(f"for i in $(seq 600); do [ -e {path} ] && exit; sleep 0.1; done; exit 1")


TURN = {"end_turn": True}


class World:
    """A control plane with one script, and a session with stores."""

    def __init__(self, scene, steps, *more):
        self.scene = scene
        self.plane = scene.emulator({"test": {"steps": steps}}, *more)
        self.environment, self.key = self.plane.environment()
        self.workdir = scene.directory / "work"
        self.workdir.mkdir()

    def session(self, *resources):
        agent = self.plane.request("POST", "/v1/agents", {
            "name": "test", "model": "m", "tools": [{"type": "agent_toolset_20260401"}]})
        session = self.plane.request("POST", "/v1/sessions", {
            "agent": agent["id"], "environment_id": self.environment, "metadata": {"script": "test"},
            "resources": list(resources)})
        self.plane.message(session["id"], "go")
        return session["id"]

    def as_worker(self, method, path):
        parts = urllib.parse.urlsplit(self.plane.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        connection.request(method, path, headers={"authorization": f"Bearer {self.key}"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return json.loads(text) if answer.status == 200 and text else None

    def claim(self):
        work = f"/v1/environments/{self.environment}/work"
        item = wait_until(lambda: self.as_worker("GET", work + "/poll"), "the work item")
        assert self.as_worker("POST", f"{work}/{item['id']}/ack")
        return item

    def worker(self, item, *more, secret=True):
        variables = {"ANTHROPIC_SESSION_ID": item["data"]["id"], "ANTHROPIC_WORK_ID": item["id"],
                     "ANTHROPIC_ENVIRONMENT_ID": self.environment, "ANTHROPIC_BASE_URL": self.plane.url,
                     "HOME": str(self.scene.directory)}
        variables.update({"ANTHROPIC_WORK_SECRET": item["secret"]} if secret else
                         {"ANTHROPIC_ENVIRONMENT_KEY": self.key})
        return self.scene.start("worker", ["worker", "run", "--workdir", str(self.workdir), "--max-idle",
                                           "300ms", "--sync-memory", SYNC, *more], variables)

    def serve(self, *more):
        return self.scene.serve(self.plane, self.environment, self.key, "--max-idle", "300ms",
                                "--sync-memory", SYNC, *more)

    def serve_keeping(self):
        """A daemon that keeps sandboxes, on the same state directory each time."""
        return self.serve("--state-dir", str(self.scene.directory / "state"), "--keep", "10m")

    def in_sandbox(self, path):
        """Where a file of the one sandbox is on the host, once it is there."""
        pattern = f"sandboxes/*/layer/root/workspace/{path}"
        return wait_until(lambda: next((self.scene.directory / "state").glob(pattern), None), path)

    def start(self, place):
        """Serves the environment in one of the two ways; the program that does."""
        return self.serve() if place == "serve" else self.worker(self.claim())

    def stopped(self):
        wait_until(lambda: set(self.plane.work_states(self.environment)) == {"stopped"},
                   "the work items to be stopped")


def ended(program, place):
    """A worker ends by itself, a daemon when it is told."""
    assert (program.terminate() if place == "serve" else program.wait()) == 0, program.log()


def in_both_places(name):
    """A case that runs in a sandbox and in this container; the workdir's name there is told."""
    def register(function):
        def in_sandbox(scene):
            needs_root()
            function(scene, "serve")

        case(f"{name}, in this container")(lambda scene: function(scene, "run"))
        case(f"{name}, in a sandbox")(in_sandbox)
        return function
    return register


@in_both_places("a store is a folder, and what the agent changes there is in the store afterwards")
def round_trip(scene, place):
    folder = "memory/notes"
    world = World(scene, [
        bash(f"cd {folder}; find . -type f | sort | xargs cat; stat -c %a . deep deep/er.md",
             is_error=False, text=r"^version 1\nmemstore_[a-z0-9]+äone\ntwo\n700\n700\n600$"),
        bash(f"echo changed >> {folder}/a.md; rm {folder}/gone.md; mkdir -p {folder}/new; printf x > {folder}/new/f"),
        write(f"{folder}/written.md", "by the tool\n"),
        TURN])
    store = Store(world.plane, memories={"a.md": "äone\n", "deep/er.md": "two\n", "gone.md": ""})
    session = world.session(store.attached(mount_path=None))
    program = world.start(place)
    world.plane.finished(session)
    world.stopped()
    assert store.contents() == {"a.md": "äone\nchanged\n", "deep/er.md": "two\n", "new/f": "x",
                                "written.md": "by the tool\n"}, store.contents()
    ended(program, place)
    # This container is others' afterwards: nothing of the session's store is left.
    assert not list(world.workdir.glob("memory/.*")) and not (world.workdir / folder).exists()


@in_both_places("both sides change while the session runs, and the server wins a conflict")
def changes_meanwhile(scene, place):
    folder = "memory/notes"
    world = World(scene, [
        bash(f"echo mine > {folder}/mine.md; echo mine > {folder}/both.md"),
        wait_for(f"{folder}/go"),
        bash(f"cat {folder}/theirs.md {folder}/both.md; ls {folder}", is_error=False,
             text=r"^theirs 2\ntheirs\nboth\.md\ngo\nmine\.md\ntheirs\.md$"),
        TURN])
    store = Store(world.plane, memories={"theirs.md": "theirs 1\n", "both.md": "old\n", "away.md": "x"})
    session = world.session(store.attached(mount_path=None))
    program = world.start(place)
    # The first upload tells that the agent has written; a conflict needs the server to be first.
    wait_until(lambda: "mine.md" in store.contents(), "the first upload")
    store.update("theirs.md", "theirs 2\n")
    store.update("both.md", "theirs\n")
    store.delete("away.md")
    store.create("go", "")
    world.plane.finished(session)
    world.stopped()
    assert store.contents() == {"theirs.md": "theirs 2\n", "both.md": "theirs\n", "mine.md": "mine\n",
                                "go": ""}, store.contents()
    ended(program, place)


@in_both_places("a store that is attached read-only is never written to")
def read_only(scene, place):
    folder = "memory/notes"
    world = World(scene, [
        write(f"{folder}/a.md", "x", is_error=True, text="read-only"),
        {"calls": [{"name": "edit", "input": {"file_path": f"{folder}/a.md", "old_string": "one",
                                              "new_string": "two"}, "expect": {"is_error": True}}]},
        bash(f"echo x >> {folder}/a.md; echo y > {folder}/b.md; rm {folder}/c.md"),
        wait_for(f"{folder}/go"),
        bash(f"cat {folder}/a.md {folder}/b.md; ls {folder}", is_error=False, text=r"^one\nx\ny\na\.md\nb\.md\ngo$"),
        TURN])
    before = {"a.md": "one\n", "c.md": "three\n"}
    store = Store(world.plane, memories=before)
    session = world.session(store.attached(mount_path=None, access="read_only"))
    program = world.start(place)
    wait_until(lambda: len(world.plane.verdict(session)["results"]) >= 3, "the agent's edits")
    store.create("go", "")
    world.plane.finished(session)
    world.stopped()
    assert store.contents() == {**before, "go": ""}, store.contents()
    ended(program, place)


@case("a store mounted elsewhere is reached by the file tools")
def mounted_elsewhere(scene):
    mount = scene.directory / "mnt" / "memory" / "team"
    world = World(scene, [
        {"calls": [{"name": "read", "input": {"file_path": str(mount / "a.md")},
                    "expect": {"is_error": False, "text": "^one$"}}]},
        write(str(mount / "b.md"), "two"),
        write(str(mount.parent / "outside.md"), "x", is_error=True),
        TURN])
    store = Store(world.plane, memories={"a.md": "one"})
    session = world.session(store.attached(mount_path=f"{mount.parent}//./{mount.name}/"))
    worker = world.worker(world.claim())
    world.plane.finished(session)
    assert worker.wait() == 0, worker.log()
    assert store.contents() == {"a.md": "one", "b.md": "two"}, store.contents()


@case("in a sandbox a store is where the control plane says, whoever the agent is")
def usual_mount(scene):
    needs_root()
    for user in ("root", "agent"):
        world = World(scene.__class__().__enter__(), [
            bash("cd /mnt/memory/team-notes; cat a.md; echo two > b.md"),
            write("/mnt/memory/team-notes/c.md", "three"),
            TURN])
        try:
            store = Store(world.plane, "Team Notes", {"a.md": "one"})
            session = world.session(store.attached())
            daemon = world.serve("--user", user)
            world.plane.finished(session)
            world.stopped()
            assert store.contents() == {"a.md": "one", "b.md": "two\n", "c.md": "three"}, (user, store.contents())
            assert daemon.terminate() == 0, daemon.log()
        finally:
            world.scene.__exit__()


@case("a mount path that is not clean, or taken, fails the item; so does a store that cannot be read")
def refused_mounts(scene):
    world = World(scene, [bash("true"), TURN])
    taken = scene.directory / "taken"
    taken.mkdir()
    (taken / "file").write_text("somebody's")
    plain = scene.directory / "plain"
    plain.write_text("a file")
    bad = {"../up": "clean absolute path", "/a/../b": "clean absolute path", "relative": "clean absolute path",
           "/": "clean absolute path", str(taken): "already", str(plain): "ot a directory"}
    for mount, complaint in bad.items():
        store = Store(world.plane)
        world.session(store.attached(mount_path=mount))
        worker = world.worker(world.claim())
        assert worker.wait() == 1, (mount, worker.log())
        assert complaint in worker.log(), (mount, worker.log())
    assert (taken / "file").read_text() == "somebody's"
    inner, outer = Store(world.plane), Store(world.plane)
    world.session(outer.attached(mount_path=str(scene.directory / "o")),
                  inner.attached(mount_path=str(scene.directory / "o" / "i")))
    worker = world.worker(world.claim())
    assert worker.wait() == 1 and "one in the other" in worker.log(), worker.log()
    gone = Store(world.plane)
    world.session(gone.attached(mount_path=None))
    item = world.claim()
    world.plane.request("DELETE", f"/v1/memory_stores/{gone.id}")
    worker = world.worker(item)
    assert worker.wait() == 1, worker.log()


@case("without the item's token the session runs without its stores")
def without_token(scene):
    world = World(scene, [bash("ls memory 2>&1", is_error=True), TURN])
    store = Store(world.plane, memories={"a.md": "one"})
    session = world.session(store.attached(mount_path=None))
    worker = world.worker(world.claim(), secret=False)
    world.plane.finished(session)
    assert worker.wait() == 0, worker.log()
    assert "refuse the environment key" in worker.log()
    assert store.contents() == {"a.md": "one"}


@in_both_places("links, pipes, giants and binaries in the folder are left alone, and the rest goes on")
def hostile_files(scene, place):
    folder = "memory/notes"
    world = World(scene, [
        bash(f"""cd {folder} && ln -s /etc/passwd link && ln -s /etc etc && mkfifo pipe && ln -sf nowhere dangling
                 head -c 3000000 /dev/zero | tr '\\0' x > huge; head -c 200000 /dev/zero | tr '\\0' x > big
                 printf '\\377\\376' > binary; printf 'x' > $'bad\\377name'; printf x > $'new\\nline'
                 rm a.md && ln -s /etc/hostname a.md; mkdir b.md.d && mv b.md b.md.d/ && mkdir b.md
                 python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")' || true
                 printf fine > fine.md; ls""", is_error=False, text="fine.md"),
        wait_for(f"{folder}/go"),
        TURN])
    store = Store(world.plane, memories={"a.md": "one", "b.md": "two", "c/d.md": "three"})
    session = world.session(store.attached(mount_path=None))
    program = world.start(place)
    wait_until(lambda: "fine.md" in store.contents(), "the good file")
    store.update("c/d.md", "four")
    store.create("go", "")
    world.plane.finished(session)
    world.stopped()
    found = store.contents()
    assert {path: found.pop(path) for path in ("fine.md", "go", "c/d.md")} == {
        "fine.md": "fine", "go": "", "c/d.md": "four"}, found
    # Moved away, b.md is deleted or kept, as the official worker judges a name that became a directory.
    found.pop("b.md", None)
    found.pop("a.md", None)
    assert found == {"b.md.d/b.md": "two"}, found
    log = program.log()
    assert "huge: is too large" in log and "binary: is not UTF-8 text" in log and "big: the server refuses" in log, log
    assert log.count("binary: is not UTF-8") == 1, log
    ended(program, place)


@case("ten thousand files do not hurt")
def many_files(scene):
    folder = "memory/notes"
    world = World(scene, [
        bash(f"cd {folder} && mkdir many && cd many && seq 10000 | split -l 1 -a 4 - f && ls | wc -l", is_error=False,
             text="^10000$"),
        TURN])
    store = Store(world.plane, memories={"a.md": "one"})
    session = world.session(store.attached(mount_path=None))
    worker = world.worker(world.claim())
    world.plane.finished(session, 120)
    assert worker.wait(180) == 0, worker.log()
    found = store.contents()
    # The store holds 2000; how many get there in the time that a session's end has depends on the machine.
    assert found.pop("a.md") == "one" and found, len(found)
    assert all(path.startswith("many/f") for path in found)


@in_both_places("a folder that was emptied is downloaded again and deletes nothing")
def wiped(scene, place):
    folder = "memory/notes"
    world = World(scene, [
        bash(f"rm -rf {folder}"),
        wait_for(f"{folder}/a.md"),
        bash(f"rm {folder}/a.md {folder}/b.md"),
        wait_for(f"{folder}/a.md"),
        bash(f"cat {folder}/a.md {folder}/b.md", is_error=False, text="^onetwo$"),
        TURN])
    before = {"a.md": "one", "b.md": "two"}
    store = Store(world.plane, memories=before)
    session = world.session(store.attached(mount_path=None))
    program = world.start(place)
    world.plane.finished(session, 120)
    world.stopped()
    assert store.contents() == before, store.contents()
    assert program.log().count("downloading it again") == 2, program.log()
    ended(program, place)


@case("a folder with another's marker, or with none, is left as it is")
def foreign_marker(scene):
    for change in ("rm", "printf 'version 1\\nmemstore_another' >", "ln -sf /etc/hostname"):
        folder = "memory/notes"
        world = World(scene.__class__().__enter__(), [
            bash(f"cd {folder}; {change} {MARKER}; rm a.md; echo x > b.md; echo y > c.md"),
            {"wait_ms": 6000},
            bash(f"ls {folder}", is_error=False, text=r"^b\.md\nc\.md$"),
            TURN])
        try:
            before = {"a.md": "one", "b.md": "two"}
            store = Store(world.plane, memories=before)
            session = world.session(store.attached(mount_path=None))
            worker = world.worker(world.claim())
            world.plane.finished(session)
            assert worker.wait() == 0, worker.log()
            assert store.contents() == before, (change, store.contents())
            assert (world.workdir / folder / "c.md").read_text() == "y\n"
            assert worker.log().count("is left as it is") == 1, worker.log()
        finally:
            world.scene.__exit__()


@case("a worker that was killed leaves a folder that the next one takes over")
def taken_over(scene):
    folder = pathlib.Path("memory/notes")
    world = World(scene, [bash("touch started; for i in $(seq 600); do [ -e over ] && exit; sleep 0.1; done; exit 1"),
                          TURN], "--lease-ttl", "2s")
    store = Store(world.plane, memories={
        "same.md": "same", "edited.md": "old", "theirs.md": "old", "both.md": "old", "deleted.md": "x",
        "removed.md": "x", "removed-edited.md": "old"})
    session = world.session(store.attached(mount_path=None))
    worker = world.worker(world.claim())
    wait_until((world.workdir / "started").exists, "the call to run")
    worker.process.kill()
    worker.wait()
    here = world.workdir / folder
    # While nobody serves the session: edits on both sides.
    (here / "edited.md").write_text("mine")
    (here / "both.md").write_text("mine")
    (here / "new.md").write_text("new")
    (here / "deleted.md").unlink()
    (here / "removed-edited.md").write_text("mine")
    store.update("theirs.md", "theirs")
    store.update("both.md", "theirs")
    store.delete("removed.md")
    store.delete("removed-edited.md")
    worker = world.worker(world.claim())
    wait_until(lambda: "new.md" in store.contents(), "the new file in the store")
    (world.workdir / "over").write_text("")
    world.plane.finished(session)
    assert worker.wait() == 0, worker.log()
    assert store.contents() == {"same.md": "same", "edited.md": "mine", "theirs.md": "theirs", "both.md": "theirs",
                                "new.md": "new", "removed-edited.md": "mine"}, store.contents()


@case("a daemon that was killed: the next one takes the folder over while the agent works in it")
def daemon_killed(scene):
    needs_root()
    folder = "memory/notes"
    world = World(scene, [
        bash(f"cd {folder}; echo mine > a.md; echo new > new.md; rm deleted.md; touch /workspace/written\n"
             "for i in $(seq 600); do [ -e go ] && exit; sleep 0.1; done; exit 1"),
        bash(f"cd {folder}; ls; cat theirs.md", is_error=False, text=r"^a\.md\ngo\nnew\.md\ntheirs\.md\ntheirs$"),
        TURN])
    store = Store(world.plane, memories={"a.md": "old", "theirs.md": "old", "deleted.md": "x", "removed.md": "x"})
    session = world.session(store.attached(mount_path=None))
    daemon = world.serve_keeping()
    world.in_sandbox("written")
    daemon.process.kill()
    daemon.wait()
    store.update("theirs.md", "theirs")
    store.delete("removed.md")
    store.create("go", "")
    daemon = world.serve_keeping()
    world.plane.finished(session)
    world.stopped()
    assert "as it was left" in daemon.log(), daemon.log()
    assert store.contents() == {"a.md": "mine\n", "theirs.md": "theirs", "go": "", "new.md": "new\n"}, store.contents()
    assert daemon.terminate() == 0, daemon.log()


@case("a later turn finds the folder as it was left, the store's changes in it, and a spoilt marker does not end it")
def later_turns(scene):
    needs_root()
    folder = "memory/notes"
    world = World(scene, [
        {"calls": [{"name": "bash", "input": {"command": f"cd {folder}; echo mine > mine.md; printf '\\377' > binary"}}]},
        TURN,
        bash("ls; cat theirs.md", is_error=False, text=r"^binary\nmine\.md\ntheirs\.md\nnewer$"),
        bash(f"rm {MARKER} mine.md"),
        TURN,
        bash("ls", is_error=False, text=r"^binary\ntheirs\.md$"),
        TURN])
    store = Store(world.plane, memories={"theirs.md": "old", "removed.md": "x"})
    session = world.session(store.attached(mount_path=None))
    daemon = world.serve_keeping()

    def turn_over(count):
        results = lambda: len(world.plane.verdict(session)["results"]) == count
        wait_until(results, f"{count} results")
        world.stopped()
    turn_over(1)
    assert store.contents()["mine.md"] == "mine\n", store.contents()
    store.update("theirs.md", "newer")
    store.delete("removed.md")
    world.plane.message(session, "go on")
    turn_over(3)
    world.plane.message(session, "go on")
    world.plane.finished(session)
    world.stopped()
    assert store.contents() == {"mine.md": "mine\n", "theirs.md": "newer"}, store.contents()
    assert "is left as it is" in daemon.log(), daemon.log()
    assert daemon.terminate() == 0, daemon.log()


@case("trouble of the control plane delays a store, and loses nothing")
def trouble(scene):
    needs_root()
    folder = "memory/notes"

    def failing(count):
        return {"fail_requests": {"path": "memory", "status": 503, "count": count, "retry_after": 0}}
    world = World(scene, [
        failing(4),
        bash(f"echo mine > {folder}/mine.md"),
        wait_for(f"{folder}/go"),
        failing(9),
        TURN,
        bash(f"cat {folder}/*", is_error=False, text="^mine\ntheirs$"),
        TURN])
    store = Store(world.plane)
    session = world.session(store.attached(mount_path=None))
    daemon = world.serve_keeping()
    wait_until(lambda: "mine.md" in store.contents(), "the upload")
    store.create("go", "")
    wait_until(lambda: len(world.plane.verdict(session)["results"]) == 2, "the first turn")
    world.stopped()
    store.create("theirs.md", "theirs")
    world.plane.message(session, "go on")
    world.plane.finished(session)
    world.stopped()
    assert "not synchronised" in daemon.log() and "trying again" in daemon.log(), daemon.log()
    assert daemon.terminate() == 0, daemon.log()


if __name__ == "__main__":
    run()
