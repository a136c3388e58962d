"""Fills both brokers and compares, or compares again: see `run`."""

import argparse
import sys

from world import HOUR, World

ROLL = dict(segment_ms=1000, cleanup_policy="delete", retention_ms=-1)
LARGE = dict(segment_bytes=1048576, cleanup_policy="delete", retention_ms=-1)
FOR_EVER = 100 * 24 * HOUR
TOPICS = ["canary"]


def create(w, name, **configs):
    w.create(name, **configs)
    TOPICS.append(name)


def fill(w):
    w.create("canary", retention_ms=1)
    # A segment an hour: ten of them.
    hours = [w.one(age * HOUR, key=b"%d" % age) for age in range(10, 0, -1)]
    size = len(hours[-1])
    for name in ("age", "age-all", "size", "size-exact", "deleted", "deleted-all", "both"):
        create(w, name, **ROLL)
        w.produce(name, *hours)
    create(w, "inside", **ROLL, min_cleanable_dirty_ratio=1)
    w.produce("inside", w.one(10 * HOUR, count=20), w.one(HOUR, count=3))
    # One old segment behind one that is not due, and one with both in it.
    create(w, "order", **ROLL)
    w.produce("order", w.one(2 * HOUR), w.one(10 * HOUR), w.one(9 * HOUR), w.one(HOUR))
    create(w, "mixed", cleanup_policy="delete", retention_ms=-1)
    w.produce("mixed", w.one(10 * HOUR), w.one(9 * HOUR), w.one(2 * HOUR), w.one(HOUR))
    # Times that a log cannot go by: none, and some that are yet to come.
    for name in ("timeless", "timeless-kept"):
        create(w, name, **ROLL)
        w.produce(name, w.one(None), w.one(None))
    create(w, "future", **dict(ROLL, message_timestamp_after_max_ms=FOR_EVER))
    w.produce("future", w.one(10 * HOUR), w.one(-24 * HOUR), w.one(9 * HOUR), w.one(HOUR))
    create(w, "stamped", **dict(ROLL, message_timestamp_type="LogAppendTime"))
    w.produce("stamped", *hours)
    # Segments by size: two that fill one to the last byte, and two that are a byte too large. What they begin with shows by its age.
    spare = 1048576 // 2 - len(w.one(0, value=b"v" * 524288)) + 524288
    for name, more in (("full", 0), ("over", 1)):
        create(w, name, **LARGE)
        w.produce(name, w.one(10 * HOUR, value=b"v" * (spare + more)), w.one(2 * HOUR, value=b"v" * spare), w.one(HOUR))
    # Batches of several records, packed.
    create(w, "packed", **ROLL)
    w.produce("packed", *(w.one(age * HOUR, count=5, attributes=1) for age in (10, 9, 8, 7)))
    compacted = dict(cleanup_policy="compact,delete", segment_ms=1000, min_cleanable_dirty_ratio=0, retention_ms=-1)
    create(w, "compacted", **compacted)
    create(w, "compact-only", **dict(compacted, cleanup_policy="compact"))
    for name in ("compacted", "compact-only"):
        keys = (b"a", b"b", b"a", b"c", b"a", b"d", b"b", b"e")
        w.produce(name, *(w.one((10 - at) * HOUR, key=key) for at, key in enumerate(keys)))
        left = [key.decode() for at, key in enumerate(keys) if key not in keys[at + 1 :]]
        w.until(f"{name} is not compacted", lambda: w.keys(name) == [left, left])
    w.pass_over()
    w.compare("kept for ever", TOPICS)

    for name in ("age", "order", "mixed", "future", "both", "stamped", "compacted", "compact-only"):
        w.configure(name, retention_ms=5 * HOUR + HOUR // 2)
    for name in ("full", "over", "timeless-kept"):
        w.configure(name, retention_ms=5 * HOUR)
    w.configure("age-all", retention_ms=1000)
    w.configure("timeless", retention_ms=1)
    w.configure("size", retention_bytes=size * 3 + size // 2)
    w.configure("size-exact", retention_bytes=size * 3)
    w.configure("both", retention_bytes=size * 7)
    # Every kind of offset: the start, inside, again, back, none, all, past the end, and what cannot be.
    for offset in (0, 1, 3, 3, 2, -2, -5, 11, 99, 2**62):
        w.delete("deleted", offset)
    w.delete("deleted", 1, partition=7)
    w.delete("no-topic", 1)
    w.delete("deleted-all", -1)
    w.delete("deleted-all", 10)
    w.delete("inside", 9)
    w.delete("packed", 7)
    w.delete("compacted", 3)
    w.delete("compact-only", 3)
    w.pass_over()
    w.compare("some are due", TOPICS)

    w.delete("both", 8)
    w.configure("age", retention_ms=None)
    w.configure("size", retention_bytes=0)
    w.configure("both", retention_bytes=size)
    w.configure("mixed", retention_ms=HOUR // 2)
    w.configure("order", retention_ms=HOUR + HOUR // 2)
    w.configure("future", retention_ms=1)
    w.configure("packed", retention_ms=7 * HOUR + HOUR // 2)
    w.delete("age-all", -1)
    w.delete("age-all", 3)
    w.pass_over()
    w.compare("more are due", TOPICS)

    for name in ("age", "age-all", "size", "deleted", "deleted-all", "inside", "both", "packed"):
        w.produce(name, w.one(HOUR // 4), w.one(HOUR // 8))
    w.configure("inside", cleanup_policy="compact")
    w.until_deletable("inside", 44)
    w.delete("inside", 10)
    w.configure("inside", cleanup_policy="delete")
    w.until_deletable("inside", 0)
    w.pass_over()
    w.compare("and on", TOPICS)


def again(w, since):
    names = [one["Name"] for one in next(iter(w.peers.values())).call("Metadata", 9, dict(Topics=None))["Topics"]]
    TOPICS[:] = sorted(name for name in names if not name.startswith("__"))
    # Served again, and looked at by retention.
    w.pass_over()
    w.compare(f"after {since}", TOPICS)
    for name in TOPICS:
        w.produce(name, w.one(HOUR // 16))
    w.pass_over()
    w.compare(f"on after {since}", TOPICS)


def main():
    parser = argparse.ArgumentParser()
    for name in ("--definitions", "--kafka", "--esker"):
        parser.add_argument(name, required=True)
    parser.add_argument("phase", choices=("fill", "again"))
    parser.add_argument("--since")
    options = parser.parse_args()
    w = World(options.definitions, options.kafka, options.esker)
    fill(w) if options.phase == "fill" else again(w, options.since)
    for line in w.wrong:
        print("DIFFERS", line)
    print(f"{w.compared} comparisons, {len(w.wrong)} differences")
    sys.exit(1 if w.wrong or not w.compared else 0)


main()
