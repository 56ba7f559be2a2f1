"""The named points of an item's life.

A wire point is a request of holt to the control plane; a proxy strikes before it arrived ("sent") or
before its answer is back ("answered"). An internal point is a FAULT_FAILS in holt, named
room.step.before or .after; it holds the process while the test kills one.
"""

# step of proxy.py, name, script, messages, which occurrence
WIRE_POINTS = [
    ("poll", "poll", "counted", 1, 1),
    ("ack", "ack", "counted", 1, 1),
    ("first_beat", "first beat", "counted", 1, 1),
    ("session", "session", "counted", 1, 1),
    ("stream", "stream", "counted", 1, 1),
    ("history", "history", "counted", 1, 1),
    ("post", "post", "counted", 1, 2),
    ("beat", "later beat", "long", 1, 1),
    ("stop", "stop", "counted", 1, 1),
]

# name, script, messages, which visit
INTERNAL_POINTS = []
