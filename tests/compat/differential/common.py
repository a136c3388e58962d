"""What the cases of several areas share."""

import time


def topic(name, partitions=-1, replicas=-1, assignments=(), configs=()):
    """A topic to create; `assignments` are pairs of a partition and its brokers."""
    return dict(
        Name=name,
        NumPartitions=partitions,
        ReplicationFactor=replicas,
        Assignments=[dict(PartitionIndex=index, BrokerIds=brokers) for index, brokers in assignments],
        Configs=[dict(Name=key, Value=value) for key, value in configs],
    )


def create(d, label, version, *topics, validate_only=False):
    d.both(label, "CreateTopics", version, dict(Topics=list(topics), timeoutMs=10000, validateOnly=validate_only))


def prepare(d, topics, forever=False, **configs):
    """Makes topics, given as names with their number of partitions, and waits until they are served. Records kept `forever` may be old."""
    retention = [("retention.ms", "-1")] if forever else []
    for peer in d.peers:
        wanted = [topic(name, count, configs=configs.get(name, []) + retention) for name, count in topics.items()]
        made = peer.call("CreateTopics", 5, dict(Topics=wanted, timeoutMs=10000))
        assert all(one["ErrorCode"] == 0 for one in made["Topics"]), made
    for peer in d.peers:
        # Metadata may show a partition before its broker leads it.
        wanted = [
            dict(Name=name, Partitions=[dict(PartitionIndex=index, Timestamp=-1) for index in range(count)])
            for name, count in topics.items()
        ]
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answer = peer.call("ListOffsets", 7, dict(ReplicaId=-1, Topics=wanted))
            if all(p["ErrorCode"] == 0 for t in answer["Topics"] for p in t["Partitions"]):
                break
            time.sleep(0.02)


def prepare_groups(d):
    """Waits until every partition of `__consumer_offsets` has its coordinator; so many names reach all of them."""
    for peer in d.peers:
        deadline = time.monotonic() + 240
        for number in range(40):
            group = f"reach-{number}"
            while time.monotonic() < deadline:
                found = peer.call("FindCoordinator", 4, dict(KeyType=0, CoordinatorKeys=[group]))
                beat = peer.call("Heartbeat", 4, dict(GroupId=group, MemberId="m", GenerationId=1))
                if found["Coordinators"][0]["ErrorCode"] == 0 and beat["ErrorCode"] == 25:
                    break
                time.sleep(0.02)


def next_millisecond():
    """Brokers stamp markers: of two in one millisecond the first counts as the newest, so the answer would hang on the clock."""
    before = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == before:
        time.sleep(0.0002)


def named(*names):
    return [dict(Name=name) for name in names]
