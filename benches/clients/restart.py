"""A start of Esker after kill -9, with a journal whose files are all in use.

Time runs from exec to the ready line, and until every partition has acknowledged a record and returned it to a consumer. The answers are
librdkafka's, so its own start and its connections count, too."""

import signal
import sys
import time

from brokers import Broker
from load import MB

PARTITIONS, RECORD_BYTES = 50, 1024
# Small batches in many partitions: rounds of flushes that cost less by the journal.
CONFIGS = ["acks=all", "batch.size=8192", "linger.ms=1", "queue.buffering.max.messages=5000"]


def restart(tools, folder, mb):
    """One crash and one start; returns its figures."""
    broker = Broker("esker", folder, tools)
    try:
        broker.start()
        tools.run_client(broker, "create", "restart", PARTITIONS)
        # The first consumer of librdkafka has the topic of group offsets created, which must not fall into the measured start.
        tools.run_client(broker, "answers", "restart", PARTITIONS)
        tools.run_client(broker, "produce", "restart", PARTITIONS, RECORD_BYTES, mb * MB // RECORD_BYTES, *CONFIGS)
        used, prepared = (broker.metric(f"esker_journal_{name}") for name in ("used_bytes", "prepared_bytes"))
        if not used:
            raise RuntimeError("the journal holds nothing: this measures no replay")
        broker.end(signal.SIGKILL)
        ready = broker.start()
        answers = tools.run_client(broker, "answers", "restart", PARTITIONS)
        answered = time.monotonic() - broker.started
        replayed = broker.metric("esker_journal_replayed_bytes")
        broker.end()
    finally:
        broker.remove()
    return {"ready line, ms": ready * 1e3, "all partitions answer, ms": answered * 1e3,
            "of it: produce to all, ms": answers["produced"] * 1e3, "of it: fetch from all, ms": answers["fetched"] * 1e3,
            "journal at the crash, MB": prepared / MB, "of it needed, MB": used / MB, "written from it, MB": replayed / MB}


def run(tools, folder, mb, times, table):
    """Measures several starts."""
    for number in range(1, times + 1):
        figures = restart(tools, folder / "restart", mb)
        table.add(f"start after kill -9, {mb} MB x {PARTITIONS}", "esker", figures)
        print(f"restart {number}: {figures['ready line, ms']:.0f} ms, {figures['all partitions answer, ms']:.0f} ms", file=sys.stderr)
