"""The rows that all clusters run: librdkafka, raw batches, and latencies of acknowledgements at a fixed rate."""

import dataclasses
import typing

from load import MB, PRODUCER, latencies, new_topic, throughput
from nodes import TOPIC

RECORD_BYTES = 1024
PARTITIONS = (6, 100)
# Bytes of a raw batch where a request to a leader has few partitions, and where it has ten; those of the head-to-head.
RAW_BATCHES = {6: 65536, 100: 16384}
RATE, RATE_PARTITIONS = 20_000, 12
# Batches gather for five milliseconds, in librdkafka as by default.
RATED = ["acks=all", "linger.ms=5"]
PARTS = ["librdkafka", "raw", "latency"]


@dataclasses.dataclass
class Sizes:
    """How much is measured."""

    mb: int
    warmup_mb: int
    latency_warmup: float
    latency_seconds: float


@dataclasses.dataclass
class Row:
    """One row: its part, its line in the table, and a function of a cluster that returns its figures."""

    part: str
    line: str
    run: typing.Callable


def produce(tools, cluster, partitions, mb):
    """An idempotent producer of librdkafka."""
    records = mb * MB // RECORD_BYTES
    with new_topic(tools, cluster, partitions, *TOPIC) as topic:
        done = tools.run_client(cluster, "produce", topic, partitions, RECORD_BYTES, records, *PRODUCER)
    return throughput(records * RECORD_BYTES, done["seconds"], done["cpu"])


def produce_raw(tools, cluster, partitions, mb, program):
    """Batches that are encoded once, to the leader of each partition; figures are of bytes of batches."""
    with new_topic(tools, cluster, partitions, *TOPIC) as topic:
        done = tools.run_program(cluster, [program, "--bootstrap", cluster.bootstrap, "--topic", topic, "--partitions", partitions,
                                           "--value-bytes", RECORD_BYTES, "--batch", RAW_BATCHES[partitions], "--mb", mb])
    return throughput(done["bytes"], done["seconds"], done["cpu"])


def latency(tools, cluster, sizes):
    """Latencies of acknowledgements at a fixed rate, and what a record costs all nodes together."""
    with new_topic(tools, cluster, RATE_PARTITIONS, *TOPIC) as topic:
        done = tools.run_client(cluster, "latency", topic, RATE_PARTITIONS, RECORD_BYTES, RATE, sizes.latency_warmup,
                                sizes.latency_seconds, "acks", *RATED)
    return latencies(done) | {"CPU us/record": done["cpu"] / done["records"] * 1e6}


def rows(tools, sizes, raw_producer):
    """All rows, in their order."""
    for partitions in PARTITIONS:
        yield Row("librdkafka", f"librdkafka, {RECORD_BYTES} B x {partitions}",
                  lambda cluster, partitions=partitions: produce(tools, cluster, partitions, sizes.mb))
    for partitions in PARTITIONS:
        yield Row("raw", f"raw batches, {RECORD_BYTES} B x {partitions}",
                  lambda cluster, partitions=partitions: produce_raw(tools, cluster, partitions, sizes.mb, raw_producer))
    yield Row("latency", f"{RATE}/s of {RECORD_BYTES} B x {RATE_PARTITIONS}, linger 5 ms", lambda cluster: latency(tools, cluster, sizes))


def warm_up(tools, cluster, mb):
    """Load before anything is measured: a JVM needs it."""
    if mb:
        produce(tools, cluster, PARTITIONS[0], mb)
