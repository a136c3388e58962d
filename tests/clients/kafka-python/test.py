"""kafka-python: produce, consume, groups, restart, timestamps, delete."""

import os
import subprocess
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaConnectionError

BOOT = os.environ["BOOTSTRAP"]
CTL = os.environ["ESKER_CTL"]
# What a broker wrote before it was killed must not be there twice: producers are idempotent.
KILLS = bool(os.environ.get("ESKER_KILL_EVERY"))
REPLICAS = int(os.environ["REPLICAS"])
TOPIC = "kafka-python"
GROUP = "kafka-python-group"
PARTS = 3
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 31
BIG = 1_000_000
BASE = 1_700_000_000_000


def record(number):
    key = f"key-{number}".encode()
    at = number % PER_CODEC
    if at == PER_CODEC - 1:
        value = bytes([65 + number % 26]) * BIG
    elif at % 10 == 9:
        value = None
    else:
        value = f"value-{number}".encode()
    return key, value, [("number", str(number).encode()), ("empty", b"")], BASE + number * 1000


def wait(what, check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = check()
        if got:
            return got
    raise AssertionError(f"not in {seconds} s: {what}")


def produce(numbers, codec, idempotent=False):
    producer = KafkaProducer(bootstrap_servers=BOOT, compression_type=codec, max_request_size=2_000_000,
                             linger_ms=20, acks="all", enable_idempotence=idempotent or KILLS)
    sent = []
    for number in numbers:
        key, value, headers, stamp = record(number)
        sent.append(producer.send(TOPIC, key=key, value=value, headers=headers, timestamp_ms=stamp,
                                  partition=number % PARTS))
    producer.flush(40)
    for future in sent:
        future.get(10)
    producer.close()


def verify(message):
    number = int(dict(message.headers)["number"])
    key, value, headers, stamp = record(number)
    assert message.key == key, number
    assert message.value == value, number
    assert list(message.headers) == headers, (number, message.headers)
    assert message.timestamp == stamp, number
    assert message.partition == number % PARTS, number
    return number


def consumer(group):
    return KafkaConsumer(bootstrap_servers=BOOT, group_id=group, auto_offset_reset="earliest",
                         enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=500,
                         max_partition_fetch_bytes=2_000_000)


def take(client, into):
    try:
        polled = client.poll(timeout_ms=100)
    except KafkaConnectionError as error:
        # A broker that ends while the client looks for its coordinator: the next poll asks another one.
        print(f"poll: {error}", flush=True)
        return
    for messages in polled.values():
        into.extend(verify(message) for message in messages)


def step(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main():
    admin = KafkaAdminClient(bootstrap_servers=BOOT)
    step("create")
    admin.create_topics([NewTopic(name=TOPIC, num_partitions=PARTS, replication_factor=REPLICAS,
                                  topic_configs={"max.message.bytes": "2000000"})])
    # A question may go to a broker that does not know the topic yet.
    wait("topic", lambda: len(admin.describe_topics([TOPIC])[0]["partitions"]) == PARTS)
    wait("topic in the list", lambda: TOPIC in admin.list_topics())
    total = len(CODECS) * PER_CODEC
    for index, codec in enumerate(CODECS):
        step(f"produce {codec}")
        produce(range(index * PER_CODEC, (index + 1) * PER_CODEC), codec, idempotent=index % 2 == 1)

    step("consume all by assignment")
    places = [TopicPartition(TOPIC, part) for part in range(PARTS)]
    client = consumer(None)
    client.assign(places)
    client.seek_to_beginning(*places)
    seen = []
    wait("all records", lambda: (take(client, seen), len(seen) >= total)[1])
    assert sorted(seen) == list(range(total))
    for place in places:
        mine = [number for number in seen if number % PARTS == place.partition]
        assert mine == sorted(mine), f"order in {place}"
        assert client.beginning_offsets([place])[place] == 0
        assert client.end_offsets([place])[place] == len(mine)

    step("seek by timestamp")
    goal = total // 2
    for place, found in client.offsets_for_times({place: BASE + goal * 1000 for place in places}).items():
        want = min(n for n in range(goal, total) if n % PARTS == place.partition)
        assert found.timestamp == BASE + want * 1000, found
        client.assign([place])
        client.seek(place, found.offset)
        first = []
        wait("record at a timestamp", lambda: (take(client, first), first)[1])
        assert first[0] == want
    client.close()

    step("group with two members")
    one, two = consumer(GROUP), consumer(GROUP)
    seen = []
    one.subscribe([TOPIC])
    wait("one member has all", lambda: (take(one, seen), len(one.assignment()) == PARTS)[1])
    two.subscribe([TOPIC])

    def shared():
        take(one, seen)
        take(two, seen)
        mine, yours = one.assignment(), two.assignment()
        return mine and yours and not mine & yours and mine | yours == set(places)

    wait("two members share the partitions", shared)

    # A partition that changed hands is read again by its new owner, who commits only what it has read itself.
    def through(member):
        return all(
            member.position(p) == len([n for n in range(total) if n % PARTS == p.partition]) for p in member.assignment()
        )

    def complete():
        take(one, seen)
        take(two, seen)
        return set(seen) == set(range(total)) and through(one) and through(two)

    wait("the group has read all", complete)
    for member in (one, two):
        member.commit()
        for place in member.assignment():
            assert member.committed(place) == len([n for n in range(total) if n % PARTS == place.partition])
    assert GROUP in str(admin.list_groups())
    one.close()
    two.close()

    next_number = total
    for how in ("restart", "kill9restart"):
        step(how)
        subprocess.run([CTL, how], check=True, timeout=120)
        more = range(next_number, next_number + PER_CODEC)
        produce(more, "zstd")
        next_number += PER_CODEC
        client = consumer(GROUP)
        client.subscribe([TOPIC])
        seen = []
        wait("records after the restart", lambda: (take(client, seen), len(seen) >= PER_CODEC)[1])
        assert sorted(seen) == list(more), "resumed from the committed offset"
        client.commit()
        client.close()

    step("delete")
    admin.close()
    admin = KafkaAdminClient(bootstrap_servers=BOOT)
    admin.delete_topics([TOPIC])
    wait("topic gone", lambda: TOPIC not in admin.list_topics())
    step("ok")


main()
