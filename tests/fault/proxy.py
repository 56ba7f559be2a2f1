"""A proxy between holt and the control plane that breaks what it carries, by rule.

One event loop in a thread of its own carries every proxy of the test. A rule names a step of an
item's life, a fault, and which occurrence it strikes. What a proxy saw is kept, so that a test can
also judge what came after the fault (a retry before its time, say). It carries HTTP/1.1 only, which
is what holt speaks to an http:// address.
"""
import asyncio
import json
import re
import threading
import time
import urllib.parse

HEAD_LIMIT = 1 << 20
CONNECTION_LIMIT_SECONDS = 120
TRICKLE_SECONDS = 0.001
TRICKLE_PIECES = 200  # of one answer
LATE_SECONDS = 0.7
PAIR_SECONDS = 0.05  # how long an event waits for the one that is to overtake it

# step, method, path. The first beat of a lease differs from the later ones only in its query.
STEPS = [
    ("poll", "GET", r"/work/poll"),
    ("ack", "POST", r"/work/[^/]+/ack"),
    ("first_beat", "POST", r"/work/[^/]+/heartbeat\?.*expected_last_heartbeat=NO_HEARTBEAT"),
    ("beat", "POST", r"/work/[^/]+/heartbeat"),
    ("stop", "POST", r"/work/[^/]+/stop"),
    ("session", "GET", r"/v1/sessions/[^/?]+(\?|$)"),
    ("stream", "GET", r"/v1/sessions/[^/]+/events/stream"),
    ("history", "GET", r"/v1/sessions/[^/]+/events(\?|$)"),
    ("post", "POST", r"/v1/sessions/[^/]+/events(\?|$)"),
]

BUSY = b'{"type":"error","error":{"type":"overloaded_error","message":"injected"}}'


def answer(status, reason, *headers):
    lines = [f"HTTP/1.1 {status} {reason}", "content-type: application/json",
             f"content-length: {len(BUSY)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + BUSY


RETRY_AFTER_SECONDS = 1.0
# Answered without asking the control plane.
REFUSALS = {
    "429": answer(429, "Too Many Requests", "retry-after-ms: 1000"),
    "500": answer(500, "Internal Server Error"),
    "503": answer(503, "Service Unavailable", "retry-after: 1"),
    "529": answer(529, "Overloaded", "retry-after: 1"),
}
# Faults that strike before the request is passed on; the others strike its answer.
BEFORE = {"drop_before", "half_open", "act_before", *REFUSALS}
# Looked for at places of their own.
STREAM_FAULTS = {"twice", "reordered", "trickled", "cut_event", "nonsense_event", "silent"}

ELSEWHERE = {("stream", fault) for fault in STREAM_FAULTS} | {("poll", "stale")}


class Rule:
    """`act` is called from the proxy's thread for act_before, act_after (both drop the connection)
    and act_passed. `victim`: for the rig, which makes `act` from it."""

    def __init__(self, step, fault, nth=1, count=1, act=None, victim=None):
        self.step, self.fault, self.nth, self.count, self.act = step, fault, nth, count, act
        self.victim = victim
        self.seen = 0
        self.struck = 0

    def strikes(self):
        self.seen += 1
        if self.seen < self.nth or self.struck >= self.count:
            return False
        self.struck += 1
        return True

    def __repr__(self):
        return f"{self.step}:{self.fault}:{self.nth}"


class Dropped(Exception):
    """The connection is to be reset."""


class Request:
    def __init__(self, head, body):
        self.head, self.body = head, body
        line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        self.method, self.target = line[0], line[1]
        self.step = next((name for name, method, path in STEPS
                          if method == self.method and re.search(path, self.target)), "other")


def header(head, name):
    found = re.search(rb"(?im)^" + re.escape(name) + rb":[ \t]*([^\r\n]*)", head)
    return found.group(1).decode("latin-1") if found else None


def with_length(head, body):
    """The head for a body of another length than it had."""
    lines = [line for line in head.rstrip(b"\r\n").split(b"\r\n")
             if not re.match(rb"(?i)(content-length|transfer-encoding|connection):", line)]
    return b"\r\n".join(lines) + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class Carrier:
    """The event loop and its thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)


_carrier = None
_carrier_lock = threading.Lock()


def carrier():
    global _carrier
    with _carrier_lock:
        if _carrier is None:
            _carrier = Carrier()
        return _carrier


class Proxy:
    """`reclaim_ms`: asks for items back sooner that were delivered but never acknowledged."""

    def __init__(self, url, rules=(), reclaim_ms=1500):
        parts = urllib.parse.urlsplit(url)
        self.upstream = (parts.hostname, parts.port)
        self.rules = list(rules)
        self.reclaim_ms = reclaim_ms
        self.log = []        # (seconds, step, what), in order
        self.last_item = None  # the last answer of a poll that carried an item
        self.tasks = set()
        self.server = carrier().run(asyncio.start_server(
            self._connection, "127.0.0.1", 0, limit=HEAD_LIMIT))
        self.url = "http://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]

    def close(self):
        async def end():
            self.server.close()
            for task in list(self.tasks):
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
        carrier().run(end())

    def add(self, *rules):
        carrier().loop.call_soon_threadsafe(self.rules.extend, rules)

    def struck(self):
        return [rule for rule in self.rules if rule.struck]

    # From here on in the loop's thread.

    def _note(self, step, what):
        self.log.append((time.monotonic(), step, what))

    def _rule(self, request, is_before, wanted=None):
        for rule in self.rules:
            is_wanted = rule.fault in wanted if wanted is not None else (
                (rule.fault in BEFORE) == is_before and (rule.step, rule.fault) not in ELSEWHERE)
            if rule.step == request.step and is_wanted and rule.strikes():
                self._note(request.step, f"fault {rule.fault}")
                return rule
        return None

    async def _connection(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (Dropped, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()
            self.tasks.discard(task)

    async def _serve(self, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if (header(head, b"expect") or "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(header(head, b"content-length") or 0))
            request = Request(head, body)
            self._note(request.step, "request")
            if not await self._one(request, reader, writer):
                return

    async def _one(self, request, reader, writer):
        """Serves one request; False when the connection is over."""
        rule = self._rule(request, True)
        if rule is not None:
            if rule.fault in REFUSALS:
                writer.write(REFUSALS[rule.fault])
                await writer.drain()
                return True
            if rule.fault == "half_open":
                await self._until_gone(reader)
                return False
            if rule.fault == "act_before":
                rule.act()
            raise Dropped()
        if request.step == "poll" and self.last_item is not None:
            stale = self._rule(request, False, {"stale"})
            if stale is not None:
                writer.write(with_length(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n",
                                         self.last_item))
                return True
        asking = asyncio.ensure_future(self._ask(request))
        gone = asyncio.ensure_future(self._until_gone(reader))
        try:
            await asyncio.wait({asking, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise Dropped()  # holt went away: so does the request
            gone.cancel()
            head, body, upstream = asking.result()
            if body is None:
                await self._stream(request, head, upstream, reader, writer)
                return False
            return await self._answer(request, head, body, writer)
        finally:
            gone.cancel()
            asking.cancel()

    async def _until_gone(self, reader):
        for _ in range(int(CONNECTION_LIMIT_SECONDS / 0.01)):
            if reader.at_eof():
                return
            await asyncio.sleep(0.01)

    async def _ask(self, request):
        """Passes a request on: (head, body, None), or (head, None, connection) of a stream."""
        target = request.target
        if request.step == "poll" and "reclaim_older_than_ms" not in target:
            target += ("&" if "?" in target else "?") + f"reclaim_older_than_ms={self.reclaim_ms}"
        head = request.head.replace(request.target.encode(), target.encode(), 1)
        head = re.sub(rb"(?im)^(connection|expect):[^\r\n]*\r\n", b"", head)
        head = head[:-2] + b"connection: close\r\n\r\n"
        upstream, out = await asyncio.open_connection(*self.upstream, limit=HEAD_LIMIT)
        try:
            out.write(head + request.body)
            answered = await upstream.readuntil(b"\r\n\r\n")
            if "event-stream" in (header(answered, b"content-type") or ""):
                stream, out = (upstream, out), None
                return answered, None, stream
            body = await upstream.read(-1)
            if (header(answered, b"transfer-encoding") or "").lower() == "chunked":
                body = dechunk(body)
            return answered, body, None
        finally:
            if out is not None:
                out.close()

    async def _answer(self, request, head, body, writer):
        status = int(head.split(b" ", 2)[1])
        self._note(request.step, f"answer {status}")
        is_item = request.step == "poll" and b'"work"' in body
        is_struck = status < 400 and (request.step != "poll" or is_item)
        rule = self._rule(request, False) if is_struck else None
        if is_item:
            self.last_item = body
        fault = None if rule is None else rule.fault
        whole = with_length(head, body)
        if fault == "act_after":
            rule.act()
            raise Dropped()
        if fault == "drop_after":
            raise Dropped()
        if fault == "drop_middle":
            writer.write(whole[:len(whole) - len(body) // 2 - 1])
            await writer.drain()
            writer.close()
            return False
        if fault == "late_500":
            whole = REFUSALS["500"]
        if fault == "truncated":
            whole = with_length(head, body[:max(1, len(body) // 2)])
        if fault == "garbage":
            whole = with_length(head, b"\x00\xff<html>{]" * 50)
        if fault == "delayed":
            await asyncio.sleep(LATE_SECONDS)
        if fault == "stale" and request.step == "history":
            whole = with_length(head, older(body))
        if fault == "trickled":
            size = len(whole) // TRICKLE_PIECES + 1
            for i in range(0, len(whole), size):
                writer.write(whole[i:i + size])
                await writer.drain()
                await asyncio.sleep(TRICKLE_SECONDS)
        else:
            writer.write(whole)
            await writer.drain()
        self._note(request.step, "passed on")
        if fault == "act_passed":
            rule.act()
        return True

    async def _stream(self, request, head, upstream, reader, writer):
        """An event stream, event by event; each is a chunk of its own towards holt."""
        incoming, out = upstream
        gone = asyncio.ensure_future(self._until_gone(reader))
        pump = asyncio.ensure_future(self._pump(request, head, incoming, writer))
        try:
            await asyncio.wait({gone, pump}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
        finally:
            gone.cancel()
            pump.cancel()
            out.close()

    async def _pump(self, request, head, incoming, writer):
        opening = self._rule(request, False)
        if opening is not None:
            if opening.fault in ("act_after", "act_passed"):
                opening.act()
            if opening.fault == "delayed":
                await asyncio.sleep(LATE_SECONDS)
            elif opening.fault != "act_passed":
                raise Dropped()
        writer.write(head)
        rule = self._rule(request, False, STREAM_FAULTS)
        fault = None if rule is None else rule.fault
        events = Events(incoming, header(head, b"transfer-encoding") == "chunked")
        count = 0
        while True:
            event = await events.next()
            if event is None:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                return
            is_ping = b"event: ping" in event
            count += 0 if is_ping else 1
            pieces = [event]
            if fault == "silent":
                continue
            if fault == "twice":
                pieces = [event, event]
            elif fault == "reordered" and not is_ping:
                other = await events.next(PAIR_SECONDS)
                pieces = [event] if other is None else [other, event]
            elif fault == "nonsense_event":
                pieces = [b"event: agent.tool_use\ndata: {\"type\":\n\n", b"\xff\xfe: x\n\n", event]
            elif fault == "cut_event" and count == 2:
                writer.write(chunk(event[:len(event) // 2]))
                await writer.drain()
                raise Dropped()
            for piece in pieces:
                if fault == "trickled":
                    for i in range(0, len(piece), 3):
                        writer.write(chunk(piece[i:i + 3]))
                        await writer.drain()
                        await asyncio.sleep(TRICKLE_SECONDS)
                else:
                    writer.write(chunk(piece))
                    await writer.drain()


class Events:
    """The events of a stream, whole, out of its chunks."""

    def __init__(self, reader, is_chunked):
        self.reader, self.is_chunked, self.buffer = reader, is_chunked, b""
        self.reading = None

    async def _more(self):
        if not self.is_chunked:
            return await self.reader.read(65536)
        line = await self.reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def next(self, seconds=None):
        """The next event; None at the end, or when it does not come in time."""
        while b"\n\n" not in self.buffer:
            if self.reading is None:
                self.reading = asyncio.ensure_future(self._more())
            done, _ = await asyncio.wait({self.reading}, timeout=seconds)
            if not done:
                return None
            data = self.reading.result()
            self.reading = None
            if not data:
                return None
            self.buffer += data
        event, self.buffer = self.buffer.split(b"\n\n", 1)
        return event + b"\n\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


def dechunk(data):
    body = b""
    while data:
        line, data = data.split(b"\r\n", 1)
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        body, data = body + data[:size], data[size + 2:]
    return body


def older(body):
    """A page of history as it was before its last two events."""
    page = json.loads(body)
    page["data"] = page["data"][:-2]
    return json.dumps(page).encode()
