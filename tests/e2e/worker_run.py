#!/usr/bin/env python3
"""`holt worker run` against a control plane of faults, with a stand-in hand.

Each case is one thing that a real control plane does to a worker: leases lost, posts refused, streams
cut, calls that wait for a person. When one fails, a session hangs, a command runs twice, or one runs
that nobody allowed.
"""
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import urllib.parse

HOLT = os.environ["HOLT"]
HAND = pathlib.Path(__file__).resolve().parent / "stand_in_hand.py"
WAIT_SECONDS = 60
IDLE = {"id": "e_idle", "type": "session.status_idle", "stop_reason": {"type": "end_turn"}}


def use(identity, command="x", **more):
    return {"id": identity, "type": "agent.tool_use", "name": "bash",
            "input": {"command": command}, **more}


def result(identity):
    return {"id": f"r_{identity}", "type": "user.tool_result", "tool_use_id": identity}


class Plane(http.server.ThreadingHTTPServer):
    """One session: `history` is listed, `live` goes to each attached stream in turn."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Condition()
        self.history, self.live = [], []
        self.log, self.posted, self.streams, self.beats = [], [], 0, []
        self.status, self.post_codes, self.beat_codes, self.list_codes = "running", [], [], []
        self.beat_state, self.ttl, self.page, self.is_closed, self.cut = "active", 60, 1000, False, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass  # a worker that ends closes its stream

    def emit(self, *events):
        with self.lock:
            self.history += events
            self.live += events
            self.lock.notify_all()

    def until(self, condition, what):
        with self.lock:
            if not self.lock.wait_for(condition, WAIT_SECONDS):
                raise AssertionError(f"waited for {what}; log: {self.log}")

    def close(self):
        with self.lock:
            self.is_closed = True
            self.lock.notify_all()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def fault(self, codes):
        code = codes.pop(0) if codes else 200
        if code != 200:
            self.answer({"type": "error", "error": {"type": "api_error", "message": "fault"}}, code,
                        [("request-id", "req_7"), ("retry-after-ms", "5")])
        return code != 200

    def do_GET(self):
        plane, parts = self.server, urllib.parse.urlsplit(self.path)
        with plane.lock:
            plane.log.append((self.command, self.path, dict(self.headers)))
            plane.lock.notify_all()
        if parts.path == "/v1/sessions/sesn_1":
            self.answer({"type": "session", "id": "sesn_1", "status": plane.status})
        elif parts.path.endswith("/events"):
            if self.fault(plane.list_codes):
                return
            start = int(urllib.parse.parse_qs(parts.query).get("page", ["0"])[0])
            with plane.lock:
                data, total = plane.history[start:start + plane.page], len(plane.history)
            more = start + plane.page
            self.answer({"data": data, "next_page": str(more) if more < total else None})
        elif parts.path.endswith("/events/stream"):
            self.stream(plane)
        else:
            self.answer({}, 404)

    def stream(self, plane):
        with plane.lock:  # before the header: what comes after it must be seen
            plane.streams += 1
            at = len(plane.live)
            plane.lock.notify_all()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(b": ping\n\n")
        while True:
            with plane.lock:
                plane.lock.wait_for(lambda: plane.is_closed or plane.cut or at < len(plane.live))
                if plane.is_closed or plane.cut:
                    plane.cut = 0
                    self.close_connection = True
                    return
                event, at = plane.live[at], at + 1
            if isinstance(event, bytes):
                self.wfile.write(event)
            else:
                self.wfile.write(b"event: %s\ndata: %s\n\n"
                                 % (event["type"].encode(), json.dumps(event).encode()))
            self.wfile.flush()

    def do_POST(self):
        plane, parts = self.server, urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with plane.lock:
            plane.log.append((self.command, self.path, dict(self.headers)))
            plane.lock.notify_all()
        if parts.path.endswith("/heartbeat"):
            plane.beats.append(urllib.parse.parse_qs(parts.query)["expected_last_heartbeat"][0])
            if not self.fault(plane.beat_codes):
                self.answer({"type": "work_heartbeat", "state": plane.beat_state,
                             "last_heartbeat": f"2026-01-01T00:00:00.{len(plane.beats)}+00:00",
                             "lease_extended": True, "ttl_seconds": plane.ttl})
        elif parts.path.endswith("/events"):
            if self.fault(plane.post_codes):
                return
            events = json.loads(body)["events"]
            self.answer({"data": events})
            with plane.lock:
                plane.posted += events
                plane.lock.notify_all()
        else:
            self.answer({"type": "work", "id": "work_1"})


class Worker:
    def __init__(self, plane, *more, environment=None):
        self.log_file = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [HOLT, "worker", "run", "--session-id", "sesn_1", "--work-id", "work_1",
             "--environment-id", "env_1", "--base-url", f"http://127.0.0.1:{plane.server_port}",
             "--max-idle", "100ms", "--log-level", "debug", *more],
            stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=self.log_file,
            env={**os.environ, "HOLT_HAND": str(HAND),
                 "ANTHROPIC_ENVIRONMENT_KEY": "sk-ant-oat01-key", **(environment or {})})

    def wait(self):
        return self.process.wait(WAIT_SECONDS)

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read().decode(errors="replace")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log_file.close()


cases = []


def case(function):
    cases.append(function)
    return function


def texts(plane):
    return {event["tool_use_id"]: event["content"][0]["text"] for event in plane.posted}


def stopped(plane):
    return any(path.endswith("/stop") for _, path, _ in plane.log)


@case
def a_call_of_the_history_is_answered_and_the_item_stopped(plane, start):
    plane.history = [use("a"), result("a"), use("b", name="read", input={"file_path": "f"})]
    worker = start()
    plane.until(lambda: plane.posted, "a result")
    plane.emit(IDLE)
    assert worker.wait() == 0, worker.log()
    assert [event["tool_use_id"] for event in plane.posted] == ["b"]
    event = plane.posted[0]
    assert list(event) == ["type", "tool_use_id", "is_error", "content"], event
    assert json.loads(texts(plane)["b"]) == ["read", {"file_path": "f"}, []], event
    assert stopped(plane)
    order = [re.sub(r"\?.*", "", path).split("/")[-1] for _, path, _ in plane.log]
    assert order[:4] == ["heartbeat", "sesn_1", "stream", "events"], order
    headers = {name.lower(): value for name, value in plane.log[0][2].items()}
    assert headers["authorization"] == "Bearer sk-ant-oat01-key"
    assert headers["anthropic-version"] == "2026-10-21"
    assert headers["anthropic-beta"] == "managed-agents-2026-04-01"
    assert "x-api-key" not in headers
    assert "sk-ant-oat01" not in worker.log()


@case
def the_token_of_the_secret_is_used_and_no_key_needed(plane, start):
    import base64
    secret = base64.urlsafe_b64encode(b'{"sessions_token":"tok-1"}').decode().rstrip("=")
    plane.history = [IDLE]
    worker = start(environment={"ANTHROPIC_ENVIRONMENT_KEY": "", "ANTHROPIC_WORK_SECRET": secret})
    assert worker.wait() == 0, worker.log()
    for _, path, headers in plane.log:
        named = {name.lower(): value for name, value in headers.items()}
        assert named["authorization"] == "Bearer tok-1", path
    assert "tok-1" not in worker.log()


@case
def history_comes_in_pages_and_stream_and_history_are_not_run_twice(plane, start):
    plane.page = 2
    plane.history = [use(f"c{i}") for i in range(7)]
    worker = start()
    plane.until(lambda: len(plane.posted) == 7, "seven results")
    plane.live += [use("c3"), use("c6")]
    plane.emit(use("d"))
    plane.until(lambda: len(plane.posted) >= 8, "the eighth")
    plane.emit(IDLE)
    assert worker.wait() == 0, worker.log()
    assert sorted(texts(plane)) == [f"c{i}" for i in range(7)] + ["d"]
    assert len(plane.posted) == 8


@case
def ask_waits_deny_never_runs_and_others_tools_are_left_alone(plane, start):
    plane.history = [use("ask1", evaluated_permission="ask"), use("ask2", evaluated_permission="ask"),
                     use("deny", evaluated_permission="deny"), use("odd", evaluated_permission="?"),
                     use("allow", evaluated_permission="allow"), use("mine", name="teleport"),
                     {**use("custom"), "type": "agent.custom_tool_use"}]
    worker = start()
    plane.until(lambda: plane.posted, "the allowed call")
    plane.emit({"id": "n1", "type": "user.tool_confirmation", "tool_use_id": "ask2", "result": "deny"},
               {"id": "n2", "type": "user.tool_confirmation", "tool_use_id": "ask1", "result": "allow"})
    plane.until(lambda: len(plane.posted) == 2, "the confirmed call")
    plane.emit({"id": "n3", "type": "user.tool_confirmation", "tool_use_id": "odd", "result": "deny"},
               IDLE)
    assert worker.wait() == 0, worker.log()
    assert sorted(texts(plane)) == ["allow", "ask1"]


@case
def a_post_that_fails_for_a_while_is_repeated(plane, start):
    plane.history = [use("a")]
    plane.post_codes = [500, 429]
    worker = start()
    plane.until(lambda: plane.posted, "the result")
    plane.emit(IDLE)
    assert worker.wait() == 0, worker.log()
    assert list(texts(plane)) == ["a"]


@case
def a_cut_stream_is_attached_again_and_nothing_is_lost(plane, start):
    worker = start()
    plane.until(lambda: plane.streams == 1, "the stream")
    with plane.lock:
        plane.cut = 1
        plane.history += [use("missed"), use("answered"), result("answered")]
        plane.lock.notify_all()
    plane.until(lambda: plane.posted, "the missed call")
    plane.emit(IDLE)
    assert worker.wait() == 0, worker.log()
    assert plane.streams == 2 and list(texts(plane)) == ["missed"], plane.posted


@case
def a_list_that_fails_is_no_end(plane, start):
    plane.list_codes = [500] * 4
    plane.history = [use("a")]
    worker = start()
    plane.until(lambda: plane.posted, "the result")
    plane.emit(IDLE)
    assert worker.wait() == 0, worker.log()


@case
def nonsense_on_the_stream_is_survived(plane, start):
    worker = start()
    plane.until(lambda: any("/events?" in path for _, path, _ in plane.log), "the list")
    huge = {"id": "huge", "type": "agent.message", "content": "x" * (10 << 20)}
    plane.live += [b"data: {\n\n", b"data: [1]\n\n", b":::\n\0\r\r\n", b"event: ping\n\n", huge,
                   {"type": "agent.dreaming"}, {"type": "agent.tool_use", "id": 7, "name": []},
                   b"event: agent.tool_use\ndata: {\"type\":\"agent.tool_use\"}\n\n"]
    plane.emit(use("after"))
    plane.until(lambda: plane.posted, "the call after it")
    plane.emit(IDLE)
    assert worker.wait() == 0, worker.log()


@case
def a_lost_lease_ends_without_stopping_the_item(plane, start):
    plane.ttl = 2
    plane.beat_codes = [200, 412]
    plane.history = [use("a", "sleep")]
    worker = start()
    assert worker.wait() == 1, worker.log()
    assert not stopped(plane) and not plane.posted, plane.log
    assert plane.beats == ["NO_HEARTBEAT", "2026-01-01T00:00:00.1+00:00"], plane.beats
    assert "lease" in worker.log() and "412" in worker.log(), worker.log()


@case
def heartbeats_that_fail_for_a_while_are_repeated(plane, start):
    plane.beat_codes = [500]
    plane.history = [IDLE]
    worker = start()
    assert worker.wait() == 0, worker.log()
    assert plane.beats[:2] == ["NO_HEARTBEAT", "NO_HEARTBEAT"]


@case
def an_item_that_is_stopping_is_not_begun(plane, start):
    plane.beat_state = "stopping"
    plane.history = [use("a")]
    worker = start()
    assert worker.wait() == 0, worker.log()
    assert not plane.posted and plane.streams == 0
    assert "stopping" in worker.log()


@case
def a_terminated_session_is_only_stopped(plane, start):
    plane.status = "terminated"
    plane.history = [use("a")]
    worker = start()
    assert worker.wait() == 0, worker.log()
    assert not plane.posted and plane.streams == 0 and stopped(plane)


@case
def termination_ends_the_session(plane, start):
    worker = start("--max-idle", "0")
    plane.until(lambda: plane.streams == 1, "the stream")
    plane.emit({"id": "t", "type": "session.status_terminated"})
    assert worker.wait() == 0, worker.log()
    assert stopped(plane)


@case
def an_interrupt_cancels_what_runs(plane, start):
    plane.history = [use("a", "sleep")]
    worker = start()
    plane.until(lambda: any("/events?" in path for _, path, _ in plane.log), "the list")
    plane.emit({"id": "i", "type": "user.interrupt"})
    plane.until(lambda: plane.posted, "the cancelled call's result")
    plane.emit(IDLE)
    assert worker.wait() == 0, worker.log()
    assert plane.posted[0]["is_error"] is True


@case
def calls_of_an_ended_thread_are_dropped(plane, start):
    plane.history = [use("held", evaluated_permission="ask", session_thread_id="th1"),
                     {"id": "x", "type": "session.thread_status_terminated", "session_thread_id": "th1"},
                     use("late", session_thread_id="th1"), use("other", session_thread_id="th2")]
    worker = start()
    plane.until(lambda: plane.posted, "the other thread's call")
    plane.emit({"id": "n", "type": "user.tool_confirmation", "tool_use_id": "held", "result": "allow"},
               IDLE)
    assert worker.wait() == 0, worker.log()
    assert list(texts(plane)) == ["other"], plane.posted
    assert plane.posted[0].get("session_thread_id") == "th2", plane.posted


@case
def requires_action_is_no_end_of_the_turn(plane, start):
    plane.history = [{"id": "q", "type": "session.status_idle",
                      "stop_reason": {"type": "requires_action", "event_ids": ["a"]}}]
    worker = start()
    plane.until(lambda: any("/events?" in path for _, path, _ in plane.log), "the list")
    plane.emit(use("a"))
    plane.until(lambda: plane.posted, "the result")
    assert worker.process.poll() is None
    plane.emit(IDLE)
    assert worker.wait() == 0, worker.log()


@case
def a_hand_that_dies_ends_the_item_with_a_clear_line(plane, start):
    plane.history = [use("a", "die")]
    worker = start()
    assert worker.wait() == 1, worker.log()
    assert "hand" in worker.log() and stopped(plane), worker.log()


@case
def a_signal_ends_the_session_and_stops_the_item(plane, start):
    plane.history = [use("a", "sleep"), use("b")]
    worker = start()
    plane.until(lambda: plane.posted, "the call beside it")
    worker.process.send_signal(signal.SIGTERM)
    worker.process.send_signal(signal.SIGINT)
    assert worker.wait() == 0, worker.log()
    assert stopped(plane)


@case
def a_wrong_key_ends_with_a_clear_line(plane, start):
    plane.beat_codes = [401] * 9
    worker = start()
    assert worker.wait() == 1, worker.log()
    assert "401" in worker.log() and "req_7" in worker.log(), worker.log()


def main():
    print(f"1..{len(cases)}", flush=True)
    failed = False
    for number, function in enumerate(cases, 1):
        name = function.__name__.replace("_", " ")
        plane, workers = Plane(), []

        def start(*more, environment=None):
            workers.append(Worker(plane, *more, environment=environment))
            return workers[-1]
        try:
            function(plane, start)
            print(f"ok {number} - {name}", flush=True)
        except Exception:
            failed = True
            print(f"not ok {number} - {name}", flush=True)
            logs = "".join(worker.log() for worker in workers)
            for line in (traceback.format_exc() + logs).splitlines():
                print(f"# {line[:2000]}", flush=True)
        finally:
            for worker in workers:
                worker.close()
            plane.close()
    sys.exit(1 if failed else 0)


main()
