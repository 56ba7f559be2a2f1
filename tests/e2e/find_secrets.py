"""Runs inside a sandbox: looks for secrets in every place that the agent's code can reach.

usage: find_secrets.py HEX...   (each a secret, its bytes XORed with 0x55, so that this program's own
command line, script and environment do not hold what it looks for)
Prints one JSON line: what was looked at, and where a secret was found. Its own process is left out.
"""
import json
import os
import stat
import sys
import time

CHUNK = 1 << 20
# Larger mappings are address space that a sanitizer reserved.
MAPPING_LIMIT = 1 << 30
# A file that has not changed for this long cannot hold a key that was made for this test.
AGE_LIMIT_SECONDS = 3600
# What lies there are no files; /proc is looked at process by process.
SKIPPED_ROOTS = ("/proc", "/sys", "/dev")

secrets = [bytes(byte ^ 0x55 for byte in bytes.fromhex(text)) for text in sys.argv[1:]]
overlap = max(len(secret) for secret in secrets)
found = set()
looked = {"environments": 0, "memories": 0, "memory_bytes": 0, "files": 0}


def has_secret(read):
    """Reads chunks until the end; they overlap, so that no secret is cut in two."""
    tail = b""
    while chunk := read(CHUNK):
        text = tail + chunk
        if any(secret in text for secret in secrets):
            return True
        tail = text[-overlap:]
    return False


def look_in_file(path, label):
    try:
        with open(path, "rb", buffering=0) as file:
            if has_secret(file.read):
                found.add(label)
            return True
    except OSError:
        return False


def look_in_memory(pid):
    try:
        maps = open(f"/proc/{pid}/maps").read().splitlines()
        memory = open(f"/proc/{pid}/mem", "rb", buffering=0)
    except OSError:
        return
    with memory:
        looked["memories"] += 1
        for line in maps:
            span, access = line.split()[:2]
            start, end = (int(part, 16) for part in span.split("-"))
            if not access.startswith("r") or start >= 1 << 63 or end - start > MAPPING_LIMIT:
                continue
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue
            looked["memory_bytes"] += len(data)
            if any(secret in data for secret in secrets):
                found.add(f"memory of {pid}")


for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        for part in ("environ", "cmdline"):
            looked["environments"] += look_in_file(f"/proc/{name}/{part}", f"{part} of {name}")
        look_in_memory(name)

if any(secret in value for secret in secrets for value in os.environb.values()):
    found.add("own environment")

oldest = time.time() - AGE_LIMIT_SECONDS
for root, directories, names in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(root, name) not in SKIPPED_ROOTS]
    for name in names:
        path = os.path.join(root, name)
        try:
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_ctime > oldest:
                looked["files"] += look_in_file(path, f"file {path}")
        except OSError:
            pass

print(json.dumps({"looked": looked, "found": sorted(found)}))
