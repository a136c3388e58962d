"""What rows of load share: a topic of their own, the configs of a producer, and the figures."""

import contextlib
import itertools
import os

MB = 1_000_000
# An idempotent producer; linger, batches and requests in flight are librdkafka's defaults.
PRODUCER = ["enable.idempotence=true", "acks=all", "compression.type=none"]
_topics = itertools.count(1)


@contextlib.contextmanager
def new_topic(tools, broker, partitions, *options):
    """A topic for one row; `options` are those of client.c's `create`. What was written before is on disk when the row begins: no peer pays
    for another one's dirty pages."""
    topic = f"load-{next(_topics)}"
    os.sync()
    tools.run_client(broker, "create", topic, partitions, *options)
    yield topic
    tools.run_client(broker, "delete", topic, partitions)
    broker.wait_until_deleted(topic)


def throughput(size, seconds, cpu):
    """Figures of `size` bytes of values."""
    return {"MB/s": size / MB / seconds, "CPU s/GB": cpu / (size / 1e9)}


def latencies(done):
    """The percentiles of a report, in milliseconds."""
    return {f"{name}, ms": done[name] for name in ("p50", "p99", "p99.9")}
