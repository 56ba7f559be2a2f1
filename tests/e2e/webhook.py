#!/usr/bin/env python3
"""POST /webhook of `holt serve` under attack, over TLS, and as the way to hear of work.

When one of these fails, a stranger can wake or block the daemon, or a session is not served.
Strangers' deliveries go to a daemon whose control plane counts its polls: a poll that nobody but an
attacker asked for would be a forgery that was believed.
"""
import atexit
import base64
import hashlib
import hmac
import http.server
import json
import os
import select
import socket
import ssl
import subprocess
import threading
import time

from harness import Scene, case, needs_root, run, wait_until

KEY = b"holt-test-signing-key-0123456789"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OTHER_KEY = b"holt-another-key-of-the-rotation"
OTHER_SECRET = "whsec_" + base64.b64encode(OTHER_KEY).decode()
STARTED = "session.status_run_started"
BODY_LIMIT = 64 * 1024
ANSWER_SECONDS = 60
CONNECTIONS_PER_PEER = 128

_serial = 0


def new_id():
    global _serial
    _serial += 1
    return f"msg_{_serial:06d}"


def event(kind=STARTED, session="sesn_01TEST"):
    return json.dumps({"type": "event", "id": "event_01TEST", "data": {
        "type": kind, "id": session, "organization_id": "org_1"}}).encode()


def mac(webhook_id, timestamp, body, key=KEY, algorithm="sha256"):
    if isinstance(webhook_id, str):
        webhook_id = webhook_id.encode()
    text = webhook_id + b"." + str(timestamp).encode() + b"." + body
    return base64.b64encode(hmac.new(key, text, algorithm).digest()).decode()


def request(headers, body, target="/webhook", method="POST", length=True):
    """The bytes of a request; headers are (name, value) pairs, in this order."""
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: holt"]
    for name, value in headers:
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes)
                                              else value.encode()))
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def signed_headers(body, webhook_id=None, timestamp=None, key=KEY):
    webhook_id = webhook_id or new_id()
    timestamp = int(time.time()) if timestamp is None else timestamp
    return [("webhook-id", webhook_id), ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", "v1," + mac(webhook_id, timestamp, body, key))]


def good(webhook_id=None, body=None, key=KEY):
    body = event() if body is None else body
    return request(signed_headers(body, webhook_id, key=key), body)


def connect(address, source=None):
    return socket.create_connection(address, ANSWER_SECONDS,
                                    None if source is None else (source, 0))


def status_of(connection):
    """The status that a connection is answered with; None when it is closed without one."""
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                return None
            head += piece
    except ConnectionError:
        return None
    return int(head.split(b" ", 2)[1])


def deliver(address, data, hang_up=False):
    """Sends bytes and returns the status of the answer, or None."""
    with connect(address) as connection:
        try:
            connection.sendall(data)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # refused half-way, and perhaps said why
        return status_of(connection)


class CountingPlane:
    """A control plane with an empty queue, for a daemon that only its own webhooks may wake."""

    def __init__(self):
        plane = self
        self.polls = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                plane.polls += 1
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "4")
                self.end_headers()
                self.wfile.write(b"null")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a daemon that leaves hangs up
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Target:
    """A `holt serve` that listens for webhooks and polls only because of them."""

    def __init__(self, scene, *options, secrets=(SECRET,), environment=None):
        needs_root()
        self.plane = CountingPlane()
        number = len(scene.programs)
        ready = scene.directory / f"serve-{number}.ready"
        arguments = ["serve", "--environment-id", "env_1", "--base-url", self.plane.url,
                     "--state-dir", str(scene.directory / f"state-{number}"),
                     "--ready-file", str(ready), "--webhook-listen", "127.0.0.1:0",
                     "--poll", "never", "--log-level", "info,api=debug", *options]
        for index, secret in enumerate(secrets):
            path = scene.directory / f"secret-{number}-{index}"
            path.write_text(secret + "\n")
            arguments += ["--webhook-secret-file", str(path)]
        self.program = scene.start("serve", arguments, {"ANTHROPIC_ENVIRONMENT_KEY": "sk-x",
                                                        **(environment or {})})
        self.url = scene.ready_line(self.program, ready)
        host, port = self.url.split("/")[2].rsplit(":", 1)
        self.address = (host, int(port))
        wait_until(lambda: self.plane.polls == 1, "the first drain of the queue")

    def deliver(self, data, hang_up=False):
        return deliver(self.address, data, hang_up)

    def heard(self, webhook_id):
        """How often the daemon believed a delivery of this id."""
        return self.program.log().count(f"delivery {webhook_id}: ")


_shared = {}


def victim():
    """The daemon that all attacks of the list go to."""
    if not _shared:
        needs_root()
        scene = Scene()
        scene.__enter__()
        atexit.register(scene.__exit__)
        _shared["target"] = Target(scene)
    return _shared["target"]


# The attack list: a name, the bytes, and what they are answered with (None: no answer, closed).

def forged(name_and_value, body=None):
    """A good delivery with one header replaced, or left out when the value is None."""
    name, value = name_and_value
    body = event() if body is None else body
    headers = [(n, value if n == name else v) for n, v in signed_headers(body)]
    return request([(n, v) for n, v in headers if v is not None], body)


def signed_at(timestamp):
    body = event()
    return request(signed_headers(body, timestamp=timestamp), body)


def signature_by(make):
    """A delivery whose signature is make(id, timestamp, body)."""
    body, webhook_id, timestamp = event(), new_id(), int(time.time())
    return request([("webhook-id", webhook_id), ("webhook-timestamp", str(timestamp)),
                    ("webhook-signature", make(webhook_id, timestamp, body))], body)


def with_more(*headers):
    body = event()
    return request([*signed_headers(body), *headers], body)


def signed_id(webhook_id):
    """A delivery with an odd id, correctly signed over its bytes."""
    body, timestamp = event(), int(time.time())
    raw = webhook_id if isinstance(webhook_id, bytes) else webhook_id.encode()
    return request([("webhook-id", raw), ("webhook-timestamp", str(timestamp)),
                    ("webhook-signature", "v1," + mac(raw, timestamp, body))], body)


def oversized(chunked=False):
    body = event() + b" " * (BODY_LIMIT + 1)
    if not chunked:
        return request(signed_headers(body), body)
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 4096]), body[i:i + 4096])
                      for i in range(0, len(body), 4096)) + b"0\r\n\r\n"
    return request([*signed_headers(body), ("transfer-encoding", "chunked")], b"",
                   length=False) + pieces


def length_of(value):
    body = event()
    return request([*signed_headers(body), ("content-length", value)], body, length=False)


def hex_mac(webhook_id, timestamp, body):
    return "v1," + base64.b64decode(mac(webhook_id, timestamp, body)).hex()


def body_only(_, __, body):
    return "v1," + base64.b64encode(hmac.new(KEY, body, "sha256").digest()).decode()


def unkeyed(webhook_id, timestamp, body):
    text = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hashlib.sha256(text).digest()).decode()


def swapped(webhook_id, timestamp, body):
    return "v1," + mac(str(timestamp), webhook_id, body)


def shifted():
    """The signed text's first dot moved: id and timestamp trade a part."""
    body, webhook_id, timestamp = event(), new_id(), int(time.time())
    signature = mac(webhook_id, timestamp, body)
    return request([("webhook-id", f"{webhook_id}.{timestamp}"),
                    ("webhook-timestamp", ""), ("webhook-signature", "v1," + signature)], body)


def flipped(offset):
    body = event()
    changed = bytearray(body)
    changed[offset] ^= 1
    return request(signed_headers(body), bytes(changed))


def double(name, first=False):
    """A good delivery in which one header stands twice, once wrong."""
    body = event()
    headers = signed_headers(body)
    wrong = (name, "v1,AAAA" if name.endswith("signature") else "1")
    return request([wrong, *headers] if first else [*headers, wrong], body)


def smuggled():
    """Two lengths of two kinds: a proxy and we would disagree where the body ends."""
    body = event()
    return request([*signed_headers(body), ("transfer-encoding", "chunked")],
                   b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


def folded():
    """The signature on a continuation line (RFC 9112 lets a server refuse that)."""
    body = event()
    headers = signed_headers(body)
    return request([*headers[:2], ("webhook-signature", "v1,\r\n " + headers[2][1][3:])], body)


NOW = int(time.time())
YEAR = 365 * 24 * 3600

ATTACKS = [
    ("no headers at all", lambda: request([], event()), 401),
    ("no webhook-id", lambda: forged(("webhook-id", None)), 401),
    ("no webhook-timestamp", lambda: forged(("webhook-timestamp", None)), 401),
    ("no webhook-signature", lambda: forged(("webhook-signature", None)), 401),
    ("an empty webhook-id", lambda: forged(("webhook-id", "")), 401),
    ("an empty webhook-timestamp", lambda: forged(("webhook-timestamp", "")), 401),
    ("an empty webhook-signature", lambda: forged(("webhook-signature", "")), 401),
    ("no body", lambda: request(signed_headers(b""), b""), 401),
    # Forged.
    ("another secret's signature",
     lambda: request(signed_headers(event(), key=OTHER_KEY), event()), 401),
    ("an empty key's signature", lambda: request(signed_headers(event(), key=b""), event()), 401),
    ("the secret's text as the key",
     lambda: request(signed_headers(event(), key=SECRET.encode()), event()), 401),
    ("the first byte of the body changed", lambda: flipped(0), 401),
    ("the last byte of the body changed", lambda: flipped(-1), 401),
    ("the session in the body changed",
     lambda: request(signed_headers(event()), event(session="sesn_OTHER")), 401),
    ("a byte appended to the body", lambda: request(signed_headers(event()), event() + b" "), 401),
    ("the id of another delivery", lambda: forged(("webhook-id", "msg_other")), 401),
    ("the timestamp moved by a second", lambda: forged(("webhook-timestamp", str(NOW + 7))), 401),
    ("a signature of the body only", lambda: signature_by(body_only), 401),
    ("a digest without a key", lambda: signature_by(unkeyed), 401),
    ("id and timestamp signed in the wrong order", lambda: signature_by(swapped), 401),
    ("the boundary of id and timestamp moved", shifted, 401),
    ("a signature in hexadecimal", lambda: signature_by(hex_mac), 401),
    ("SHA-1", lambda: signature_by(lambda *a: "v1," + mac(*a, algorithm="sha1")), 401),
    ("SHA-512", lambda: signature_by(lambda *a: "v1," + mac(*a, algorithm="sha512")), 401),
    ("a truncated signature", lambda: signature_by(lambda *a: "v1," + mac(*a)[:-8]), 401),
    ("a truncated signature with its padding",
     lambda: signature_by(lambda *a: "v1," + mac(*a)[:-8] + "===="), 401),
    ("a lengthened signature", lambda: signature_by(lambda *a: "v1," + mac(*a) + "AAAA"), 401),
    ("version v2", lambda: signature_by(lambda *a: "v2," + mac(*a)), 401),
    ("version V1", lambda: signature_by(lambda *a: "V1," + mac(*a)), 401),
    ("version v1a (asymmetric)", lambda: signature_by(lambda *a: "v1a," + mac(*a)), 401),
    ("no version", lambda: signature_by(lambda *a: mac(*a)), 401),
    ("a version and nothing", lambda: signature_by(lambda *a: "v1,"), 401),
    ("commas instead of blanks",
     lambda: signature_by(lambda *a: "v1,AAAA,v1," + mac(*a)), 401),
    ("500 wrong signatures", lambda: signature_by(lambda *a: "v1,AAAA " * 500), 401),
    ("the right signature behind 4096 bytes",
     lambda: signature_by(lambda *a: "v1,AAAA " * 520 + "v1," + mac(*a)), 401),
    # Replayed.
    ("replayed after 301 s", lambda: signed_at(int(time.time()) - 301), 401),
    ("replayed after a year", lambda: signed_at(NOW - YEAR), 401),
    ("from 310 s ahead", lambda: signed_at(int(time.time()) + 310), 401),
    ("from a year ahead", lambda: signed_at(NOW + YEAR), 401),
    ("a timestamp in milliseconds", lambda: signed_at(NOW * 1000), 401),
    ("a timestamp of zero", lambda: signed_at(0), 401),
    ("a negative timestamp", lambda: signed_at(-NOW), 401),
    ("a hexadecimal timestamp", lambda: signed_at(hex(NOW)), 401),
    ("a fractional timestamp", lambda: signed_at(f"{NOW}.0"), 401),
    ("a timestamp with a sign", lambda: signed_at(f"+{NOW}"), 401),
    ("a timestamp that wraps 64 bits", lambda: signed_at(2**64 + NOW), 401),
    ("a timestamp with text behind it", lambda: signed_at(f"{NOW}x"), 401),
    # Headers out of order, doubled, odd.
    ("two webhook-ids, the wrong one first", lambda: double("webhook-id", True), 401),
    ("two webhook-ids, the wrong one last", lambda: double("webhook-id"), 401),
    ("two timestamps", lambda: double("Webhook-Timestamp"), 401),
    ("two signature headers, the wrong one first", lambda: double("webhook-signature", True), 401),
    ("two signature headers, the wrong one last", lambda: double("WEBHOOK-SIGNATURE"), 401),
    ("the headers behind the body",
     lambda: request([], event()) + b"\r\n".join(
         f"{n}: {v}".encode() for n, v in signed_headers(event())) + b"\r\n\r\n", 401),
    ("chunked and with a length", smuggled, (400, 401)),  # libevent itself, or we
    ("two lengths", lambda: with_more(("content-length", "5")), 401),
    ("a header without a colon", lambda: request([], b"").replace(
        b"Host: holt", b"Host: holt\r\nnonsense"), 400),
    ("a signature on a continuation line", folded, 401),
    ("a thousand headers", lambda: with_more(*[(f"x-{i}", "y" * 20) for i in range(1000)]), 400),
    ("one header of a megabyte", lambda: with_more(("x", "y" * 2**20)), 400),
    # Unicode.
    ("an id in Cyrillic, signed", lambda: signed_id("мsg_1"), 401),
    ("an id with a right-to-left override, signed", lambda: signed_id("msg_\u202e1"), 401),
    ("an id that is no UTF-8, signed", lambda: signed_id(b"msg_\xff\xfe"), 401),
    ("an id with blanks, signed", lambda: signed_id("msg 1"), 401),
    ("an id with a NUL, signed", lambda: signed_id(b"msg_\x001"), 401),
    ("an id of 129 characters, signed", lambda: signed_id("m" * 129), 401),
    ("full-width digits as a timestamp",
     lambda: forged(("webhook-timestamp", str(NOW).translate(
         {ord("0") + i: 0xff10 + i for i in range(10)}))), 401),
    ("a Cyrillic letter in the version",
     lambda: signature_by(lambda *a: "\u03bd1," + mac(*a)), 401),
    ("a byte order mark before the body",
     lambda: request(signed_headers(event()), b"\xef\xbb\xbf" + event()), 401),
    # Truncated and oversized.
    ("a body of 64 KiB and more, signed", oversized, 413),
    ("a chunked body of 64 KiB and more, signed", lambda: oversized(True), 413),
    ("a length of ten gigabytes", lambda: length_of("10000000000"), 413),
    ("a length beyond 64 bits", lambda: length_of("99999999999999999999"), 413),
    ("a negative length", lambda: length_of("-1"), 400),
    ("a length that is no number", lambda: length_of("many"), 400),
    ("a chunk size that is no number",
     lambda: request([*signed_headers(event()), ("transfer-encoding", "chunked")], b"",
                     length=False) + b"zz\r\n", (400, 413)),
    # No delivery at all.
    ("GET", lambda: request(signed_headers(event()), event(), method="GET"), 405),
    ("PUT", lambda: request(signed_headers(event()), event(), method="PUT"), 405),
    ("OPTIONS", lambda: request([], b"", method="OPTIONS"), 405),
    ("a method nobody knows", lambda: request([], b"", method="WAKE"), 501),
    ("another path", lambda: request(signed_headers(event()), event(), "/"), 404),
    ("the path with a slash", lambda: request(signed_headers(event()), event(), "/webhook/"), 404),
    ("the path in capitals", lambda: request(signed_headers(event()), event(), "/WEBHOOK"), 404),
    ("the path by a detour",
     lambda: request(signed_headers(event()), event(), "/x/../webhook"), 404),
    ("the path with a NUL", lambda: request(signed_headers(event()), event(), "/webhook%00"), 400),
    ("a path out of the tree", lambda: request([], b"", "/../../etc/shadow"), 404),
    ("the preface of HTTP/2", lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("a TLS handshake in plain HTTP", lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
    ("bytes at random", lambda: os.urandom(512).replace(b"\n", b"") + b"\r\n\r\n", 400),
    ("an empty line", lambda: b"\r\n\r\n", 400),
]

# Ended by the attacker half-way: nobody is there for an answer.
CUT = [
    ("cut in a header's name", lambda: good()[:40]),
    ("cut before the body", lambda: good().split(b"\r\n\r\n")[0] + b"\r\n\r\n"),
    ("cut before the last byte of the body", lambda: good()[:-1]),
    ("cut within a chunk", lambda: request(
        [*signed_headers(event()), ("transfer-encoding", "chunked")], b"", length=False) +
        b"%x\r\n" % len(event()) + event()[:-1]),
]


def register_attack(name, make, expected, hang_up=False):
    @case(f"attack: {name}")
    def attack(_):
        target = victim()
        status = target.deliver(make(), hang_up)
        assert status in (expected if isinstance(expected, tuple) else (expected,)), f"answered {status} instead of {expected}"
        assert target.program.process.poll() is None, "the daemon died of it"


for attack_name, attack_bytes, attack_status in ATTACKS:
    register_attack(attack_name, attack_bytes, attack_status)
for attack_name, attack_bytes in CUT:
    register_attack(attack_name, attack_bytes, None, hang_up=True)


@case("after all attacks: none was believed, and a good delivery still is")
def none_accepted(_):
    target = victim()
    assert "delivery msg_" not in target.program.log(), "an attack was believed"
    assert target.plane.polls == 1, f"an attack woke the daemon: {target.plane.polls} polls"
    assert target.deliver(good("msg_good")) == 200
    assert target.heard("msg_good") == 1
    wait_until(lambda: target.plane.polls > 1, "the poll of a good delivery")


# Slow peers.

SLOW = {
    "silent": b"",
    "half a request line": b"POST /webh",
    "headers without an end": b"POST /webhook HTTP/1.1\r\nHost: holt\r\nx: y\r\n",
    "a body that does not come": b"POST /webhook HTTP/1.1\r\nHost: h\r\nContent-Length: 999\r\n\r\n",
    "a chunk that does not come": b"POST /webhook HTTP/1.1\r\nHost: h\r\n"
                                  b"Transfer-Encoding: chunked\r\n\r\nff\r\n",
}


def is_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def hang(target, count, source=None):
    """Opens slow connections of every kind, as far as they are let in."""
    kinds = list(SLOW.values())
    connections = []
    for index in range(count):
        connection = connect(target.address, source)
        try:
            connection.sendall(kinds[index % len(kinds)])
        except ConnectionError:
            pass
        connections.append(connection)
    return connections


@case("slowloris: a good delivery is answered while 50 slow connections of its own address hang")
def slow_fifty(scene):
    target = Target(scene)
    slow = hang(target, 50)
    for number in range(5):
        assert target.deliver(good(f"msg_good_{number}")) == 200
    assert all(is_open(connection) for connection in slow), "the slow ones were not there"
    assert target.heard("msg_good_4") == 1


@case("slowloris: a thousand slow connections of one address push out each other, not a good one")
def slow_thousand(scene):
    target = Target(scene)
    slow = hang(target, 1000, "127.0.0.2")
    assert target.deliver(good("msg_good")) == 200
    still = wait_until(lambda: (sum(map(is_open, slow)) <= CONNECTIONS_PER_PEER) and
                       sum(map(is_open, slow)) + 1, "the cap on connections of an address")
    assert still > 1, "the cap closed them all"
    assert target.deliver(good("msg_from_the_attacked_address")) == 200


@case("slowloris: slow connections of 60 addresses do not keep a good delivery out")
def slow_addresses(scene):
    target = Target(scene)
    slow = [connection for host in range(2, 62)
            for connection in hang(target, 10, f"127.0.0.{host}")]
    for number in range(5):
        assert target.deliver(good(f"msg_good_{number}")) == 200
    assert sum(map(is_open, slow)) > 0


@case("slowloris: a request has ten seconds, however slowly it drips, and is then cut")
def slow_is_cut(scene):
    target = Target(scene)
    begun = time.monotonic()
    slow = hang(target, len(SLOW))
    drip = connect(target.address)
    data = good("msg_drip")
    sent = 0

    def all_cut():
        nonlocal sent
        if is_open(drip):
            try:
                drip.send(data[sent:sent + 1])
                sent += 1
            except OSError:
                pass
        time.sleep(0.1)
        return not any(map(is_open, [*slow, drip]))

    wait_until(all_cut, "the slow connections to be cut")
    assert sent < len(data)
    assert time.monotonic() - begun > 5, "they were cut before anybody could be called slow"
    assert target.deliver(good("msg_good")) == 200
    assert target.heard("msg_drip") == 0


@case("forgeries by the thousand are a few lines of log")
def log_is_bounded(scene):
    target = Target(scene)
    begun = time.monotonic()
    for _ in range(2000):
        assert target.deliver(request([], b"{}")) == 401
    seconds = time.monotonic() - begun
    lines = wait_until(lambda: [line for line in target.program.log().splitlines()
                                if "refused" in line], "a line of log")
    assert len(lines) <= seconds + 2, f"{len(lines)} lines in {seconds:.1f} s"
    wait_until(lambda: "more deliveries" in target.program.log(), "the count of the others")
    assert SECRET not in target.program.log() and KEY.decode() not in target.program.log()


# What is good.

@case("a delivery repeated with its id is answered 200 and dropped, also after a restart")
def repeated(scene):
    state = str(scene.directory / "state")
    target = Target(scene, "--state-dir", state)
    data = good("msg_once")
    for _ in range(3):
        assert target.deliver(data) == 200
    assert target.program.log().count("delivery msg_once: ") == 3
    assert target.program.log().count("seen before") == 2
    assert target.program.terminate() == 0
    again = Target(scene, "--state-dir", state)
    assert again.deliver(good("msg_once")) == 200
    assert "seen before" in again.program.log()
    assert again.plane.polls == 1, "a delivery was acted upon twice"


@case("with a full disk a delivery is acted upon and asked for again, until it can be noted")
def full_disk(scene):
    needs_root()
    state = scene.directory / "small"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", str(state)],
                   check=True)
    target = None
    try:
        target = Target(scene, "--state-dir", str(state))
        with open(state / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096) == 4096:
                    pass
            except OSError:
                pass
        # What was allocated before may take a few.
        refused = next((webhook_id for webhook_id in (f"msg_full_{n}" for n in range(20))
                        if target.deliver(good(webhook_id)) == 503), None)
        assert refused is not None, "everything was noted on a full disk"
        polls = target.plane.polls
        assert target.deliver(good(refused)) == 503
        wait_until(lambda: target.plane.polls > polls, "the poll all the same")
        (state / "filler").unlink()
        assert target.deliver(good(refused)) == 200
        assert target.deliver(good(refused)) == 200
        assert target.program.log().count(f"{refused}: {STARTED} sesn_01TEST: seen before") == 1
        assert target.program.terminate() == 0
    finally:
        if target is not None and target.program.process.poll() is None:
            target.program.process.kill()
            target.program.wait()
        subprocess.run(["umount", str(state)], check=True)


@case("during a rotation either secret signs, also the one of the SDK's variable")
def rotation(scene):
    target = Target(scene, secrets=(OTHER_SECRET,),
                    environment={"ANTHROPIC_WEBHOOK_SIGNING_KEY": SECRET})
    assert target.deliver(good("msg_old")) == 200
    assert target.deliver(good("msg_new", key=OTHER_KEY)) == 200
    assert target.deliver(good("msg_bad", key=b"neither of the two")) == 401
    assert SECRET not in open(f"/proc/{target.program.process.pid}/environ").read()


@case("headers in any order and in any case, and signatures among others, are good")
def any_order(scene):
    target = Target(scene)
    body = event()
    headers = signed_headers(body, "msg_order")
    mixed = [(name.title(), value) for name, value in reversed(headers)]
    assert target.deliver(request(mixed, body)) == 200
    headers = signed_headers(body, "msg_list")
    headers[2] = ("webhook-signature", "v1a,xyz v1,AAAA  " + headers[2][1] + " v2,q")
    assert target.deliver(request(headers, body)) == 200
    assert target.heard("msg_order") == 1 and target.heard("msg_list") == 1


@case("events that are not of use are answered 200 and wake nobody")
def not_of_use(scene):
    target = Target(scene)
    for kind in ("vault.created", "session.status_idled", "agent.updated", "not.yet.invented"):
        assert target.deliver(good(f"msg_{kind}", event(kind))) == 200
    assert target.deliver(good("msg_text", b"not an event at all")) == 200
    assert target.plane.polls == 1


@case("a burst of deliveries drains the queue once or twice, not a hundred times")
def burst(scene):
    target = Target(scene, "--webhook-debounce", "2s")
    for number in range(100):
        assert target.deliver(good(f"msg_{number}")) == 200
    wait_until(lambda: target.plane.polls > 1, "the poll after the burst")
    wait_until(lambda: target.plane.polls > 2, "its second look")
    assert target.plane.polls <= 6, target.plane.polls


# TLS.

def make_certificate(directory, name="holt"):
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", str(key), "-out", str(certificate)],
                   check=True, capture_output=True)
    key.chmod(0o600)
    return certificate, key


def curl(target, certificate, body, headers, *more):
    arguments = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result}",
                 "--cacert", str(certificate), "--data-binary", "@-", *more]
    for name, value in headers:
        arguments += ["-H", f"{name}: {value}"]
    return subprocess.run([*arguments, target.url], input=body, capture_output=True,
                          timeout=ANSWER_SECONDS)


@case("TLS: curl delivers with the certificate verified, by 1.2 and 1.3, and forgeries are refused")
def tls(scene):
    certificate, key = make_certificate(scene.directory)
    target = Target(scene, "--webhook-certificate", str(certificate), "--webhook-key", str(key))
    assert target.url.startswith("https://127.0.0.1:")
    for number, version in enumerate((("--tlsv1.2", "--tls-max", "1.2"), ("--tlsv1.3",))):
        body = event()
        answer = curl(target, certificate, body, signed_headers(body, f"msg_tls_{number}"),
                      *version)
        assert answer.stdout == b"200 0", answer
        assert target.heard(f"msg_tls_{number}") == 1
    assert curl(target, certificate, event(), []).stdout == b"401 0"
    stranger, _ = make_certificate(scene.directory, "stranger")
    assert curl(target, stranger, event(), []).returncode == 60  # not the certificate it knows


def handshake(target, *options):
    return subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % target.address, *options],
                          input=b"", capture_output=True, timeout=ANSWER_SECONDS)


@case("TLS: 1.1 and older, plain HTTP and broken handshakes get nowhere and hold nobody up")
def tls_refusals(scene):
    certificate, key = make_certificate(scene.directory)
    target = Target(scene, "--webhook-certificate", str(certificate), "--webhook-key", str(key))
    for version in ("-tls1", "-tls1_1"):
        answer = handshake(target, version, "-cipher", "DEFAULT@SECLEVEL=0")
        assert b"Cipher is (NONE)" in answer.stdout, answer
    answer = handshake(target, "-tls1_2", "-alpn", "h2,http/1.1")
    assert b"ALPN protocol: http/1.1" in answer.stdout, answer
    assert target.deliver(good("msg_plain")) is None
    assert target.deliver(b"\x16\x03\x01\xff\xff" + os.urandom(2000)) is None
    slow = [connect(target.address) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a handshake
    body = event()
    answer = curl(target, certificate, body, signed_headers(body, "msg_good"))
    assert answer.stdout == b"200 0", answer
    assert all(is_open(connection) for connection in slow)
    assert target.heard("msg_plain") == 0


@case("the daemon keeps no privilege, and its certificate's key need not be readable to it")
def tls_key_is_private(scene):
    certificate, key = make_certificate(scene.directory)
    target = Target(scene, "--webhook-certificate", str(certificate), "--webhook-key", str(key))
    status = open(f"/proc/{target.program.process.pid}/status").read()
    assert "CapEff:\t0000000000000000" in status, status
    assert "Uid:\t0\t" not in status, status
    assert oct(key.stat().st_mode)[-3:] == "600" and key.stat().st_uid == 0
    body = event()
    answer = curl(target, certificate, body, signed_headers(body))
    assert answer.stdout == b"200 0", answer


# The command line.

def refused(scene, *options, environment=None):
    program = scene.start("serve", [
        "serve", "--environment-id", "env_1", "--base-url", "http://127.0.0.1:1", "--state-dir",
        str(scene.directory / "state"), *options],
        {"ANTHROPIC_ENVIRONMENT_KEY": "sk-x", **(environment or {})})
    code = program.wait()
    return code, program.log()


@case("wrong settings of webhooks end the start with a line that says what to do")
def wrong_settings(scene):
    needs_root()
    listen = ("--webhook-listen", "127.0.0.1:0")
    secret = {"ANTHROPIC_WEBHOOK_SIGNING_KEY": SECRET}
    certificate, key = make_certificate(scene.directory)
    _, other_key = make_certificate(scene.directory, "other")
    (scene.directory / "bad-secret").write_text("whsec_!!!secret!!!\n")
    certified = ("--webhook-certificate", str(certificate))
    for options, environment, words in (
            (("--webhook-listen", "nowhere:1"), secret, "no IP address"),
            (("--webhook-listen", "127.0.0.1"), secret, "ADDRESS:PORT"),
            (listen, None, "need a secret"),
            ((*listen, "--webhook-secret-file", "/nonexistent"), None, "/nonexistent"),
            ((*listen, "--webhook-secret-file", str(scene.directory / "bad-secret")), None,
             "whsec_"),
            (listen, {"ANTHROPIC_WEBHOOK_SIGNING_KEY": "nonsense"},
             "ANTHROPIC_WEBHOOK_SIGNING_KEY"),
            ((*listen, *certified), secret, "belong together"),
            ((*listen, *certified, "--webhook-key", str(other_key)), secret, "mismatch"),
            ((*listen, *certified, "--webhook-key", "/nonexistent"), secret, "/nonexistent"),
            ((*listen, "--webhook-certificate", str(key), "--webhook-key", str(key)), secret,
             "certificate"),
            (("--poll", "never"), secret, "needs webhooks"),
            (("--poll", "sometimes"), secret, "always|recovery|never")):
        code, log = refused(scene, *options, environment=environment)
        assert code in (1, 2), f"{options}: exit {code}\n{log}"
        assert words in log, f"{options}: {log}"
        assert "!!!secret!!!" not in log


# The way to a served session.

STEPS = [{"calls": [{"name": "bash", "input": {"command": "echo served"},
                     "expect": {"text": "served"}}]}]


def listener():
    """A listening socket, for an address that is known before the daemon is."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", 0))
    made.listen(64)
    return made


def emulator_for(scene, socket_, steps=None):
    """An emulator that sends signed webhooks to that socket."""
    port = socket_.getsockname()[1]
    return scene.emulator({"default": {"steps": steps or STEPS}}, "--webhook-url",
                          f"http://127.0.0.1:{port}/webhook", "--webhook-secret", SECRET)


def activate(scene, socket_, plane, environment_id, key, *options):
    """Starts the daemon as systemd would: the socket is descriptor 3."""
    wrapper = f'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=webhook; exec "$@" 3<&{{0}}'
    return scene.start("serve", [
        "serve", "--environment-id", environment_id, "--base-url", plane.url, "--state-dir",
        str(scene.directory / "state"), "--log-level", "info,api=debug", *options],
        {"ANTHROPIC_ENVIRONMENT_KEY": key, "ANTHROPIC_WEBHOOK_SIGNING_KEY": SECRET},
        prefix=("bash", "-c", wrapper.format(socket_.fileno()), "activate"),
        pass_fds=(socket_.fileno(),))


@case("the emulator's signed webhook leads to a served session, without any other poll")
def served(scene):
    needs_root()
    with listener() as socket_:
        plane = emulator_for(scene, socket_)
        environment_id, key = plane.environment()
        daemon = activate(scene, socket_, plane, environment_id, key, "--poll", "never")
        wait_until(lambda: "serving environment" in daemon.log(), "the daemon to serve")
        for _ in range(3):
            plane.finished(plane.session(environment_id))
        assert STARTED in daemon.log()


@case("without a webhook the recovery poll finds the session")
def recovered(scene):
    needs_root()
    with listener() as socket_:
        plane = scene.emulator({"default": {"steps": STEPS}})  # sends no webhooks
        environment_id, key = plane.environment()
        daemon = activate(scene, socket_, plane, environment_id, key, "--poll", "recovery",
                          "--recovery-interval", "300ms")
        wait_until(lambda: "serving environment" in daemon.log(), "the daemon to serve")
        plane.finished(plane.session(environment_id))


@case("webhooks and polling together serve each session once")
def both(scene):
    needs_root()
    with listener() as socket_:
        plane = emulator_for(scene, socket_)
        environment_id, key = plane.environment()
        activate(scene, socket_, plane, environment_id, key, "--poll", "always")
        sessions = [plane.session(environment_id) for _ in range(5)]
        for session in sessions:
            plane.finished(session)
            assert len(plane.verdict(session)["results"]) == 1


# Scale to zero.

def wait_for_delivery(socket_):
    """What an activator does: waits until somebody knocks, and leaves it to the daemon."""
    readable, _, _ = select.select([socket_], [], [], ANSWER_SECONDS)
    assert readable, "nobody knocked"


@case("scale to zero: a webhook starts the daemon, it serves, leaves, and starts again")
def scale_to_zero(scene):
    needs_root()
    with listener() as socket_:
        plane = emulator_for(scene, socket_)
        environment_id, key = plane.environment()
        for round_number in range(3):
            session = plane.session(environment_id)  # nobody serves yet: its webhook waits
            wait_for_delivery(socket_)
            daemon = activate(scene, socket_, plane, environment_id, key, "--poll", "never",
                              "--exit-when-idle", "500ms", "--max-idle", "100ms")
            plane.finished(session)
            assert daemon.wait() == 0, daemon.log()
            assert STARTED in daemon.log(), f"round {round_number}: the webhook was lost"
            assert set(plane.work_states(environment_id)) == {"stopped"}


def sandboxes(scene):
    return sorted(entry.name for entry in (scene.directory / "state" / "sandboxes").iterdir())


def all_stopped(plane, environment_id):
    states = plane.work_states(environment_id)
    return bool(states) and set(states) == {"stopped"}


@case("a webhook that a session was deleted or archived ends its kept sandbox")
def ended_sessions(scene):
    needs_root()
    with listener() as socket_:
        plane = emulator_for(scene, socket_)
        environment_id, key = plane.environment()
        activate(scene, socket_, plane, environment_id, key, "--poll", "never", "--keep", "10m",
                 "--max-idle", "100ms")
        for method, suffix in (("DELETE", ""), ("POST", "/archive")):
            session = plane.session(environment_id)
            plane.finished(session)
            wait_until(lambda: all_stopped(plane, environment_id), "the item to be stopped")
            assert len(sandboxes(scene)) == 1
            plane.request(method, f"/v1/sessions/{session}{suffix}")
            wait_until(lambda: sandboxes(scene) == [], "the kept sandbox to end")


@case("scale to zero: the kept sandbox is as it was left when the next webhook starts the daemon")
def kept_over_zero(scene):
    needs_root()
    steps = [{"calls": [{"name": "bash", "input": {"command": "cd /tmp; export KEPT=yes; "
                         "(while sleep 0.05; do date +%N >/workspace/tick; done) >/dev/null 2>&1 &"
                         "\necho one"}, "expect": {"text": "one"}}]},
             {"end_turn": True},
             {"calls": [{"name": "bash", "input": {"command": "pwd; echo $KEPT; "
                         "a=$(cat /workspace/tick); sleep 0.3; "
                         "test \"$a\" != \"$(cat /workspace/tick)\" && echo ticking"},
                         "expect": {"text": "^/tmp\nyes\nticking$"}}]}]
    with listener() as socket_:
        plane = emulator_for(scene, socket_, steps)
        environment_id, key = plane.environment()
        options = ("--poll", "never", "--keep", "10m", "--max-idle", "100ms",
                   "--exit-when-idle", "300ms")
        session = plane.session(environment_id)
        wait_for_delivery(socket_)
        first = activate(scene, socket_, plane, environment_id, key, *options)
        assert first.wait() == 0, first.log()
        left = sandboxes(scene)
        assert len(left) == 1, left
        plane.message(session, "go on")
        wait_for_delivery(socket_)
        second = activate(scene, socket_, plane, environment_id, key, *options)
        plane.finished(session)
        assert sandboxes(scene) == left
        assert "as it was left" in second.log(), second.log()
        assert second.wait() == 0, second.log()


class Knocker(threading.Thread):
    """Delivers again and again, about when a daemon that was woken before would leave."""

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.is_stopped = threading.Event()
        self.answered = 0
        self.failed = []

    def run(self):
        while not self.is_stopped.is_set():
            status = deliver(self.address, good())
            if status == 200:
                self.answered += 1
            else:
                self.failed.append(status)
            # A wake takes a second look after a second, then the patience of 400 ms begins.
            self.is_stopped.wait(1.35 + self.answered % 8 * 0.03)


@case("scale to zero: deliveries that come while the daemon leaves are not lost")
def leaving_loses_nothing(scene):
    needs_root()
    plane = CountingPlane()
    with listener() as socket_:
        knocker = Knocker(socket_.getsockname())
        knocker.start()
        try:
            for _ in range(4):
                wait_for_delivery(socket_)
                daemon = activate(scene, socket_, plane, "env_1", "sk-x", "--poll", "never",
                                  "--exit-when-idle", "400ms")
                assert daemon.wait() == 0, daemon.log()
        finally:
            knocker.is_stopped.set()
            last = activate(scene, socket_, plane, "env_1", "sk-x", "--poll", "never")
            knocker.join()
            last.terminate()
        assert not knocker.failed, knocker.failed
        assert knocker.answered >= 4


@case("a socket that is not listening, or several without a name, are refused")
def wrong_sockets(scene):
    needs_root()
    with socket.socket() as idle, listener() as one:
        environment = {"ANTHROPIC_ENVIRONMENT_KEY": "sk-x", "ANTHROPIC_WEBHOOK_SIGNING_KEY": SECRET}
        arguments = ["serve", "--environment-id", "env_1", "--base-url", "http://127.0.0.1:1",
                     "--state-dir", str(scene.directory / "state")]
        for variables, fds, words in (
                ("LISTEN_FDS=1", (idle,), "does not listen"),
                ("LISTEN_FDS=2 LISTEN_FDNAMES=a:b", (one, idle), "none is named"),
                ("LISTEN_FDS=1000000", (one,), "none is named")):
            redirects = " ".join(f"{3 + i}<&{fd.fileno()}" for i, fd in enumerate(fds))
            program = scene.start(
                "serve", arguments, environment,
                prefix=("bash", "-c", f'export LISTEN_PID=$$ {variables}; exec "$@" {redirects}',
                        "activate"), pass_fds=tuple(fd.fileno() for fd in fds))
            assert program.wait() == 2, program.log()
            assert words in program.log(), program.log()


run()
