#!/usr/bin/env python3
"""Writes records to the source, and compares what the two clusters hold.

  records.py fill JAR ADDRESS TOPIC PARTITIONS ROUND   records of all kinds to each partition
  records.py transactions JAR ADDRESS TOPIC ROUND      a committed transaction, an aborted one, another committed one
  records.py commit JAR ADDRESS GROUP TOPIC            a group of the new protocol commits the end of each partition
  records.py same SOURCE TARGET                        files hold the same records, partition by partition (`esker consume -J`)
  records.py reread SOURCE TARGET                      as `same`, but the target may begin earlier: none is skipped
  records.py topic SOURCE TARGET                       files hold the same partitions and configs (`esker topic describe --json`)
  records.py group SOURCE TARGET                       files hold the same partitions of a group, and the target's lag is 0 (`esker group
                                                       describe --json`)

It writes raw messages: no client of ours sets a record's timestamp, sends null headers or aborts."""

import json
import pathlib
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "differential"))

from batches import batch, record  # noqa: E402
from messages import Connection, Definitions  # noqa: E402

RECORDS = 40
# Not UTF-8, so that nobody may take it for text.
BYTES = bytes(range(256))
HEADERS = [
    [],
    [(b"name", b"value")],
    # Names repeat, in an order of their own; a value is empty, null or any bytes.
    [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (b"", b"no name"), (b"empty", b""), (b"null", None), (b"bytes", BYTES)],
]


class Broker:
    def __init__(self, jar, address):
        self.connection = Connection(Definitions(jar), address)

    def call(self, api, version, **body):
        self.connection.send(api, version, body)
        answer = self.connection.receive(api, version)
        assert isinstance(answer, dict), f"{api}: {answer}"
        return answer

    def until_ok(self, api, version, error=lambda answer: answer["ErrorCode"], **body):
        """Asks again while the coordinator loads, or completes the transaction before."""
        deadline = time.monotonic() + 30
        while error(answer := self.call(api, version, **body)) in (14, 15, 16, 51):
            assert time.monotonic() < deadline, f"{api}: {answer}"
            time.sleep(0.05)
        assert error(answer) == 0, f"{api}: {answer}"
        return answer

    def produce(self, topic, partition, data, transactional_id=None):
        topics = [dict(Name=topic, PartitionData=[dict(Index=partition, Records=data)])]
        answer = self.call("Produce", 9, TransactionalId=transactional_id, Acks=-1, TimeoutMs=10_000, TopicData=topics)
        assert answer["Responses"][0]["PartitionResponses"][0]["ErrorCode"] == 0, answer


def records_of(name, first_timestamp, count=RECORDS):
    """Raw records and the latest timestamp: keys, values and headers of all kinds; timestamps that go back and forth."""
    data, latest = b"", 0
    for number in range(count):
        key = [f"{name}-{number % 5}".encode(), BYTES, b"", None][number % 4]
        value = [f"{name}-{number}".encode(), BYTES + name.encode(), b"", None, b"x" * 3000][number % 5]
        delta = number * 7919 % 1000
        latest = max(latest, first_timestamp + delta)
        data += record(number, value, key, delta, HEADERS[number % 3])
    return data, latest


def whole_batch(name, count=RECORDS, **fields):
    first = int(time.time() * 1000) - 600_000
    data, latest = records_of(name, first, count)
    return batch(records=data, count=count, last_delta=count - 1, first_timestamp=first, max_timestamp=latest, **fields)


def fill(jar, address, topic, partitions, turn):
    broker = Broker(jar, address)
    for partition in range(int(partitions)):
        broker.produce(topic, partition, whole_batch(f"{turn}-{partition}"))


def transactions(jar, address, topic, turn):
    broker = Broker(jar, address)
    name = f"writer-{turn}"
    broker.until_ok("FindCoordinator", 3, Key=name, KeyType=1)
    who = broker.until_ok("InitProducerId", 4, TransactionalId=name, TransactionTimeoutMs=60_000)
    who = dict(ProducerId=who["ProducerId"], ProducerEpoch=who["ProducerEpoch"])
    count = 10
    for number, committed in enumerate([True, False, True]):
        broker.until_ok(
            "AddPartitionsToTxn",
            3,
            lambda answer: answer["ResultsByTopicV3AndBelow"][0]["ResultsByPartition"][0]["PartitionErrorCode"],
            V3AndBelowTransactionalId=name,
            V3AndBelowProducerId=who["ProducerId"],
            V3AndBelowProducerEpoch=who["ProducerEpoch"],
            V3AndBelowTopics=[dict(Name=topic, Partitions=[0])],
        )
        transactional = dict(attributes=16, producer=who["ProducerId"], epoch=who["ProducerEpoch"], sequence=number * count)
        data = whole_batch(f"{turn}-{number}-{'committed' if committed else 'aborted'}", count, **transactional)
        broker.produce(topic, 0, data, name)
        broker.until_ok("EndTxn", 3, TransactionalId=name, Committed=committed, **who)


def commit(jar, address, group, topic):
    broker = Broker(jar, address)
    broker.until_ok("FindCoordinator", 3, Key=group, KeyType=0)
    found = broker.call("Metadata", 4, Topics=[dict(Name=topic)], AllowAutoTopicCreation=False)["Topics"][0]["Partitions"]
    asked = [dict(PartitionIndex=one["PartitionIndex"], Timestamp=-1) for one in found]
    ends = broker.call("ListOffsets", 5, ReplicaId=-1, Topics=[dict(Name=topic, Partitions=asked)])["Topics"][0]["Partitions"]
    member = str(uuid.uuid4())
    joins = dict(RebalanceTimeoutMs=60_000, SubscribedTopicNames=[topic], ServerAssignor=None, TopicPartitions=[])
    joined = broker.until_ok("ConsumerGroupHeartbeat", 1, GroupId=group, MemberId=member, MemberEpoch=0, **joins)
    offsets = [dict(PartitionIndex=end["PartitionIndex"], CommittedOffset=end["Offset"]) for end in ends]
    topics = [dict(Name=topic, Partitions=offsets)]
    done = broker.call("OffsetCommit", 9, GroupId=group, GenerationIdOrMemberEpoch=joined["MemberEpoch"], MemberId=member, Topics=topics)
    assert not any(one["ErrorCode"] for one in done["Topics"][0]["Partitions"]), done
    broker.until_ok("ConsumerGroupHeartbeat", 1, GroupId=group, MemberId=member, MemberEpoch=-1, TopicPartitions=None)


def partitions_of(file):
    """The records of each partition, without what a mirror may change: topic and offset."""
    found = {}
    for line in pathlib.Path(file).read_text().splitlines():
        one = json.loads(line)
        found.setdefault(one.pop("partition"), []).append((one.pop("offset"), one))
        del one["topic"]
    for partition, records in found.items():
        offsets = [offset for offset, _ in records]
        assert offsets == sorted(set(offsets)), f"{file}: the offsets of partition {partition} do not rise"
    return {partition: [one for _, one in records] for partition, records in found.items()}


def same(source, target, reread=False):
    source, target = partitions_of(source), partitions_of(target)
    again = 0
    for partition in sorted(source.keys() | target.keys()):
        ours, theirs = source.get(partition, []), target.get(partition, [])
        if reread and len(theirs) > len(ours):
            again += len(theirs) - len(ours)
            theirs = theirs[len(theirs) - len(ours) :]
        for number, (one, other) in enumerate(zip(ours, theirs)):
            assert one == other, f"partition {partition}, record {number}: {one} at the source, {other} at the target"
        assert len(ours) == len(theirs), f"partition {partition}: {len(ours)} records at the source, {len(theirs)} at the target"
    count = sum(map(len, source.values()))
    assert count, "there are no records"
    print(f"{count} records in {len(source)} partitions" + f", {again} before them" * reread)


def topic_same(source, target):
    source, target = json.loads(pathlib.Path(source).read_text()), json.loads(pathlib.Path(target).read_text())
    one, other = ((len(topic["partitions"]), topic["configs"]) for topic in (source, target))
    assert one == other, f"{one} at the source, {other} at the target"
    print("%d partitions, %s" % one)


def group_same(source, target):
    source, target = json.loads(pathlib.Path(source).read_text()), json.loads(pathlib.Path(target).read_text())
    committed = [one["partition"] for one in source["offsets"]]
    translated = {one["partition"]: one["lag"] for one in target["offsets"]}
    assert committed and translated == dict.fromkeys(committed, 0), f"partitions {committed} at the source, lags {translated} at the target"
    print(f"all read in {len(committed)} partitions")


def main():
    commands = dict(
        fill=fill,
        transactions=transactions,
        commit=commit,
        same=same,
        reread=lambda source, target: same(source, target, reread=True),
        topic=topic_same,
        group=group_same,
    )
    commands[sys.argv[1]](*sys.argv[2:])


main()
