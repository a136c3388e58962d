"""DescribeQuorum."""

from messages import NO_ID

from common import prepare


def run(d):
    prepare(d, {"q4": 1})

    def moving(answer):
        for topic in answer["Topics"]:
            for partition in topic["Partitions"]:
                for replica in [partition, *partition.get("CurrentVoters", []), *partition.get("Observers", [])]:
                    for key in ("LeaderEpoch", "HighWatermark", "LogEndOffset", "LastFetchTimestamp", "LastCaughtUpTimestamp"):
                        if replica.get(key, -1) >= 0:
                            replica[key] = "set"
                    if "ReplicaDirectoryId" in replica:
                        replica["ReplicaDirectoryId"] = replica["ReplicaDirectoryId"] != NO_ID
        for node in answer.get("Nodes", []):
            node["Listeners"] = len(node["Listeners"])

    def partitions(topic, *indexes):
        return dict(Topics=[dict(TopicName=topic, Partitions=[dict(PartitionIndex=index) for index in indexes])])

    for v in (0, 1, 2):
        d.both("ok", "DescribeQuorum", v, partitions("__cluster_metadata", 0), moving)
        d.both("p1", "DescribeQuorum", v, partitions("__cluster_metadata", 1), moving)
        d.both("other", "DescribeQuorum", v, partitions("q4", 0), moving)
        d.both("two", "DescribeQuorum", v, partitions("__cluster_metadata", 0, 1), moving)
        d.both("none", "DescribeQuorum", v, dict(Topics=[]), moving)
