"""Transactions of librdkafka, which adds partitions itself (transaction version 1): commit, abort, fencing, offsets, restart."""

import os
import subprocess
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOT = os.environ["BOOTSTRAP"]
CTL = os.environ["ESKER_CTL"]
REPLICAS = int(os.environ["REPLICAS"])
PARTS = 3


def wait(what, check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return
    raise AssertionError(f"not in {seconds} s: {what}")


def producer(name):
    return Producer({"bootstrap.servers": BOOT, "transactional.id": name, "linger.ms": 1, "transaction.timeout.ms": 60000})


def consumer(isolation, group="none"):
    config = {
        "bootstrap.servers": BOOT,
        "group.id": group,
        "isolation.level": isolation,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    return Consumer(config)


def values(topic, isolation):
    """Every value up to the end of the topic, as a consumer of this isolation level sees it."""
    reader = consumer(isolation)
    reader.assign([TopicPartition(topic, p, 0) for p in range(PARTS)])
    found, ended = [], set()
    while len(ended) < PARTS:
        message = reader.poll(10)
        assert message is not None, "no answer"
        if message.error():
            ended.add(message.partition())
        else:
            found.append(message.value().decode())
    reader.close()
    return sorted(found)


def send(writer, topic, name, count):
    failed = []
    for at in range(count):
        writer.produce(topic, f"{name}-{at}", partition=at % PARTS, on_delivery=lambda e, m: e and failed.append(e))
    writer.flush(30)
    return failed


def named(name, count):
    return [f"{name}-{at}" for at in range(count)]


admin = AdminClient({"bootstrap.servers": BOOT})
for made in admin.create_topics([NewTopic(t, PARTS, REPLICAS) for t in ("tx", "tx-in", "tx-out")]).values():
    made.result()

print("transactions: commit and abort")
one = producer("one")
one.init_transactions(30)
one.begin_transaction()
assert not send(one, "tx", "good", 30)
assert values("tx", "read_committed") == []
one.commit_transaction(30)
wait("commit", lambda: values("tx", "read_committed") == sorted(named("good", 30)))
one.begin_transaction()
assert not send(one, "tx", "bad", 30)
one.abort_transaction(30)
wanted = named("good", 30)
for turn in range(20):
    one.begin_transaction()
    assert not send(one, "tx", f"turn{turn}", 3)
    if turn % 2:
        one.abort_transaction(30)
    else:
        one.commit_transaction(30)
        wanted += named(f"turn{turn}", 3)
one.begin_transaction()
assert not send(one, "tx", "before", 3)
subprocess.run([CTL, "restart"], check=True)
assert not send(one, "tx", "after", 3)
one.commit_transaction(30)
wanted += named("before", 3) + named("after", 3)
wait("all that is committed", lambda: values("tx", "read_committed") == sorted(wanted))
assert len(values("tx", "read_uncommitted")) == len(wanted) + 30 + 30

print("transactions: fencing")
old, new = producer("two"), producer("two")
old.init_transactions(30)
old.begin_transaction()
assert not send(old, "tx", "zombie", 3)
new.init_transactions(30)
new.begin_transaction()
assert not send(new, "tx", "new", 3)
new.commit_transaction(30)
try:
    old.commit_transaction(30)
    raise AssertionError("a fenced producer commits")
except KafkaException as error:
    assert error.args[0].fatal(), error
wait("the new one's records", lambda: set(named("new", 3)) <= set(values("tx", "read_committed")))
assert not set(named("zombie", 3)) & set(values("tx", "read_committed"))

print("transactions: copying")
source = Producer({"bootstrap.servers": BOOT, "enable.idempotence": True})
assert not send(source, "tx-in", "v", 90)
writer = producer("copier")
writer.init_transactions(30)
reader = consumer("read_committed", "copy")
reader.subscribe(["tx-in"])
copied, turn = 0, 0
while copied < 90:
    batch = [m for m in reader.consume(20, 10) if not m.error()]
    if not batch:
        continue
    turn += 1
    writer.begin_transaction()
    for message in batch:
        writer.produce("tx-out", message.value(), partition=message.partition())
    ends = {}
    for message in batch:
        ends[message.partition()] = message.offset() + 1
    offsets = [TopicPartition("tx-in", p, at) for p, at in ends.items()]
    writer.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), 30)
    if turn % 3 == 0:
        writer.abort_transaction(30)
        for place in reader.committed(reader.assignment(), 30):
            reader.seek(TopicPartition("tx-in", place.partition, max(place.offset, 0)))
    else:
        writer.commit_transaction(30)
        copied += len(batch)
reader.close()
wait("all copied, each once", lambda: values("tx-out", "read_committed") == sorted(named("v", 90)))
print("transactions: ok")
