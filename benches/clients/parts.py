"""The rows that all peers run: throughput of librdkafka and of Kafka's own tool, latencies of acknowledgements and end to end.

A row takes a broker and returns figures for one or more lines of the table. Its topic is new, and is gone when it has ended."""

import dataclasses
import typing

from load import MB, PRODUCER, latencies, new_topic, throughput

PERFORMANCE_BYTES = 200
LATENCY_BYTES = 1024
ACKS_RATE, END_TO_END_RATE = 5000, 2000
# A record leaves at once, also while the answer to the one before is under way.
AT_ONCE = ["linger.ms=0", "socket.nagle.disable=true"]


@dataclasses.dataclass
class Sizes:
    """How much is measured."""

    mb: int
    warmup_mb: int
    consume_times: int
    latency_warmup: float
    latency_seconds: float


@dataclasses.dataclass
class Row:
    """One row: its part, its name, and a function of a broker that yields (line, figures)."""

    part: str
    name: str
    run: typing.Callable


def produce_and_consume(tools, broker, partitions, size, mb, consume_times):
    """Produces with librdkafka, then reads all of it from the beginning: several times, since CPU time is counted in ticks of 10 ms."""
    records = mb * MB // size
    with new_topic(tools, broker, partitions) as topic:
        for command, configs, times in (("produce", PRODUCER, 1), ("consume", [], consume_times)):
            done = [tools.run_client(broker, command, topic, partitions, size, records, *configs) for _ in range(times)]
            seconds, cpu = (sum(one[name] for one in done) for name in ("seconds", "cpu"))
            yield f"{command}, {size} B x {partitions}", throughput(records * size * times, seconds, cpu)


def producer_performance(tools, broker, partitions, mb):
    """Kafka's own kafka-producer-perf-test."""
    records = mb * MB // PERFORMANCE_BYTES
    with new_topic(tools, broker, partitions) as topic:
        done = tools.run_performance(broker, topic, records, PERFORMANCE_BYTES)
    figures = throughput(records * PERFORMANCE_BYTES, records / done["rate"], done["cpu"])
    yield f"producer-perf-test, {PERFORMANCE_BYTES} B x {partitions}", figures | latencies(done)


def latency(tools, broker, partitions, rate, kind, acks, sizes):
    """Latencies at a fixed rate: of acknowledgements, or until a waiting consumer of the same process has the record."""
    with new_topic(tools, broker, partitions) as topic:
        done = tools.run_client(broker, "latency", topic, partitions, LATENCY_BYTES, rate, sizes.latency_warmup, sizes.latency_seconds,
                                kind, f"acks={acks}", *AT_ONCE)
    yield f"{kind}, acks={acks}, {rate}/s x {partitions}", latencies(done) | {"CPU s": done["cpu"]}


def rows(tools, sizes):
    """All rows, in their order."""
    for partitions in (1, 6, 100):
        for size in (1024, 100):
            yield Row("librdkafka", f"librdkafka {size} B x {partitions}",
                      lambda broker, partitions=partitions, size=size: produce_and_consume(tools, broker, partitions, size, sizes.mb,
                                                                                           sizes.consume_times))
    yield Row("producer-perf", "producer-perf", lambda broker: producer_performance(tools, broker, 6, sizes.mb))
    for partitions in (1, 6):
        yield Row("acks", f"acks x {partitions}",
                  lambda broker, partitions=partitions: latency(tools, broker, partitions, ACKS_RATE, "acks", "all", sizes))
    yield Row("end-to-end", "end-to-end", lambda broker: latency(tools, broker, 1, END_TO_END_RATE, "end-to-end", "1", sizes))


def warm_up(tools, broker, sizes):
    """Load before anything is measured: a JVM needs it."""
    if sizes.warmup_mb:
        for size in (1024, 100):
            list(produce_and_consume(tools, broker, 6, size, sizes.warmup_mb // 2 or 1, 1))
