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
    ("stop", "stop", "kept", 2, 1),
]

# name, script, messages, which visit
INTERNAL_POINTS = [
    ("dispatcher.claim.before", "counted", 1, 1),
    ("dispatcher.claim.after", "counted", 1, 1),
    ("runner.ack.before", "counted", 1, 1),
    ("runner.ack_row.before", "counted", 1, 1),
    ("runner.ack_row.after", "counted", 1, 1),
    ("runner.beat_row.before", "counted", 1, 1),
    ("runner.session.after", "counted", 1, 1),
    ("sandbox.row.before", "counted", 1, 1),
    ("sandbox.row.after", "counted", 1, 1),
    ("keeper.create.before", "counted", 1, 1),
    ("keeper.create.directory", "counted", 1, 1),
    ("keeper.create.process", "counted", 1, 1),
    ("keeper.create.record", "counted", 1, 1),
    ("keeper.create.after", "counted", 1, 1),
    ("runner.hand_row.after", "counted", 1, 1),
    ("runner.prepared.after", "counted", 1, 1),
    ("runner.reconciled.before", "counted", 1, 1),
    ("runner.call_row.before", "counted", 1, 1),
    ("runner.call_row.after", "counted", 1, 1),
    ("runner.call.after", "counted", 1, 2),  # and the call runs
    ("runner.result.before", "counted", 1, 1),
    ("runner.result.after", "counted", 1, 1),
    ("runner.post.before", "counted", 1, 1),
    ("runner.posted.before", "counted", 1, 1),
    ("runner.posted.after", "counted", 1, 1),
    ("runner.hand_ack.after", "counted", 1, 1),
    ("runner.beat_row.before", "long", 1, 2),
    ("runner.stop.before", "kept", 2, 1),
    ("runner.stop.after", "kept", 2, 1),
    ("sandbox.kept.after", "kept", 2, 1),
    ("keeper.attach.before", "kept", 2, 1),
    ("sandbox.release.before", "counted", 1, 1),
    ("keeper.destroy.before", "counted", 1, 1),
    ("keeper.destroy.killed", "counted", 1, 1),
]
# With webhooks, in a daemon that asks for work only after one, and now and then.
WEBHOOK_POINTS = ["webhook.note.before", "webhook.note.after"]
