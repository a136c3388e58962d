"""Committed offsets: OffsetCommit, OffsetFetch and OffsetDelete, by group members and by others."""

import struct

from common import prepare, prepare_groups
from messages import NO_ID


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


# What a consumer says of itself, and what it is given: both hold the topic.
SUBSCRIPTION = struct.pack(">hi", 0, 1) + text("o") + struct.pack(">i", -1)
ASSIGNMENT = struct.pack(">hi", 0, 1) + text("o") + struct.pack(">iii", 1, 0, -1)


def topics_of(version, partitions):
    """`(topic, partition, offset, metadata)` as an OffsetCommit has them; from version 10 on topics are ids."""

    def topics(peer):
        out = {}
        for topic, partition, offset, metadata in partitions:
            one = dict(PartitionIndex=partition, CommittedOffset=offset, CommittedMetadata=metadata)
            out.setdefault(topic, []).append(one)
        return [
            dict(dict(TopicId=peer.memory.get(name, name)) if version >= 10 else dict(Name=name), Partitions=given)
            for name, given in out.items()
        ]

    return topics


def run(d):
    prepare(d, {"o": 3, "o2": 1})
    for peer in d.peers:
        peer.memory["o"], peer.memory["o2"] = peer.topic_id("o"), peer.topic_id("o2")

    def commit(label, group, *partitions, version=9, member="", generation=-1, **more):
        topics = topics_of(version, partitions)

        def body(peer):
            head = dict(GroupId=group, MemberId=peer.memory.get(member, member), GenerationIdOrMemberEpoch=generation)
            return dict(head, Topics=topics(peer), **more)

        d.both(label, "OffsetCommit", version, body)

    def fetch(label, group, *partitions, version=9, all=False, **more):
        def body(peer):
            wanted = {}
            for topic, partition in partitions:
                wanted.setdefault(topic, []).append(partition)
            named = [
                dict(dict(TopicId=peer.memory.get(name, name)) if version >= 10 else dict(Name=name), PartitionIndexes=given)
                for name, given in wanted.items()
            ]
            topics = None if all else named
            if version >= 8:
                return dict(Groups=[dict(GroupId=group, Topics=topics, **more)])
            return dict(GroupId=group, Topics=topics, **more)

        d.both(label, "OffsetFetch", version, body)

    for version in range(1, 10):
        fetch("before there are groups", "nobody", ("o", 0), version=version)
    prepare_groups(d)
    simple(d, commit, fetch)
    grouped(d, commit, fetch)
    removed(d, commit, fetch)


def simple(d, commit, fetch):
    for version in range(2, 10):
        commit("simple", f"simple-{version}", ("o", 0, version, "m"), version=version)
        fetch("simple", f"simple-{version}", ("o", 0), ("o", 1))
    commit("by id", "simple-10", ("o", 0, 5, "m"), version=10)
    commit("unknown id", "simple-10", ("11" * 16, 0, 5, "m"), version=10)
    commit("no id", "simple-10", (NO_ID, 0, 5, "m"), version=10)
    name = "simple"
    commit("several", name, ("o", 0, 1, "a"), ("o", 1, 2, ""), ("o", 2, 3, None), ("o2", 0, 4, "ß"))
    commit("unknown topic", name, ("nope", 0, 1, ""), ("o", 0, 2, ""))
    commit("unknown partition", name, ("o", 9, 1, ""), ("o", -1, 1, ""))
    commit("illegal topic", name, ("a b", 0, 1, ""))
    commit("negative offset", name, ("o", 0, -1, ""), ("o", 1, -7, ""))
    commit("metadata at the limit", name, ("o", 0, 1, "m" * 4096))
    commit("metadata beyond it", name, ("o", 0, 2, "m" * 4097), ("o", 1, 3, "m"))
    commit("metadata of wide letters", name, ("o", 0, 2, "ß" * 2049))
    commit("twice the same", name, ("o", 2, 5, ""), ("o", 2, 6, ""))
    commit("nothing", name)
    commit("empty group", "", ("o", 0, 1, ""))
    commit("generation, unknown group", "nobody's", ("o", 0, 1, ""), generation=3)
    commit("generation, unknown group", "nobody's", ("o", 0, 1, ""), generation=3, version=8)
    commit("generation and member, unknown group", "nobody's", ("o", 0, 1, ""), generation=3, member="m")
    commit("member without generation", name, ("o", 0, 1, ""), member="m")
    commit("generation, simple group", name, ("o", 0, 1, ""), generation=0)
    commit("instance, simple group", name, ("o", 0, 1, ""), GroupInstanceId="i")
    for version in range(1, 10):
        fetch("some", name, ("o", 0), ("o", 1), ("o", 2), ("o2", 0), version=version)
        fetch("unknown", name, ("nope", 0), ("o", 9), ("a b", 0), version=version)
        fetch("unknown group", "nobody", ("o", 0), version=version)
        fetch("none", name, version=version)
        if version >= 2:
            fetch("all", name, version=version, all=True)
            fetch("all of unknown group", "nobody", version=version, all=True)
    fetch("some", name, ("o", 0), ("o2", 0), version=10)
    fetch("unknown", name, ("11" * 16, 0), version=10)
    fetch("all", name, version=10, all=True)
    fetch("empty group", "", ("o", 0))
    fetch("twice the same", name, ("o", 0), ("o", 0))
    fetch("with member", name, ("o", 0), MemberId="m", MemberEpoch=1)
    several = [dict(GroupId=group, Topics=None) for group in (name, "nobody", "simple-5")]
    d.both("several groups", "OffsetFetch", 9, dict(Groups=several))
    d.both("stable only", "OffsetFetch", 9, dict(Groups=several, RequireStable=True))
    d.both("no groups", "OffsetFetch", 9, dict(Groups=[]))


def grouped(d, commit, fetch):
    def join(peer):
        body = dict(GroupId="grouped", SessionTimeoutMs=30000, RebalanceTimeoutMs=30000, ProtocolType="consumer")
        body["Protocols"] = [dict(Name="range", Metadata=SUBSCRIPTION)]
        body["MemberId"] = peer.call("JoinGroup", 5, dict(body, MemberId=""))["MemberId"]
        peer.name(body["MemberId"], "member")
        return peer.call("JoinGroup", 5, body)

    name = "grouped"
    d.each("joins", join)
    commit("before sync", name, ("o", 0, 1, ""), member="member", generation=1)

    def sync(peer):
        given = [dict(MemberId=peer.memory["member"], Assignment=ASSIGNMENT)]
        return dict(GroupId=name, MemberId=peer.memory["member"], GenerationId=1, Assignments=given)

    d.both("syncs", "SyncGroup", 3, sync)
    for version in range(2, 10):
        commit("member", name, ("o", 0, version, ""), member="member", generation=1, version=version)
        commit("stale generation", name, ("o", 0, 77, ""), member="member", generation=0, version=version)
        commit("future generation", name, ("o", 0, 77, ""), member="member", generation=2, version=version)
        commit("unknown member", name, ("o", 0, 77, ""), member="nobody", generation=1, version=version)
        commit("no member", name, ("o", 0, 77, ""), version=version)
        commit("member without generation", name, ("o", 0, 77, ""), member="member", version=version)
    commit("instance", name, ("o", 0, 77, ""), member="member", generation=1, GroupInstanceId="i")
    fetch("member", name, ("o", 0))


def removed(d, commit, fetch):
    def delete(label, group, *topics):
        named = [dict(Name=name, Partitions=[dict(PartitionIndex=at) for at in partitions]) for name, partitions in topics]
        d.both(label, "OffsetDelete", 0, dict(GroupId=group, Topics=named))

    delete("subscribed", "grouped", ("o", [0]), ("o2", [0]))
    for peer in d.peers:
        for id in ("", "unreadable"):
            body = dict(GroupId="unreadable", SessionTimeoutMs=30000, RebalanceTimeoutMs=30000, ProtocolType="consumer")
            body.update(Protocols=[dict(Name="range", Metadata=b"m")], MemberId=peer.memory.get(id, id))
            answer = peer.call("JoinGroup", 5, body)
            peer.name(answer["MemberId"], "unreadable")
    delete("subscription that cannot be read", "unreadable", ("o", [0]), ("o2", [0]))
    delete("simple", "simple", ("o", [0, 1, 9]), ("nope", [0]))
    fetch("what is left", "simple", all=True)
    delete("none there", "simple", ("o", [0]))
    delete("unknown group", "nobody", ("o", [0]))
    delete("empty group", "", ("o", [0]))
    delete("nothing", "simple")
    delete("unknown topics only", "simple", ("nope", [0, 1]))
    d.both("group", "DeleteGroups", 2, dict(GroupsNames=["simple", "grouped"]))
    fetch("deleted group", "simple", all=True)
    commit("deleted group", "simple", ("o", 0, 1, ""))
    fetch("begun again", "simple", all=True)
    for peer in d.peers:
        peer.call("DeleteTopics", 5, dict(TopicNames=["o2"], TimeoutMs=5000))
    fetch("topic deleted", "simple-9", all=True)
