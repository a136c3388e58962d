"""Leaves transactions open: one that its coordinator knows of, and one that hangs. Raw messages, as no client does the latter."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "compat" / "differential"))

from batches import batch  # noqa: E402
from messages import Connection, Definitions  # noqa: E402

jar, address, topic = sys.argv[1:]
connection = Connection(Definitions(jar), address)
HOUR = 3_600_000


def call(api, version, **body):
    connection.send(api, version, body)
    return connection.receive(api, version)


def begin(name, adds):
    deadline = time.monotonic() + 30
    while call("FindCoordinator", 4, KeyType=1, CoordinatorKeys=[name])["Coordinators"][0]["ErrorCode"]:
        assert time.monotonic() < deadline, "no coordinator"
    while True:
        producer = call("InitProducerId", 4, TransactionalId=name, TransactionTimeoutMs=600_000)
        if not producer["ErrorCode"]:
            break
        assert time.monotonic() < deadline, producer
    who = producer["ProducerId"], producer["ProducerEpoch"]
    if adds:
        call(
            "AddPartitionsToTxn",
            3,
            V3AndBelowTransactionalId=name,
            V3AndBelowProducerId=who[0],
            V3AndBelowProducerEpoch=who[1],
            V3AndBelowTopics=[dict(Name=topic, Partitions=[0])],
        )
    then = int(time.time() * 1000) - HOUR
    records = batch([b"open"], attributes=16, producer=who[0], epoch=who[1], sequence=0, first_timestamp=then)
    data = [dict(Name=topic, PartitionData=[dict(Index=0, Records=records)])]
    answer = call("Produce", 9, TransactionalId=name, Acks=-1, TimeoutMs=5000, TopicData=data)
    written = answer["Responses"][0]["PartitionResponses"][0]
    assert not written["ErrorCode"], written
    print(name, who[0], written["BaseOffset"])


def verification(value):
    config = dict(Name="transaction.partition.verification.enable", ConfigOperation=0, Value=value)
    answer = call("IncrementalAlterConfigs", 1, Resources=[dict(ResourceType=4, ResourceName="", Configs=[config])])
    assert not answer["Responses"][0]["ErrorCode"], answer


begin("known", adds=True)
verification("false")
begin("hangs", adds=False)
verification("true")
