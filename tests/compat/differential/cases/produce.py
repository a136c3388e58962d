"""Produce, InitProducerId and what a log makes of batches that are right and wrong; what was stored is read back byte for byte."""

import gzip

from batches import batch, record, varint
from common import prepare
from messages import NO_ID

FETCH_ALL = 10_000_000


def body(version, topic, records, partition=0, acks=-1, **more):
    """A request for one partition; from version 13 on the topic is an id."""
    data = [dict(Index=partition, Records=records)]
    named = dict(TopicId=topic) if version >= 13 else dict(Name=topic)
    return dict(Acks=acks, TimeoutMs=5000, TopicData=[dict(named, PartitionData=data)], **more)


def run(d):
    prepare(
        d,
        {"w": 2, "w1": 64, "w2": 1, "wi": 1, "wc": 1, "wl": 1, "ws": 1, "wt": 1, "wz": 1, "wg": 1, "wb": 1},
        forever=True,
        wc=[("cleanup.policy", "compact")],
        wl=[("message.timestamp.type", "LogAppendTime")],
        ws=[("max.message.bytes", "1000")],
        wt=[("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "1000")],
        wz=[("compression.type", "uncompressed")],
        wg=[("compression.type", "gzip")],
    )

    def produce(label, topic, records, version=12, **more):
        d.both(label, "Produce", version, body(version, topic, records, **more))

    def stored(label, topic, partition=0, tidy=None):
        """Everything that the partition holds, as bytes."""
        wanted = [dict(Topic=topic, Partitions=[dict(Partition=partition, FetchOffset=0, PartitionMaxBytes=FETCH_ALL)])]
        d.both(f"{label}: stored", "Fetch", 12, dict(MaxWaitMs=0, MinBytes=0, MaxBytes=FETCH_ALL, Topics=wanted), tidy)

    for version in range(3, 13):
        produce("good", "w", batch([b"a", None, b"c"]), version)
    d.both("good", "Produce", 13, lambda peer: body(13, peer.topic_id("w"), batch()))
    d.both("unknown id", "Produce", 13, body(13, "11" * 16, batch()))
    d.both("no id", "Produce", 13, body(13, NO_ID, batch()))
    stored("good", "w")
    for acks in (-2, 2):
        produce("acks %d" % acks, "w", batch(), acks=acks)
    produce("acks 1", "w", batch(), acks=1)
    produce("unknown topic", "nope", batch())
    produce("illegal topic", "a b", batch())
    produce("empty topic", "", batch())
    produce("unknown partition", "w", batch(), partition=7)
    produce("negative partition", "w", batch(), partition=-1)
    produce("metadata log", "__cluster_metadata", batch())
    produce("null records", "w", None)
    produce("empty records", "w", b"")
    produce("transaction id", "w", batch(), TransactionalId="t")
    d.both("no topics", "Produce", 12, dict(Acks=-1, TimeoutMs=5000, TopicData=[]))
    d.both("no partitions", "Produce", 12, dict(Acks=-1, TimeoutMs=5000, TopicData=[dict(Name="w", PartitionData=[])]))
    two = [dict(Index=0, Records=batch()), dict(Index=1, Records=batch(crc=1)), dict(Index=9, Records=batch())]
    d.both("one bad of three", "Produce", 12, dict(Acks=-1, TimeoutMs=5000, TopicData=[dict(Name="w", PartitionData=two)]))
    twice = [dict(Index=0, Records=batch([b"1"])), dict(Index=0, Records=batch([b"2"]))]
    d.both("twice the same", "Produce", 12, dict(Acks=-1, TimeoutMs=5000, TopicData=[dict(Name="w", PartitionData=twice)]))

    for at in range(wrong_batches(produce)):
        stored(f"wrong {at}", "w1", at)

    produce("one, too big", "ws", batch([b"x" * 2000]))
    produce("many, too big", "ws", batch([b"x" * 500] * 4))
    produce("two batches", "w2", batch([b"1"]) + batch([b"2"]))
    produce("old", "wt", batch())
    produce("from the future", "wt", batch(first_timestamp=5_000_000_000_000))
    produce("no key", "wc", batch())
    produce("key", "wc", batch(records=record(0, key=b"k")))
    produce("key and none", "wc", batch(records=record(0, key=b"k") + record(1), count=2, last_delta=1))
    produce("null value", "wc", batch(records=record(0, None, key=b"k")))
    stored("compacted", "wc")
    produce("append time", "wl", batch([b"1", b"2"]))
    packed = gzip.compress(record(0) + record(1), mtime=0)
    produce("gzip", "w2", batch(records=packed, attributes=1, count=2, last_delta=1))
    produce("gzip, append time", "wl", batch(records=packed, attributes=1, count=2, last_delta=1))
    produce("gzip to none", "wz", batch(records=packed, attributes=1, count=2, last_delta=1))
    produce("none to gzip", "wg", batch([b"1", b"2"]))
    produce("gzip broken", "wb", batch(records=packed[:-12], attributes=1, count=2, last_delta=1))
    produce("gzip, wrong count", "wb", batch(records=packed, attributes=1, count=3, last_delta=2))
    stored("gzip", "w2")
    stored("uncompressed", "wz")
    idempotent(d, produce, stored)


def wrong_batches(produce):
    """Each goes to a partition of its own; gives their number."""
    three = [b"a", b"b", b"c"]
    good = batch(three)
    cases = dict(
        crc=batch(three, crc=12345),
        magic_0=batch(three, magic=0),
        magic_1=batch(three, magic=1),
        magic_3=batch(three, magic=3),
        magic_negative=batch(three, magic=-1),
        count_high=batch(three, count=4, last_delta=3),
        count_low=batch(three, count=2, last_delta=1),
        count_zero=batch(three, count=0),
        count_negative=batch(three, count=-1),
        count_but_not_delta=batch(three, count=3, last_delta=5),
        delta_low=batch(three, last_delta=1),
        delta_negative=batch(three, last_delta=-1),
        no_records=batch([]),
        no_records_delta_0=batch([], last_delta=0),
        base_offset=batch(three, base_offset=100),
        base_offset_negative=batch(three, base_offset=-5),
        leader_epoch=batch(three, leader_epoch=77),
        length_short=batch(three, length=20),
        length_zero=batch(three, length=0),
        length_negative=batch(three, length=-1),
        length_long=batch(three, length=len(good)),
        half=good[: len(good) // 2],
        header_only=good[:30],
        tail_cut=good[:-1],
        rest_behind=good + b"xyz",
        second_broken=good + batch(three, crc=1),
        codec_5=batch(three, attributes=5),
        codec_7=batch(three, attributes=7),
        control=batch(three, attributes=0x20),
        transactional=batch(three, attributes=0x10),
        append_time=batch(three, attributes=0x08),
        delete_horizon=batch(three, attributes=0x40),
        unused_bits=batch(three, attributes=0x100),
        max_timestamp_low=batch(three, max_timestamp=5),
        max_timestamp_high=batch(three, max_timestamp=1_800_000_000_000),
        timestamps_negative=batch(three, first_timestamp=-1, max_timestamp=-1),
        timestamp_minus_two=batch(three, first_timestamp=-2),
        record_offsets_wrong=batch(records=record(0) + record(5), count=2, last_delta=1),
        record_offsets_same=batch(records=record(0) + record(0), count=2, last_delta=1),
        record_too_long=batch(records=varint(100) + record(0)[1:]),
        record_too_short=batch(records=varint(2) + record(0)[1:]),
        record_negative=batch(records=varint(-3) + record(0)[1:]),
        record_attributes=batch(records=record(0, attributes=7)),
        headers=batch(records=record(0, headers=[(b"k", b"v"), (b"k", None)])),
        header_null_key=batch(records=record(0, headers=[(None, b"v")])),
        sequence_without_producer=batch(three, sequence=0),
        producer_without_sequence=batch(three, producer=1, epoch=0),
        producer_without_epoch=batch(three, producer=1, sequence=0),
        good=good,
    )
    for at, (name, data) in enumerate(cases.items()):
        produce(name.replace("_", " "), "w1", data, partition=at)
    for version in (3, 7, 8):
        produce("crc", "w1", cases["crc"], version)
        produce("count low", "w1", cases["count_low"], version)
    return len(cases)


def idempotent(d, produce, stored):
    for version in range(0, 6):
        d.both("new", "InitProducerId", version, dict(TransactionTimeoutMs=1000))
    d.both("again", "InitProducerId", 5, dict(TransactionTimeoutMs=1000, ProducerId=7, ProducerEpoch=3))
    d.both("no epoch", "InitProducerId", 5, dict(TransactionTimeoutMs=1000, ProducerId=7, ProducerEpoch=-1))
    d.both("empty id", "InitProducerId", 5, dict(TransactionalId="", TransactionTimeoutMs=1000))

    def at(label, sequence, values=(b"v",), producer=1000, epoch=0, **more):
        produce(label, "wi", batch(values, producer=producer, epoch=epoch, sequence=sequence, **more))

    at("first", 0)
    at("second", 1, [b"a", b"b"])
    at("duplicate", 1, [b"a", b"b"])
    at("duplicate of the first", 0)
    at("half a duplicate", 1)
    at("gap", 9)
    at("third", 3)
    for number in range(4, 10):
        at(f"sequence {number}", number)
    at("out of the window", 1, [b"a", b"b"])
    at("sequence before all", 0)
    at("negative sequence", -2)
    at("new epoch, wrong start", 5, epoch=1)
    at("new epoch", 0, epoch=1)
    at("old epoch", 10)
    at("negative epoch", 0, epoch=-1)
    at("epoch far on", 0, epoch=32767)
    at("unknown, not at 0", 5, producer=2000)
    at("other producer", 0, producer=3000)
    at("near the end", 2147483646, producer=4000)
    at("wrap", 2147483647, producer=5000, values=[b"1", b"2"])
    good = batch([b"1"], producer=6000, epoch=0, sequence=0)
    produce("two batches", "wi", good + batch([b"2"], producer=6000, epoch=0, sequence=1))
    produce("codec broken", "wb", batch([b"1"], producer=6000, epoch=0, sequence=0, attributes=1))
    stored("idempotent", "wi")
    d.both(
        "producers",
        "DescribeProducers",
        0,
        dict(Topics=[dict(Name="wi", PartitionIndexes=[0, 5]), dict(Name="nope", PartitionIndexes=[0])]),
        quiet,
    )


def quiet(answer):
    for topic in answer["Topics"]:
        for partition in topic["Partitions"]:
            partition["ActiveProducers"].sort(key=lambda producer: producer["ProducerId"])
            for producer in partition["ActiveProducers"]:
                producer["id"] = producer["ProducerId"]
