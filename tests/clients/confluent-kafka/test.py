"""librdkafka through confluent-kafka: produce, consume, groups, restart, timestamps, delete."""

import os
import subprocess
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOT = os.environ["BOOTSTRAP"]
CTL = os.environ["ESKER_CTL"]
# What a broker wrote before it was killed must not be there twice: producers are idempotent.
KILLS = bool(os.environ.get("ESKER_KILL_EVERY"))
REPLICAS = int(os.environ["REPLICAS"])
TOPIC = "confluent"
GROUP = "confluent-group"
PARTS = 3
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 31
BIG = 1_000_000
BASE = 1_700_000_000_000


def record(number):
    """Key, value, headers and timestamp of a record; every tenth is a tombstone, one per codec is big."""
    key = f"key-{number}".encode()
    at = number % PER_CODEC
    if at == PER_CODEC - 1:
        value = bytes([65 + number % 26]) * BIG
    elif at % 10 == 9:
        value = None
    else:
        value = f"value-{number}".encode()
    return key, value, [("number", str(number).encode()), ("empty", b""), ("null", None)], BASE + number * 1000


def wait(what, check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = check()
        if got:
            return got
    raise AssertionError(f"not in {seconds} s: {what}")


def produce(numbers, codec, idempotent=False):
    errors = []
    producer = Producer({
        "bootstrap.servers": BOOT, "compression.type": codec, "message.max.bytes": 2_000_000,
        "linger.ms": 20, "enable.idempotence": idempotent or KILLS, "message.timeout.ms": 30000})
    for number in numbers:
        key, value, headers, stamp = record(number)
        producer.produce(TOPIC, key=key, value=value, headers=headers, timestamp=stamp, partition=number % PARTS,
                         on_delivery=lambda err, _: errors.append(err) if err else None)
    left = producer.flush(40)
    assert left == 0 and not errors, (codec, left, errors[:3])


def verify(message):
    number = int(dict(message.headers())["number"])
    key, value, headers, stamp = record(number)
    assert message.key() == key, number
    assert message.value() == value, number
    assert message.headers() == headers, (number, message.headers())
    assert message.timestamp()[1] == stamp, number
    assert message.partition() == number % PARTS, number
    return number


def consumer(group=GROUP, **more):
    conf = {"bootstrap.servers": BOOT, "group.id": group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "session.timeout.ms": 10000, "heartbeat.interval.ms": 500,
            "fetch.message.max.bytes": 2_000_000}
    return Consumer({**conf, **more})


def take(client, into, seconds=0.1):
    message = client.poll(seconds)
    if message is not None:
        assert message.error() is None, message.error()
        number = verify(message)
        into.append(number)


def step(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main():
    admin = AdminClient({"bootstrap.servers": BOOT})
    step("create")
    new = NewTopic(TOPIC, PARTS, REPLICAS, config={"max.message.bytes": "2000000"})
    admin.create_topics([new])[TOPIC].result(30)
    wait("topic with 3 partitions", lambda: len(admin.list_topics(TOPIC, 10).topics[TOPIC].partitions) == PARTS)
    total = len(CODECS) * PER_CODEC
    for index, codec in enumerate(CODECS):
        step(f"produce {codec}")
        produce(range(index * PER_CODEC, (index + 1) * PER_CODEC), codec, idempotent=index % 2 == 1)

    step("consume all by assignment")
    client = consumer("confluent-reader")
    client.assign([TopicPartition(TOPIC, part, 0) for part in range(PARTS)])
    seen = []
    wait("all records", lambda: (take(client, seen), len(seen) >= total)[1])
    assert sorted(seen) == list(range(total))
    for part in range(PARTS):
        mine = [number for number in seen if number % PARTS == part]
        assert mine == sorted(mine), f"order in partition {part}"
        low, high = client.get_watermark_offsets(TopicPartition(TOPIC, part), timeout=10)
        assert (low, high) == (0, len(mine)), (part, low, high)

    step("seek by timestamp")
    goal = total // 2
    for place in client.offsets_for_times([TopicPartition(TOPIC, p, BASE + goal * 1000) for p in range(PARTS)], 10):
        assert place.error is None, place.error
        client.assign([TopicPartition(TOPIC, place.partition, place.offset)])
        first = []
        wait("record at a timestamp", lambda: (take(client, first), first)[1])
        assert first[0] == min(n for n in range(goal, total) if n % PARTS == place.partition)
    client.close()

    for strategy in ("range", "cooperative-sticky"):
        step(f"group with two members, {strategy}")
        group = f"{GROUP}-{strategy}"
        one, two = (consumer(group, **{"partition.assignment.strategy": strategy}) for _ in range(2))
        seen = []
        one.subscribe([TOPIC])
        wait("one member has all", lambda: (take(one, seen), len(one.assignment()) == PARTS)[1])
        two.subscribe([TOPIC])

        def shared():
            take(one, seen)
            take(two, seen)
            mine = {p.partition for p in one.assignment()}
            yours = {p.partition for p in two.assignment()}
            return mine and yours and not mine & yours and len(mine | yours) == PARTS

        wait("two members share the partitions", shared)

        # A partition that changed hands is read again by its new owner, who commits only what it has read itself.
        def through(member):
            places = member.position(member.assignment())
            return all(p.offset == len([n for n in range(total) if n % PARTS == p.partition]) for p in places)

        def complete():
            take(one, seen)
            take(two, seen)
            return set(seen) == set(range(total)) and through(one) and through(two)

        wait("the group has read all", complete)
        for member in (one, two):
            member.commit(asynchronous=False)
            for place in member.committed(member.assignment(), 10):
                assert place.offset == len([n for n in range(total) if n % PARTS == place.partition]), place
        state = admin.describe_consumer_groups([group])[group].result(20)
        assert len(state.members) == 2, state.members
        one.close()
        two.close()

    next_number = total
    for how in ("restart", "kill9restart"):
        step(how)
        subprocess.run([CTL, how], check=True, timeout=120)
        more = range(next_number, next_number + PER_CODEC)
        produce(more, "zstd")
        next_number += PER_CODEC
        client = consumer(f"{GROUP}-range")
        client.subscribe([TOPIC])
        seen = []
        wait("records after the restart", lambda: (take(client, seen), len(seen) >= PER_CODEC)[1])
        assert sorted(seen) == list(more), "resumed from the committed offset"
        client.commit(asynchronous=False)
        client.close()

    step("delete")
    admin.delete_topics([TOPIC])[TOPIC].result(30)
    wait("topic gone", lambda: TOPIC not in admin.list_topics(timeout=10).topics)
    step("ok")


main()
