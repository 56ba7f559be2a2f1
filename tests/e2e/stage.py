#!/usr/bin/env python3
"""Inputs staged into a session's workspace by `holt serve`, from friendly and hostile sources.

When one of these fails, an agent begins without its files, a credential goes where it should not, or
somebody else's archive writes where it likes.
"""
import base64
import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
import zipfile

from harness import case, needs_root, run, wait_until

BIG = 3 * 1024 * 1024


def bash(command, expected, is_error=False):
    return {"calls": [{"name": "bash", "input": {"command": command},
                       "expect": {"is_error": is_error, "text": expected}}]}


class Source(http.server.ThreadingHTTPServer):
    """Serves `pages` {path: (status, headers, body)} and remembers what it was asked."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.asked, self.is_closed = {}, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.do_GET()

    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.server.asked.append((path, dict(self.headers)))
        if path.startswith("/smart/"):
            self.run_git(path.removeprefix("/smart"), query)
            return
        status, headers, body = self.server.pages.get(path, (404, {}, b"nothing"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body == "hang":
            self.end_headers()
            self.server.is_closed.wait(120)
            return
        if body == "endless":
            self.end_headers()
            while not self.server.is_closed.is_set():
                self.wfile.write(b"x" * 65536)
            return
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


    def run_git(self, path, query):
        """What a git server does, by git's own CGI program; only with a credential."""
        if "Authorization" not in self.headers:
            self.send_response(401)
            self.send_header("www-authenticate", "Basic")
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, check=True,
            env={"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.git_root),
                 "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": self.command, "PATH_INFO": path,
                 "QUERY_STRING": query, "CONTENT_TYPE": self.headers.get("content-type", ""),
                 "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
                 "GIT_PROTOCOL": self.headers.get("git-protocol", "")}).stdout
        head, _, content = answer.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().splitlines():
            name, _, value = line.partition(": ")
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def tar(*members):
    """A tar.gz of (name, bytes) files, or ready TarInfo objects."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            info.mode = member[2] if len(member) > 2 else 0o644
            archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


class Setting:
    """A source, an emulator with one script, and a daemon that allows the source."""

    def __init__(self, scene, steps, *options, allow=True):
        needs_root()
        self.scene = scene
        self.source = Source()
        self.plane = scene.emulator({"default": {"steps": steps}})
        self.environment_id, self.key = self.plane.environment()
        more = ["--stage-allow", self.source.url] if allow else []
        self.daemon = scene.serve(self.plane, self.environment_id, self.key, *more, *options)

    def session(self, *lists):
        """A session whose metadata names the entries; more than one list go into several keys."""
        metadata = {}
        for number, entries in enumerate(lists):
            metadata["holt.stage" + (f".{number}" if number else "")] = (
                entries if isinstance(entries, str) else json.dumps(entries))
        agent = self.plane.request("POST", "/v1/agents", {
            "name": "test", "model": "claude-sonnet-5-5",
            "tools": [{"type": "agent_toolset_20260401"}]})
        session = self.plane.request("POST", "/v1/sessions", {
            "agent": agent["id"], "environment_id": self.environment_id, "metadata": metadata})
        self.plane.message(session["id"], "go")
        return session["id"]

    def play(self, *lists):
        session = self.session(*lists)
        self.plane.finished(session, 300)
        return self.daemon.log()

    def serve(self, path, body, status=200, headers=None):
        self.source.pages[path] = (status, headers or {}, body)
        return self.source.url + path

    def end(self):
        self.source.is_closed.set()
        self.source.shutdown()
        self.source.server_close()


def git(directory, *arguments):
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LC_ALL": "C",
                   "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main",
         "-c", "protocol.file.allow=always", *arguments],
        cwd=directory, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def repository(scene):
    """A repository with two branches, a link, attributes and hooks; (path, commit of main)."""
    path = scene.directory / "repository"
    path.mkdir()
    git(path, "init", "-q")
    (path / "src").mkdir()
    (path / "src" / "main.c").write_text("main\n")
    (path / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (path / "run.sh").chmod(0o755)
    (path / "private").write_text("not in an archive\n")
    (path / ".gitattributes").write_text("private export-ignore\n")
    os.symlink("/etc/passwd", path / "link")
    os.symlink("main.c", path / "src" / "- alias")
    git(path, "add", ".")
    git(path, "commit", "-qm", "one")
    commit = git(path, "rev-parse", "HEAD")
    git(path, "checkout", "-qb", "other")
    (path / "src" / "main.c").write_text("other\n")
    git(path, "rm", "-q", "link", "src/- alias")
    git(path, "commit", "-qam", "two")
    git(path, "checkout", "-q", "main")
    for hook in ("post-checkout", "reference-transaction", "post-merge", "pre-commit"):
        (path / ".git" / "hooks" / hook).write_text("#!/bin/sh\ntouch /tmp/holt-hook-ran\n")
        (path / ".git" / "hooks" / hook).chmod(0o755)
    return path, commit


@case("files and archives of every kind are there before the first call")
def friendly(scene):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in/zip.txt", "zipped")
    setting = Setting(scene, [bash(
        "cat data/one.txt; stat -c %a data; cat code/a/b.txt; test -x code/tool && echo can run; "
        "cat bare/x/y.txt; cat in/zip.txt; cat two.txt; ls -a .holt; "
        "test ! -e .holt/stage-errors.txt && echo no errors",
        "^one755\nbcan run\ny\nzippedtwo(.|\n)*staged.json\nno errors$")])
    one = setting.serve("/one", b"one")
    setting.serve("/two", b"two")
    code = setting.serve("/code.tar.gz", tar(("top/a/b.txt", b"b"), ("top/tool", b"#!", 0o755)))
    bare = setting.serve("/bare.tar", tar(("x/y.txt", b"y\n")))
    setting.serve("/zip", packed.getvalue())
    log = setting.play([
        {"kind": "file", "url": one, "path": "data/one.txt",
         "sha256": hashlib.sha256(b"one").hexdigest()},
        {"kind": "archive", "url": code, "path": "code", "strip": 1},
        {"kind": "archive", "url": bare, "path": "bare"},
    ], [{"kind": "archive", "url": setting.source.url + "/zip"},
        {"kind": "file", "url": setting.source.url + "/two?token=hidden", "path": "two.txt"}])
    assert "hidden" not in log, log
    assert log.count("staged entry") == 5, log
    setting.end()


@case("what fails is told to the agent and in the log, and the rest is staged")
def failures(scene):
    other = Source()
    other.pages["/stolen"] = (200, {}, b"stolen")
    setting = Setting(scene, [bash(
        "cat .holt/stage-errors.txt; cat good.txt; ls; ls / | grep -c escaped",
        "its sha256 is .*\n.*HTTP 404\n.*not allowed.*\n.*not allowed.*\n.*redirects\n.*over.*\n"
        ".*unsafe.*\n.*unsafe.*\n.*damaged.*\n.*too many bytes\ngood\ngood.txt\n0$", True)],
        "--stage-max-size", str(BIG))
    setting.serve("/sum", b"other bytes")
    setting.serve("/away", b"", 302, {"location": other.url + "/stolen"})
    setting.serve("/loop", b"", 302, {"location": "/loop"})
    setting.serve("/endless", "endless")
    setting.serve("/up.tar", tar(("../escaped.txt", b"x")))
    setting.serve("/absolute.tar", tar(("/escaped.txt", b"x")))
    setting.serve("/through.tar", tar(link("out", "/"), ("out/escaped.txt", b"x")))
    setting.serve("/garbage", b"garbage")
    setting.serve("/bomb.tar", tar(("zeros", bytes(2 * BIG))))
    setting.serve("/good", b"good\n")
    url = setting.source.url

    def bad(path, kind="file", **more):
        return {"kind": kind, "url": url + path, "path": "bad", **more}
    log = setting.play(
        [bad("/sum", sha256=hashlib.sha256(b"bytes").hexdigest()), bad("/nothing"),
         {"kind": "file", "url": other.url + "/stolen", "path": "bad"}, bad("/away")],
        [bad("/loop"), bad("/endless"), bad("/up.tar", "archive")],
        [bad("/absolute.tar", "archive"), bad("/garbage", "archive")],
        [bad("/bomb.tar", "archive"), {"kind": "file", "url": url + "/good", "path": "good.txt"}])
    assert not other.asked, other.asked
    assert log.count("staging entry") == 10, log
    other.is_closed.set()
    other.shutdown()
    other.server_close()
    setting.end()


@case("a link in an archive leads nowhere")
def archive_links(scene):
    setting = Setting(scene, [bash(
        "find . -type l; cat fine.txt; test ! -e /escaped.txt && echo in its place",
        "^finein its place$")])
    setting.serve("/links.tar", tar(("fine.txt", b"fine"), link("out", "/"),
                                    ("out/escaped.txt", b"x")))
    setting.play([{"kind": "archive", "url": setting.source.url + "/links.tar"}])
    setting.end()


@case("a malformed list is said, and the session is served")
def malformed(scene):
    setting = Setting(scene, [bash(
        "cat .holt/stage-errors.txt",
        "no JSON list(.|\n)*kind is(.|\n)*has no \"extra\"(.|\n)*no url(.|\n)*path is relative"
        "(.|\n)*sha256 is(.|\n)*ref is(.|\n)*http, https or file(.|\n)*user name")])
    url = setting.source.url
    setting.play("{", [{"kind": "folder", "url": url}], [
        {"kind": "file", "url": url, "path": "x", "extra": 1}, {"kind": "git"},
        {"kind": "file", "url": url, "path": "../x"},
        {"kind": "file", "url": url, "path": "x", "sha256": "abc"},
        {"kind": "git", "url": url, "ref": "--upload-pack=touch /tmp/x"},
        {"kind": "git", "url": "ssh://host/x"}],
        [{"kind": "file", "url": "http://user:secret@127.0.0.1/x", "path": "x"}])
    assert "secret" not in setting.daemon.log()
    setting.end()


@case("nothing is staged when nothing is allowed")
def closed(scene):
    setting = Setting(scene, [bash("cat .holt/stage-errors.txt; ls", "stage.allow is empty")],
                      allow=False)
    setting.serve("/x", b"x")
    setting.play([{"kind": "file", "url": setting.source.url + "/x", "path": "x"},
                  {"kind": "file", "url": "file:///etc/passwd", "path": "y"}])
    assert not setting.source.asked
    setting.end()


@case("a server that says nothing costs the session its time for staging, and no more")
def hanging(scene):
    setting = Setting(scene, [bash("cat .holt/stage-errors.txt", "took too long(.|\n)*no time")],
                      "--stage-timeout", "2s")
    setting.serve("/hang", "hang")
    setting.serve("/x", b"x")
    setting.play([{"kind": "file", "url": setting.source.url + "/hang", "path": "a"},
                  {"kind": "file", "url": setting.source.url + "/x", "path": "b"}])
    setting.end()


@case("a later turn in the same sandbox keeps what the agent made of its inputs")
def second_turn(scene):
    look = "cat a; test -e late && cat late; ls .holt"
    setting = Setting(scene, [
        bash(f"{look}; echo mine > a", "^theirs\nstage-errors.txt\nstaged.json$"),
        {"end_turn": True}, bash(look, "^mine\nnow\nstaged.json$")],
        "--max-idle", "100ms", "--keep", "10m")
    setting.serve("/a", b"theirs\n")
    entries = [{"kind": "file", "url": setting.source.url + "/a", "path": "a"},
               {"kind": "file", "url": setting.source.url + "/late", "path": "late"}]
    session = setting.session(entries)
    wait_until(lambda: setting.plane.work_states(setting.environment_id) == ["stopped"], "the item")
    setting.serve("/late", b"now\n")
    setting.plane.message(session, "again")
    setting.plane.finished(session)
    assert [path for path, _ in setting.source.asked] == ["/a", "/late", "/late"]
    setting.end()


@case("a credential goes to its own place, also after a redirect, and nowhere else")
def credentials(scene):
    header = scene.directory / "header"
    header.write_text("Authorization: Bearer s3cret-of-the-source\n")
    header.chmod(0o600)
    other = Source()
    other.pages["/public"] = (200, {}, b"public")
    ready = Source()  # a port that is known before the daemon starts
    setting = Setting(scene, [bash("cat a b; env; cat .holt/*", "privatepublic")],
                      "--stage-allow", ready.url, "--stage-allow", other.url, "--stage-credential",
                      f"{ready.url}/private={header}")
    ready.pages["/private/a"] = (200, {}, b"private")
    ready.pages["/private/b"] = (302, {"location": other.url + "/public"}, b"")
    log = setting.play([{"kind": "file", "url": ready.url + "/private/a", "path": "a"},
                        {"kind": "file", "url": ready.url + "/private/b", "path": "b"}])
    bearer = "Bearer s3cret-of-the-source"
    assert [headers.get("Authorization") for _, headers in ready.asked] == [bearer, bearer]
    assert [headers.get("Authorization") for _, headers in other.asked] == [None]
    assert "s3cret" not in log and "s3cret" not in json.dumps(setting.plane.request(
        "GET", "/v1/sessions")["data"])
    for source in (other, ready):
        source.is_closed.set()
        source.shutdown()
        source.server_close()
    setting.end()


@case("files of this host are staged from listed directories only, links or not")
def host_files(scene):
    shared = scene.directory / "shared"
    shared.mkdir()
    (shared / "a b.txt").write_text("shared")
    (scene.directory / "secret").write_text("secret")
    os.symlink(scene.directory / "secret", shared / "link")
    os.mkfifo(shared / "fifo")
    setting = Setting(scene, [bash(
        "cat a; cat .holt/stage-errors.txt",
        "^shared(.|\n)*leads out(.|\n)*not allowed(.|\n)*not allowed(.|\n)*no regular")],
        "--stage-allow", f"file://{shared}")
    setting.play([{"kind": "file", "url": f"file://{shared}/a%20b.txt", "path": "a"},
                  {"kind": "file", "url": f"file://{shared}/link", "path": "b"}],
                 [{"kind": "file", "url": f"file://{shared}/../secret", "path": "c"},
                  {"kind": "file", "url": f"file://{shared}/%2e%2e/secret", "path": "d"},
                  {"kind": "file", "url": f"file://{shared}/fifo", "path": "e"}])
    setting.end()


@case("a git repository is staged: head, branch and commit; its hooks do nothing, its links are links")
def git_trees(scene):
    path, commit = repository(scene)
    if os.path.exists("/tmp/holt-hook-ran"):
        os.unlink("/tmp/holt-hook-ran")
    setting = Setting(scene, [bash(
        "cat head/src/main.c other/src/main.c one/src/main.c; ./head/run.sh; cat head/private; "
        "readlink head/link; cat 'head/src/- alias'; ls -a head; cat .holt/stage-errors.txt",
        "^main\nother\nmain\nran\nnot in an archive\n/etc/passwd\nmain\n(.|\n)*"
        "entry 4.*git exited with code 128")],
        "--stage-allow", f"file://{path}")
    url = f"file://{path}"
    log = setting.play(
        [{"kind": "git", "url": url, "path": "head"},
         {"kind": "git", "url": url, "path": "other", "ref": "other"},
         {"kind": "git", "url": url, "path": "one", "ref": commit}],
        [{"kind": "git", "url": url, "path": "none", "ref": "no-such-branch"}])
    assert commit in log, log
    assert not os.path.exists("/tmp/holt-hook-ran"), "a hook of the repository ran"
    state = next(scene.directory.glob("state-*"))
    assert os.listdir(state / "front" / "stage") == [], "git left its files"
    setting.end()


@case("a git repository over HTTP, with a credential that only its own server gets")
def git_http(scene):
    path, commit = repository(scene)
    header = scene.directory / "header"
    header.write_text("Authorization: Basic " + base64.b64encode(b"x:s3cret").decode() + "\n")
    source = Source()
    source.git_root = scene.directory
    setting = Setting(scene, [bash(
        "cat tree/src/main.c other/src/main.c; cat .holt/stage-errors.txt",
        "^main\nother\n.*moved.git: git exited(.|\n)*"
        "refused.git: git exited")],
        "--stage-allow", source.url, "--stage-credential", f"{source.url}={header}")
    source.pages["/moved.git/info/refs"] = (302, {"location": setting.source.url + "/x"}, b"")
    log = setting.play(
        [{"kind": "git", "url": source.url + "/smart/repository", "path": "tree"},
         {"kind": "git", "url": source.url + "/smart/repository", "path": "other", "ref": "other"}],
        [{"kind": "git", "url": source.url + "/moved.git", "path": "moved"},
         {"kind": "git", "url": setting.source.url + "/smart/refused.git", "path": "refused"}])
    assert commit in log, log
    assert source.asked and all("Authorization" in headers for _, headers in source.asked)
    assert [path for path, _ in setting.source.asked] == ["/smart/refused.git/info/refs"]
    assert "Authorization" not in setting.source.asked[0][1], "the credential went elsewhere"
    assert "s3cret" not in log and base64.b64encode(b"x:s3cret").decode() not in log
    source.is_closed.set()
    source.shutdown()
    source.server_close()
    setting.end()


@case("a git tree that is too large costs only itself")
def git_too_large(scene):
    path = scene.directory / "large"
    path.mkdir()
    git(path, "init", "-q")
    git(path, "config", "core.compression", "0")
    (path / "noise").write_bytes(os.urandom(24 * 1024 * 1024))
    git(path, "add", ".")
    git(path, "commit", "-qm", "large")
    setting = Setting(scene, [bash("cat .holt/stage-errors.txt good", "larger than(.|\n)*good$")],
                      "--stage-allow", f"file://{path}", "--stage-max-size", "1M")
    setting.serve("/good", b"good")
    setting.play([{"kind": "git", "url": f"file://{path}", "path": "large"},
                  {"kind": "file", "url": setting.source.url + "/good", "path": "good"}])
    state = next(scene.directory.glob("state-*"))
    assert os.listdir(state / "front" / "stage") == [], "git left its files"
    setting.end()


@case("a git server that hangs costs the time for staging, and git ends with it")
def git_hangs(scene):
    setting = Setting(scene, [bash("cat .holt/stage-errors.txt", "hang.git: it took too long")],
                      "--stage-timeout", "3s")
    setting.serve("/hang.git/info/refs", "hang")
    setting.play([{"kind": "git", "url": setting.source.url + "/hang.git", "path": "hang"}])
    state = next(scene.directory.glob("state-*"))
    assert os.listdir(state / "front" / "stage") == [], "git left its files"
    setting.end()


run()
