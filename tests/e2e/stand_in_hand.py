#!/usr/bin/env python3
"""A hand that only echoes: what the worker's tests need of the frames of src/hand/frames.h.

bash "sleep": answers when it is cancelled. bash "die": exits. Anything else: its input as text, with
the names of the ANTHROPIC_ variables that it can see.
"""
import json
import os
import socket
import struct
import sys

connection = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))


def read_exact(length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def send(frame):
    data = json.dumps(frame).encode()
    connection.sendall(struct.pack(">I", len(data)) + data)


def answer(identity, text, is_error=False):
    send({"type": "result", "id": identity, "is_error": is_error,
          "content": [{"type": "text", "text": text}], "duration_us": 1})


while True:
    frame = json.loads(read_exact(struct.unpack(">I", read_exact(4))[0]))
    kind = frame["type"]
    if kind == "configure":
        send({"type": "ready", "version": "0", "incarnation": "x", "running": [], "finished": []})
    elif kind == "shutdown":
        sys.exit(0)
    elif kind == "cancel":
        answer(frame["id"], "cancelled", True)
    elif kind == "call":
        command = (frame["input"] or {}).get("command")
        if command == "die":
            os._exit(9)
        if command != "sleep":
            seen = [name for name in os.environ if name.upper().startswith("ANTHROPIC_")
                    and name.endswith(("KEY", "SECRET"))]
            answer(frame["id"], json.dumps([frame["name"], frame["input"], seen]))
