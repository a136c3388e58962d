"""Leaves transactions open: one that its coordinator knows of, and one that hangs. Raw messages, as no client does the latter."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "compat" / "differential"))

from batches import batch  # noqa: E402
from messages import Connection, Definitions  # noqa: E402

jar, address, topic = sys.argv[1:]
definitions = Definitions(jar)
HOUR = 3_600_000


def call(at, api, version, **body):
    """The answer of the broker at an address, or None when it gives none: it may be killed meanwhile."""
    try:
        connection = Connection(definitions, at)
        connection.send(api, version, body)
        answer = connection.receive(api, version)
    except OSError:
        return None
    return answer if isinstance(answer, dict) else None


def until(what, ask):
    """What `ask` returns once it is something, within half a minute."""
    deadline = time.monotonic() + 30
    while not (got := ask()):
        assert time.monotonic() < deadline, what
    return got


def coordinator(name):
    answer = call(address, "FindCoordinator", 4, KeyType=1, CoordinatorKeys=[name])
    if answer and not answer["Coordinators"][0]["ErrorCode"]:
        return "{Host}:{Port}".format(**answer["Coordinators"][0])


def leader():
    answer = call(address, "Metadata", 1, Topics=[dict(Name=topic)])
    if answer:
        nodes = {node["NodeId"]: "{Host}:{Port}".format(**node) for node in answer["Brokers"]}
        return nodes.get(answer["Topics"][0]["Partitions"][0]["LeaderId"])


def producer(name):
    at = coordinator(name)
    answer = at and call(at, "InitProducerId", 4, TransactionalId=name, TransactionTimeoutMs=600_000)
    if answer and not answer["ErrorCode"]:
        return answer["ProducerId"], answer["ProducerEpoch"]


def add_partition(name, who):
    at = coordinator(name)
    answer = at and call(
        at,
        "AddPartitionsToTxn",
        3,
        V3AndBelowTransactionalId=name,
        V3AndBelowProducerId=who[0],
        V3AndBelowProducerEpoch=who[1],
        V3AndBelowTopics=[dict(Name=topic, Partitions=[0])],
    )
    return answer and not answer["ResultsByTopicV3AndBelow"][0]["ResultsByPartition"][0]["PartitionErrorCode"]


def write(name, who):
    then = int(time.time() * 1000) - HOUR
    records = batch([b"open"], attributes=16, producer=who[0], epoch=who[1], sequence=0, first_timestamp=then)
    data = [dict(Name=topic, PartitionData=[dict(Index=0, Records=records)])]
    at = leader()
    answer = at and call(at, "Produce", 9, TransactionalId=name, Acks=-1, TimeoutMs=5000, TopicData=data)
    # A repeated batch is answered with the offset it has.
    if answer and not answer["Responses"][0]["PartitionResponses"][0]["ErrorCode"]:
        return [answer["Responses"][0]["PartitionResponses"][0]["BaseOffset"]]


def begin(name, adds):
    who = until("a producer id", lambda: producer(name))
    if adds:
        until("the partition is in the transaction", lambda: add_partition(name, who))
    print(name, who[0], until("the batch is written", lambda: write(name, who))[0])


def verification(value):
    config = dict(Name="transaction.partition.verification.enable", ConfigOperation=0, Value=value)
    resources = [dict(ResourceType=4, ResourceName="", Configs=[config])]

    def changed():
        answer = call(address, "IncrementalAlterConfigs", 1, Resources=resources)
        return answer and not answer["Responses"][0]["ErrorCode"]

    until("the config is set", changed)


begin("known", adds=True)
verification("false")
begin("hangs", adds=False)
verification("true")
