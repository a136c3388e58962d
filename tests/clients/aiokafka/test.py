"""aiokafka: produce, consume, groups, restart, timestamps, delete."""

import asyncio
import os
import subprocess
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

BOOT = os.environ["BOOTSTRAP"]
CTL = os.environ["ESKER_CTL"]
# What a broker wrote before it was killed must not be there twice: producers are idempotent.
KILLS = bool(os.environ.get("ESKER_KILL_EVERY"))
REPLICAS = int(os.environ["REPLICAS"])
TOPIC = "aiokafka"
GROUP = "aiokafka-group"
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
    return key, value, (("number", str(number).encode()), ("empty", b"")), BASE + number * 1000


async def wait(what, check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = await check()
        if got:
            return got
    raise AssertionError(f"not in {seconds} s: {what}")


async def produce(numbers, codec, idempotent=False):
    async with AIOKafkaProducer(bootstrap_servers=BOOT, compression_type=codec, max_request_size=2_000_000,
                                linger_ms=20, acks="all", enable_idempotence=idempotent or KILLS) as producer:
        sent = []
        for number in numbers:
            key, value, headers, stamp = record(number)
            sent.append(await producer.send(TOPIC, key=key, value=value, headers=list(headers), timestamp_ms=stamp,
                                            partition=number % PARTS))
        await asyncio.wait_for(asyncio.gather(*sent), 40)


def verify(message):
    number = int(dict(message.headers)["number"])
    key, value, headers, stamp = record(number)
    assert message.key == key, number
    assert message.value == value, number
    assert tuple(message.headers) == headers, (number, message.headers)
    assert message.timestamp == stamp, number
    assert message.partition == number % PARTS, number
    return number


def consumer(group):
    return AIOKafkaConsumer(bootstrap_servers=BOOT, group_id=group, auto_offset_reset="earliest",
                            enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=500,
                            max_partition_fetch_bytes=2_000_000)


async def take(client, into):
    for messages in (await client.getmany(timeout_ms=100)).values():
        into.extend(verify(message) for message in messages)


def step(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOT)
    await admin.start()
    step("create")
    made = await admin.create_topics([NewTopic(name=TOPIC, num_partitions=PARTS, replication_factor=REPLICAS,
                                               topic_configs={"max.message.bytes": "2000000"})])
    assert all(error[1] == 0 for error in made.topic_errors), made

    async def known():
        # The question may go to a broker that does not know the topic yet.
        return len((await admin.describe_topics([TOPIC]))[0]["partitions"]) == PARTS

    await wait("topic", known)
    total = len(CODECS) * PER_CODEC
    for index, codec in enumerate(CODECS):
        step(f"produce {codec}")
        await produce(range(index * PER_CODEC, (index + 1) * PER_CODEC), codec, idempotent=index % 2 == 1)

    step("consume all by assignment")
    places = [TopicPartition(TOPIC, part) for part in range(PARTS)]
    client = consumer(None)
    await client.start()
    client.assign(places)
    await client.seek_to_beginning(*places)
    seen = []

    async def read_all():
        await take(client, seen)
        return len(seen) >= total

    await wait("all records", read_all)
    assert sorted(seen) == list(range(total))
    for place in places:
        mine = [number for number in seen if number % PARTS == place.partition]
        assert mine == sorted(mine), f"order in {place}"
        assert (await client.beginning_offsets([place]))[place] == 0
        assert (await client.end_offsets([place]))[place] == len(mine)

    step("seek by timestamp")
    goal = total // 2
    for place, found in (await client.offsets_for_times({place: BASE + goal * 1000 for place in places})).items():
        want = min(n for n in range(goal, total) if n % PARTS == place.partition)
        assert found.timestamp == BASE + want * 1000, found
        client.seek(place, found.offset)
        first = await asyncio.wait_for(client.getone(place), 30)
        assert verify(first) == want
    await client.stop()

    step("group with two members")
    one, two = consumer(GROUP), consumer(GROUP)
    await one.start()
    await two.start()
    seen = []
    one.subscribe([TOPIC])

    async def alone():
        await take(one, seen)
        return len(one.assignment()) == PARTS

    await wait("one member has all", alone)
    two.subscribe([TOPIC])

    async def shared():
        await take(one, seen)
        await take(two, seen)
        mine, yours = one.assignment(), two.assignment()
        return mine and yours and not mine & yours and mine | yours == set(places)

    async def complete():
        await take(one, seen)
        await take(two, seen)
        # A partition that changed hands is read again by its new owner, who commits only what it has read itself.
        for member in (one, two):
            for place in member.assignment():
                if await member.position(place) != len([n for n in range(total) if n % PARTS == place.partition]):
                    return False
        return set(seen) == set(range(total))

    await wait("two members share the partitions", shared)
    await wait("the group has read all", complete)
    for member in (one, two):
        await member.commit()
        for place in member.assignment():
            assert await member.committed(place) == len([n for n in range(total) if n % PARTS == place.partition])
    assert GROUP in str(await admin.list_consumer_groups())
    await admin.close()
    await one.stop()
    await two.stop()

    next_number = total
    for how in ("restart", "kill9restart"):
        step(how)
        subprocess.run([CTL, how], check=True, timeout=120)
        more = range(next_number, next_number + PER_CODEC)
        await produce(more, "zstd")
        next_number += PER_CODEC
        client = consumer(GROUP)
        await client.start()
        client.subscribe([TOPIC])
        seen = []

        async def read_more():
            await take(client, seen)
            return len(seen) >= PER_CODEC

        await wait("records after the restart", read_more)
        assert sorted(seen) == list(more), "resumed from the committed offset"
        await client.commit()
        await client.stop()

    step("delete")
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOT)
    await admin.start()
    await admin.delete_topics([TOPIC])

    async def gone():
        return TOPIC not in await admin.list_topics()

    await wait("topic gone", gone)
    await admin.close()
    step("ok")


asyncio.run(main())
