#!/usr/bin/env python3
"""Cold wake: how long a webhook takes when it first has to start the daemon.

usage: bench/cold_wake.py HOLT [RUNS]

This program is the service manager (it holds the listening socket and starts `holt serve` when
somebody knocks), the sender of the webhook, and the control plane. Each run is a connection from
nothing to a claimed work item; the daemon then leaves by --exit-when-idle. Beside it, the same
deliveries to a daemon that stays. Times are of this process's clock: from before connect(2).
"""
import base64
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

KEY = b"holt-bench-signing-key-012345678"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
WAIT_SECONDS = 60
# Starts the daemon as systemd does: the socket is descriptor 3, meant for this process id.
ACTIVATE = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&{}'


class ControlPlane:
    """A queue of one item at a time; notes when it is acknowledged and ends its session at once."""

    def __init__(self):
        plane = self
        self.queued = None
        self.acknowledged = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self, body):
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                if "/work/poll" in self.path:
                    item, plane.queued = plane.queued, None
                    self.answer(item)
                else:  # a session that is over: nothing to run
                    self.answer({"type": "session", "id": "sesn_1", "status": "terminated",
                                 "agent": {"type": "agent", "skills": [], "tools": []},
                                 "resources": [], "metadata": {}, "data": [], "next_page": None})

            def do_POST(self):
                length = int(self.headers.get("content-length", 0))
                self.rfile.read(length)
                if self.path.endswith("/ack"):
                    plane.acknowledged[self.path.split("/")[-2]] = time.monotonic()
                self.answer({"type": "work_heartbeat", "state": "stopping", "lease_extended": False,
                             "last_heartbeat": "2026-01-01T00:00:00Z", "ttl_seconds": 120})

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a daemon that leaves hangs up
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def queue(self, work_id):
        self.queued = {"type": "work", "id": work_id, "environment_id": "env_1", "state": "queued",
                       "data": {"type": "session", "id": "sesn_1"}, "metadata": {}, "secret": None}

    def wait_acknowledged(self, work_id):
        deadline = time.monotonic() + WAIT_SECONDS
        while work_id not in self.acknowledged:
            if time.monotonic() > deadline:
                raise SystemExit(f"cold_wake: {work_id} was not claimed")
            time.sleep(0.0005)
        return self.acknowledged[work_id]


def delivery(name):
    body = json.dumps({"type": "event", "id": name, "data": {
        "type": "session.status_run_started", "id": "sesn_1"}}).encode()
    timestamp = int(time.time())
    signature = base64.b64encode(hmac.new(
        KEY, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()).decode()
    return (f"POST /webhook HTTP/1.1\r\nHost: h\r\nwebhook-id: {name}\r\n"
            f"webhook-timestamp: {timestamp}\r\nwebhook-signature: v1,{signature}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


class Bench:
    def __init__(self, holt, directory):
        self.holt = holt
        self.directory = directory
        self.plane = ControlPlane()
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(64)
        self.serial = 0

    def start(self, *options):
        """Starts the daemon without waiting for anything."""
        with open(self.directory / "serve.log", "ab") as log:
            return subprocess.Popen(
                ["bash", "-c", ACTIVATE.format(self.socket.fileno()), "activate", self.holt,
                 "serve", "--environment-id", "env_1", "--base-url", self.plane.url,
                 "--state-dir", str(self.directory / "state"), "--poll", "never", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "ANTHROPIC_ENVIRONMENT_KEY": "sk-bench",
                     "ANTHROPIC_WEBHOOK_SIGNING_KEY": SECRET},
                pass_fds=(self.socket.fileno(),))

    def wake(self, start=None):
        """Delivers one webhook for one item; milliseconds to its answer and to the item's claim."""
        self.serial += 1
        work_id = f"work_{self.serial}"
        self.plane.queue(work_id)
        begun = time.monotonic()
        with socket.create_connection(self.socket.getsockname(), WAIT_SECONDS) as connection:
            connection.sendall(delivery(f"msg_{os.getpid()}_{self.serial}"))
            process = start() if start is not None else None
            answer = connection.recv(4096)
            answered = time.monotonic()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"cold_wake: answered {answer[:40]!r}")
        claimed = self.plane.wait_acknowledged(work_id)
        return (answered - begun) * 1000, (claimed - begun) * 1000, process


def line(name, values):
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{name:<44} p50 {statistics.median(ordered):8.2f} ms   p99 {p99:8.2f} ms   "
          f"best {ordered[0]:8.2f} ms   n {len(ordered)}")


def main():
    holt = os.path.abspath(sys.argv[1])
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    if os.geteuid() != 0:
        raise SystemExit("cold_wake: the daemon needs root")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="holt-bench-"))
    directory.chmod(0o755)
    try:
        bench = Bench(holt, directory)
        cold = []
        for _ in range(runs):
            answered, claimed, process = bench.wake(
                lambda: bench.start("--exit-when-idle", "50ms"))
            if process.wait(WAIT_SECONDS) != 0:
                raise SystemExit("cold_wake: " + (directory / "serve.log").read_text()[-2000:])
            cold.append((answered, claimed))
        daemon = bench.start("--webhook-debounce", "20ms")
        bench.wake()
        warm = [bench.wake()[:2] for _ in range(runs)]
        daemon.terminate()
        daemon.wait(WAIT_SECONDS)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    line("cold: connection to webhook answered", [answered for answered, _ in cold])
    line("cold: connection to work item claimed", [claimed for _, claimed in cold])
    line("warm: connection to webhook answered", [answered for answered, _ in warm])
    line("warm: connection to work item claimed", [claimed for _, claimed in warm])


main()
