"""Transactions of aiokafka, which adds partitions itself (transaction version 1): commit, abort, fencing, offsets, restart."""

import asyncio
import os
import subprocess
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced

BOOT = os.environ["BOOTSTRAP"]
CTL = os.environ["ESKER_CTL"]
REPLICAS = int(os.environ["REPLICAS"])
PARTS = 3


async def wait(what, check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if await check():
            return
    raise AssertionError(f"not in {seconds} s: {what}")


async def values(topic, isolation):
    """Every value up to the end of the topic, as a consumer of this isolation level sees it."""
    reader = AIOKafkaConsumer(bootstrap_servers=BOOT, isolation_level=isolation, enable_auto_commit=False)
    await reader.start()
    places = [TopicPartition(topic, p) for p in range(PARTS)]
    reader.assign(places)
    await reader.seek_to_beginning(*places)
    ends = await reader.end_offsets(places)
    found = []
    for place, end in ends.items():
        while await reader.position(place) < end:
            for batch in (await reader.getmany(timeout_ms=200)).values():
                found += [record.value.decode() for record in batch]
    await reader.stop()
    return sorted(found)


async def send(writer, topic, name, count):
    for at in range(count):
        await writer.send(topic, f"{name}-{at}".encode(), partition=at % PARTS)
    await writer.flush()


def named(name, count):
    return [f"{name}-{at}" for at in range(count)]


async def producer(name):
    writer = AIOKafkaProducer(bootstrap_servers=BOOT, transactional_id=name, transaction_timeout_ms=60000)
    await writer.start()
    return writer


async def commit_and_abort():
    one = await producer("one")
    await one.begin_transaction()
    await send(one, "tx", "good", 30)
    assert await values("tx", "read_committed") == []
    await one.commit_transaction()
    wanted = named("good", 30)
    for turn in range(10):
        await one.begin_transaction()
        await send(one, "tx", f"turn{turn}", 3)
        if turn % 2:
            await one.abort_transaction()
        else:
            await one.commit_transaction()
            wanted += named(f"turn{turn}", 3)
    await one.begin_transaction()
    await send(one, "tx", "before", 3)
    subprocess.run([CTL, "restart"], check=True)
    await send(one, "tx", "after", 3)
    await one.commit_transaction()
    wanted += named("before", 3) + named("after", 3)
    await one.stop()

    async def all_seen():
        return await values("tx", "read_committed") == sorted(wanted)

    await wait("all that is committed", all_seen)
    assert len(await values("tx", "read_uncommitted")) == len(wanted) + 15


async def fencing():
    old = await producer("two")
    await old.begin_transaction()
    await send(old, "tx", "zombie", 3)
    new = await producer("two")
    await new.begin_transaction()
    await send(new, "tx", "new", 3)
    await new.commit_transaction()
    try:
        await old.commit_transaction()
        raise AssertionError("a fenced producer commits")
    except ProducerFenced:
        pass
    await new.stop()
    try:
        await old.stop()
    except ProducerFenced:
        pass

    async def new_seen():
        seen = set(await values("tx", "read_committed"))
        assert not seen & set(named("zombie", 3))
        return seen >= set(named("new", 3))

    await wait("the new one's records", new_seen)


async def copying():
    source = AIOKafkaProducer(bootstrap_servers=BOOT, enable_idempotence=True)
    await source.start()
    await send(source, "tx-in", "v", 90)
    await source.stop()
    reader = AIOKafkaConsumer(
        "tx-in",
        bootstrap_servers=BOOT,
        group_id="copy",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    writer = await producer("copier")
    await reader.start()
    copied = turn = 0
    while copied < 90:
        batches = await reader.getmany(timeout_ms=1000, max_records=10)
        if not batches:
            continue
        turn += 1
        await writer.begin_transaction()
        offsets = {}
        for place, batch in batches.items():
            for record in batch:
                await writer.send("tx-out", record.value, partition=record.partition)
            offsets[place] = batch[-1].offset + 1
        await writer.send_offsets_to_transaction(offsets, "copy")
        if turn % 3 == 0:
            await writer.abort_transaction()
            for place in reader.assignment():
                reader.seek(place, await reader.committed(place) or 0)
        else:
            await writer.commit_transaction()
            copied += sum(map(len, batches.values()))
    await reader.stop()
    await writer.stop()

    async def all_copied():
        return await values("tx-out", "read_committed") == sorted(named("v", 90))

    await wait("all copied, each once", all_copied)


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOT)
    await admin.start()
    await admin.create_topics([NewTopic(t, PARTS, REPLICAS) for t in ("tx", "tx-in", "tx-out")])
    await admin.close()
    for test in (commit_and_abort, fencing, copying):
        print("transactions:", test.__name__, flush=True)
        await test()
    print("transactions: ok")


asyncio.run(main())
