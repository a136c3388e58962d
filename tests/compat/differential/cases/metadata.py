"""Metadata, DescribeTopicPartitions and DescribeCluster."""

from common import named, prepare


def run(d):
    prepare(d, {"m2": 3, "m3": 3, "m4": 3, "mm.x": 1})

    def mdn(answer):
        # The other areas' topics play no part; which broker it calls the controller is made up by Kafka.
        answer["Topics"] = [t for t in answer["Topics"] if t["Name"] not in others]
        answer.pop("ControllerId", None)

    def already(peer):
        return {t["Name"] for t in peer.call("Metadata", 9, dict(Topics=None))["Topics"]}

    others = set.union(*map(already, d.peers)) - {"m2", "m3", "m4", "mm.x"}

    for v in range(0, 14):
        b = dict(Topics=[dict(Name="m2"), dict(Name="nope"), dict(Name=""), dict(Name="a b")])
        if v >= 4:
            b["AllowAutoTopicCreation"] = False
        if v < 4:
            b["Topics"] = [dict(Name="m2"), dict(Name="a b")]
        if v >= 8:
            b["IncludeTopicAuthorizedOperations"] = True
        if 8 <= v <= 10:
            b["IncludeClusterAuthorizedOperations"] = True
        d.both("named", "Metadata", v, b, mdn)
        d.both("empty", "Metadata", v, dict(Topics=[]), mdn)
        if v >= 1:
            d.both("all", "Metadata", v, dict(Topics=None), mdn)
    for v in (12, 13):
        d.both(
            "by id",
            "Metadata",
            v,
            lambda c: dict(
                Topics=[
                    dict(Name=None, TopicId=c.topic_id("m2")),
                    dict(Name=None, TopicId="11" * 16),
                    dict(Name=None, TopicId="00" * 16),
                ]
            ),
            mdn,
        )
        d.both("id+name", "Metadata", v, lambda c: dict(Topics=[dict(Name="m2", TopicId=c.topic_id("m2"))]), mdn)
        d.both(
            "id+name unknown",
            "Metadata",
            v,
            lambda c: dict(Topics=[dict(Name="nope", TopicId="22" * 16)], AllowAutoTopicCreation=False),
            mdn,
        )
    d.both("name null v11", "Metadata", 11, dict(Topics=[dict(Name=None, TopicId="00" * 16)]), mdn)
    d.both("dup names", "Metadata", 9, dict(Topics=[dict(Name="m2"), dict(Name="m2")]), mdn)
    d.both("mixed", "Metadata", 12, lambda c: dict(Topics=[dict(Name="m2"), dict(Name=None, TopicId=c.topic_id("m3"))]), mdn)

    def made(answer):
        return all(topic["ErrorCode"] == 0 for topic in answer["Topics"])

    d.both("auto1", "Metadata", 3, dict(Topics=[dict(Name="auto3")]), mdn, again=False)
    d.until("auto1 again", "Metadata", 3, dict(Topics=[dict(Name="auto3")]), made, mdn)
    d.both("auto9", "Metadata", 9, dict(Topics=[dict(Name="auto9"), dict(Name="auto9b")]), mdn, again=False)
    d.until("auto9 again", "Metadata", 9, dict(Topics=[dict(Name="auto9"), dict(Name="auto9b")]), made, mdn)
    d.both("auto coll", "Metadata", 9, dict(Topics=[dict(Name="mm_x")]), mdn)
    d.both("auto coll again", "Metadata", 9, dict(Topics=[dict(Name="mm_x")]), mdn)
    d.both("no auto", "Metadata", 9, dict(Topics=[dict(Name="noauto")], AllowAutoTopicCreation=False), mdn)
    d.both("no auto again", "Metadata", 9, dict(Topics=[dict(Name="noauto")], AllowAutoTopicCreation=False), mdn)

    def in_order(answer):
        answer["order"] = [topic["Name"] for topic in answer["Topics"]]

    def dtp(label, body):
        d.both(label, "DescribeTopicPartitions", 0, body, in_order)

    dtp("two", dict(Topics=named("m3", "m2")))
    dtp("unknown", dict(Topics=named("nope", "m2", "a b", "")))
    dtp("limit", dict(Topics=named("m3", "m2", "m4"), ResponsePartitionLimit=4))
    dtp("limit3", dict(Topics=named("m3", "m2", "m4"), ResponsePartitionLimit=3))
    dtp("limit0", dict(Topics=named("m3", "m2"), ResponsePartitionLimit=0))
    dtp("limit-1", dict(Topics=named("m3", "m2"), ResponsePartitionLimit=-1))
    dtp("cursor", dict(Topics=named("m3", "m2", "m4"), Cursor=dict(TopicName="m3", PartitionIndex=1)))
    dtp("cursor beyond", dict(Topics=named("m3", "m2", "m4"), Cursor=dict(TopicName="m3", PartitionIndex=7)))
    dtp("cursor not in list", dict(Topics=named("m3", "m2", "m4"), Cursor=dict(TopicName="mx", PartitionIndex=1)))
    dtp("cursor not in list but before", dict(Topics=named("m3", "m2", "m4"), Cursor=dict(TopicName="a", PartitionIndex=1)))
    dtp("cursor neg", dict(Topics=named("m3", "m2", "m4"), Cursor=dict(TopicName="m3", PartitionIndex=-1)))
    dtp("limit then unknown", dict(Topics=named("m2", "nope", "zz"), ResponsePartitionLimit=3))
    dtp("dup", dict(Topics=named("m2", "m2"), ResponsePartitionLimit=30))

    def dcn(answer):
        answer.pop("ControllerId")

    for v in (0, 1, 2):
        for ops in (False, True):
            d.both("ops %s" % ops, "DescribeCluster", v, dict(IncludeClusterAuthorizedOperations=ops), dcn)
    for et in (2, 3, 0):
        d.both("endpoint %d" % et, "DescribeCluster", 1, dict(EndpointType=et), dcn)
    d.both("fenced", "DescribeCluster", 2, dict(IncludeFencedBrokers=True), dcn)
