"""Consumer groups of KIP-848: heartbeats, epochs, who gives back what and when, static members, offsets, how groups are shown,
and groups that change their kind while members roll.

Members' ids are made here, and the assignor is `range`, so that both brokers give the same partitions to the same members.
"""

import time

from common import prepare, prepare_groups


class Members:
    def __init__(self, d):
        self.d = d

    def beat(self, label, group, member, epoch, topics=None, owned=None, version=1, tidy=None, interval=0, **more):
        """A heartbeat; `owned` are pairs of a topic's name and partitions. Without `again`: it changes things."""
        if epoch == 0:
            more.setdefault("RebalanceTimeoutMs", 30000)
            more.setdefault("ServerAssignor", "range")
            owned = [] if owned is None else owned

        def body(peer):
            fields = dict(GroupId=group, MemberId=member, MemberEpoch=epoch, SubscribedTopicNames=topics, **more)
            if owned is not None:
                fields["TopicPartitions"] = [
                    dict(TopicId=peer.memory[topic], Partitions=list(partitions)) for topic, partitions in owned
                ]
            return fields

        # Kafka's order within a set of partitions is a hash map's.
        def sort(answer):
            if isinstance(answer, dict):
                for topic in (answer.get("Assignment") or {}).get("TopicPartitions", []):
                    topic["Partitions"].sort()
                if tidy:
                    tidy(answer)

        self.d.both(label, "ConsumerGroupHeartbeat", version, body, tidy=sort)

    def until(self, label, group, member, epoch, ready, **more):
        """The same heartbeat again and again, until its answer is as awaited."""

        def sort(answer):
            for topic in (answer.get("Assignment") or {}).get("TopicPartitions", []):
                topic["Partitions"].sort()

        body = dict(GroupId=group, MemberId=member, MemberEpoch=epoch, **more)
        self.d.until(label, "ConsumerGroupHeartbeat", 1, body, ready, tidy=sort)

    def describe(self, label, *groups, version=1):
        def tidy(answer):
            for group in answer["Groups"]:
                for member in group["Members"]:
                    member["SubscribedTopicNames"].sort()
                    for assignment in ("Assignment", "TargetAssignment"):
                        for topic in member[assignment]["TopicPartitions"]:
                            topic["Partitions"].sort()

        self.d.both(label, "ConsumerGroupDescribe", version, dict(GroupIds=list(groups), IncludeAuthorizedOperations=True), tidy)

    def no_interval(self, *groups):
        """Target assignments are made at once."""
        for peer in self.d.peers:
            for group in groups:
                configs = [dict(Name="consumer.assignment.interval.ms", ConfigOperation=0, Value="0")]
                resource = dict(ResourceType=32, ResourceName=group, Configs=configs)
                answer = peer.call("IncrementalAlterConfigs", 1, dict(Resources=[resource], ValidateOnly=False))
                assert answer["Responses"][0]["ErrorCode"] == 0, answer
                shown = dict(ResourceType=32, ResourceName=group, ConfigurationKeys=["consumer.assignment.interval.ms"])
                deadline = time.monotonic() + 20
                while time.monotonic() < deadline:
                    told = peer.call("DescribeConfigs", 4, dict(Resources=[shown]))
                    if told["Results"][0]["Configs"][0]["Value"] == "0":
                        break
                    time.sleep(0.02)


def run(d):
    prepare(d, {"c1": 4, "c2": 4, "c3": 1})
    prepare_groups(d)
    for topic in ("c1", "c2", "c3"):
        known(d, topic)
    for peer in d.peers:
        for topic in ("c1", "c2", "c3"):
            peer.topic_id(topic)
    members = Members(d)
    members.no_interval(*(f"cg{number}" for number in range(1, 30)))
    wrong(d, members)
    one_member(d, members)
    two_members(d, members)
    subscriptions(d, members)
    static_members(d, members)
    regexes(d, members)
    topics(d, members)
    offsets(d, members)
    shown(d, members)
    configs(d)
    rolling(d, members)


def wrong(d, members):
    """What is refused whatever the group."""
    for version in (0, 1):
        beat = lambda label, *args, **more: members.beat(label, *args, version=version, **more)
        beat("no group", "", "m", 0, ["c1"])
        if version:
            beat("no member", "cg1", "", 0, ["c1"])
        beat("no member, later", "cg1", "", 5)
        beat("no member, leaves", "cg1", "", -1)
        beat("no time-out", "cg1", "m", 0, ["c1"], RebalanceTimeoutMs=-1)
        beat("no topics", "cg1", "m", 0)
        beat("owns something", "cg1", "m", 0, ["c1"], owned=[("c1", [0])])
        beat("empty instance", "cg1", "m", 0, ["c1"], InstanceId="")
        beat("empty rack", "cg1", "m", 0, ["c1"], RackId="")
        beat("epoch -3", "cg1", "m", -3)
        beat("epoch -2 without instance", "cg1", "m", -2)
        beat("no such assignor", "cg1", "m", 0, ["c1"], ServerAssignor="best")
        beat("group unknown", "cg1", "m", 3)
        beat("group unknown, leaves", "cg1", "m", -1)
        beat("group unknown, leaves for a while", "cg1", "m", -2, InstanceId="i")
    members.beat("owned null", "cg1", "m", 0, ["c1"], owned=None)
    for regex in ("([", "a)(b", "*", "(?=a)", "a{1001}", "(?P<n>a", "\\"):
        members.beat(f"regex {regex}", "cg1", "m", 0, SubscribedTopicRegex=regex)


def one_member(d, members):
    beat = members.beat
    beat("joins", "cg1", "m1", 0, ["c1", "nope"])
    beat("nothing new", "cg1", "m1", 2)
    beat("says what it owns", "cg1", "m1", 2, owned=[("c1", [0, 1, 2, 3])])
    beat("says all", "cg1", "m1", 2, ["c1", "nope"], owned=[("c1", [0, 1, 2, 3])], RebalanceTimeoutMs=30000)
    beat("epoch too high", "cg1", "m1", 9)
    beat("epoch too low", "cg1", "m1", 1)
    beat("epoch before, owns too much", "cg1", "m1", 1, owned=[("c2", [0])])
    beat("unknown member", "cg1", "nobody", 2)
    beat("unknown instance", "cg1", "m1", 2, InstanceId="nobody")
    beat("joins again", "cg1", "m1", 0, ["c1", "nope"])
    beat("another time-out", "cg1", "m1", 2, RebalanceTimeoutMs=40000)
    beat("another rack", "cg1", "m1", 2, RackId="r")
    beat("another assignor", "cg1", "m1", 2, ServerAssignor="uniform")
    members.describe("after that", "cg1")
    beat("leaves for a while without instance", "cg1", "m1", -2, InstanceId="nobody")
    beat("leaves", "cg1", "m1", -1)
    beat("left", "cg1", "m1", 3)
    beat("leaves again", "cg1", "m1", -1)
    members.describe("left", "cg1")
    beat("joins the empty group", "cg1", "m2", 0, ["c3"])
    members.describe("another", "cg1")


def two_members(d, members):
    beat = members.beat
    beat("first", "cg2", "a", 0, ["c1", "c2"])
    beat("second", "cg2", "b", 0, ["c1", "c2"])
    members.describe("reconciling", "cg2")
    beat("second again", "cg2", "b", 3)
    beat("first is told", "cg2", "a", 2)
    beat("first says nothing", "cg2", "a", 2)
    beat("first has not revoked", "cg2", "a", 2, owned=[("c1", [0, 1, 2]), ("c2", [0, 1])])
    members.describe("unrevoked", "cg2")
    beat("second waits", "cg2", "b", 3)
    beat("first has revoked", "cg2", "a", 2, owned=[("c1", [0, 1]), ("c2", [0, 1])])
    beat("the answer was lost", "cg2", "a", 2, owned=[("c1", [0, 1])])
    beat("the answer was lost, owns more", "cg2", "a", 2, owned=[("c1", [0, 1, 2])])
    members.describe("released", "cg2")
    beat("second gets them", "cg2", "b", 3)
    beat("second has them", "cg2", "b", 3, owned=[("c1", [2, 3]), ("c2", [2, 3])])
    members.describe("stable", "cg2")
    beat("third", "cg2", "c", 0, ["c1", "c2"])
    beat("second revokes", "cg2", "b", 3)
    beat("fourth, before", "cg2", "d", 0, ["c1", "c2"])
    beat("second has revoked, for an older target", "cg2", "b", 3, owned=[])
    beat("first hears of it", "cg2", "a", 3)
    beat("third hears of it", "cg2", "c", 4)
    members.describe("four", "cg2")
    beat("third leaves", "cg2", "c", -1)
    beat("fourth leaves", "cg2", "d", -1)
    beat("second leaves", "cg2", "b", -1)
    beat("first alone", "cg2", "a", 3, owned=[])
    beat("first leaves", "cg2", "a", -1)
    members.describe("nobody", "cg2")


def subscriptions(d, members):
    beat = members.beat
    beat("one topic", "cg3", "a", 0, ["c1"])
    beat("another instead", "cg3", "a", 2, ["c2"])
    members.describe("another instead", "cg3")
    beat("it is given back", "cg3", "a", 2, owned=[])
    beat("both", "cg3", "a", 3, ["c1", "c2"])
    beat("none", "cg3", "a", 4, [])
    beat("none, given back", "cg3", "a", 4, owned=[])
    members.describe("none", "cg3")
    beat("different subscriptions", "cg4", "a", 0, ["c1", "c3"])
    beat("different subscriptions, second", "cg4", "b", 0, ["c2", "c3"])
    members.describe("different", "cg4")


def static_members(d, members):
    beat = members.beat
    beat("static", "cg5", "s1", 0, ["c1"], InstanceId="i1")
    beat("instance taken", "cg5", "s2", 0, ["c1"], InstanceId="i1")
    beat("another's instance", "cg5", "s2", 2, InstanceId="i1")
    beat("good", "cg5", "s1", 2, InstanceId="i1")
    beat("without its instance", "cg5", "s1", 2)
    beat("second", "cg5", "s3", 0, ["c1"], InstanceId="i2")
    beat("leaves for a while", "cg5", "s1", -2, InstanceId="i1")
    members.describe("away", "cg5")
    beat("away, goes on", "cg5", "s1", 2, InstanceId="i1")
    beat("comes back", "cg5", "s4", 0, ["c1"], InstanceId="i1")
    members.describe("back", "cg5")
    beat("its former self", "cg5", "s1", 3, InstanceId="i1")
    beat("has revoked", "cg5", "s4", 3, owned=[("c1", [0, 1])], InstanceId="i1")
    beat("second gets the rest", "cg5", "s3", 3, InstanceId="i2")
    beat("away again", "cg5", "s3", -2, InstanceId="i2")
    beat("another comes with other topics", "cg5", "s5", 0, ["c2"], InstanceId="i2")
    members.describe("other topics", "cg5")
    beat("leaves by another's name", "cg5", "s4", -1, InstanceId="i2")
    beat("leaves for good", "cg5", "s4", -1, InstanceId="i1")
    members.describe("left", "cg5")


def regexes(d, members):
    beat = members.beat
    beat("by regex", "cg6", "r", 0, SubscribedTopicRegex="c[12]")
    # Joining is epoch 2; what the expression matches is looked up beside it and makes epoch 3, in both sooner or later.
    members.until("by regex, told", "cg6", "r", 2, lambda answer: answer["MemberEpoch"] == 3)
    members.describe("by regex", "cg6")
    beat("name beside it", "cg6", "r", 3, ["c3"])
    members.describe("name beside it", "cg6")
    beat("without it", "cg6", "r", 4, SubscribedTopicRegex="")
    members.describe("without it", "cg6")
    beat("matches nothing", "cg7", "r", 0, SubscribedTopicRegex="none.*")
    members.describe("matches nothing", "cg7")


def known(d, topic):
    """Waits until coordinators know a topic: they may hear of it behind everybody else."""
    for peer in d.peers:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            join = dict(GroupId="cg19", MemberId="k", RebalanceTimeoutMs=30000, SubscribedTopicNames=[topic], TopicPartitions=[])
            joined = peer.call("ConsumerGroupHeartbeat", 1, join)
            if joined["Assignment"]["TopicPartitions"]:
                break
            time.sleep(0.02)
        peer.call("ConsumerGroupHeartbeat", 1, dict(GroupId="cg19", MemberId="k", MemberEpoch=-1))


def topics(d, members):
    """Topics change while a group is there."""
    beat = members.beat
    prepare(d, {"ct": 1})
    for peer in d.peers:
        peer.topic_id("ct")
    known(d, "ct")
    beat("before", "cg8", "t", 0, ["ct", "ct2"])
    d.both("more", "CreatePartitions", 3, dict(Topics=[dict(Name="ct", Count=3, Assignments=None)], TimeoutMs=10000, ValidateOnly=False))
    members.until("more partitions", "cg8", "t", 2, lambda answer: answer["MemberEpoch"] == 3)
    for peer in d.peers:
        peer.call("CreateTopics", 5, dict(Topics=[dict(Name="ct2", NumPartitions=1, ReplicationFactor=1)], timeoutMs=10000))
        peer.topic_id("ct2")
    members.until("a new topic", "cg8", "t", 3, lambda answer: answer["MemberEpoch"] == 4)
    members.describe("with new topics", "cg8")
    for peer in d.peers:
        peer.call("DeleteTopics", 5, dict(TopicNames=["ct"], TimeoutMs=10000))
    members.until("a topic is gone", "cg8", "t", 4, lambda answer: answer["Assignment"] or answer["MemberEpoch"] == 5)
    members.describe("without it", "cg8")


def commit(d, label, group, member, epoch, partitions=(0,), version=9, topic="c1"):
    def body(peer):
        rows = [dict(PartitionIndex=index, CommittedOffset=5, CommittedMetadata="x") for index in partitions]
        wanted = dict(Partitions=rows)
        wanted.update(dict(TopicId=peer.memory[topic]) if version >= 10 else dict(Name=topic))
        fields = dict(GroupId=group, MemberId=member, Topics=[wanted])
        fields["GenerationIdOrMemberEpoch"] = epoch
        return fields

    d.both(label, "OffsetCommit", version, body)


def fetch(d, label, group, member, epoch, version=9):
    topics = [dict(Name="c1", PartitionIndexes=[0, 1])]
    body = dict(Groups=[dict(GroupId=group, MemberId=member, MemberEpoch=epoch, Topics=topics)])
    d.both(label, "OffsetFetch", version, body)


def offsets(d, members):
    beat = members.beat
    commit(d, "no group", "cg9", "a", 1)
    commit(d, "simple", "cg9", "", -1)
    beat("joins", "cg9", "a", 0, ["c1"])
    for version in (2, 5, 8, 9, 10):
        commit(d, "member", "cg9", "a", 2, version=version)
        commit(d, "nobody", "cg9", "nobody", 2, version=version)
        commit(d, "no member", "cg9", "", -1, version=version)
        commit(d, "epoch too high", "cg9", "a", 3, version=version)
        commit(d, "epoch too low", "cg9", "a", 1, version=version)
    beat("another", "cg9", "b", 0, ["c1"])
    beat("is told to revoke", "cg9", "a", 2)
    commit(d, "while it revokes", "cg9", "a", 2, partitions=(0, 3))
    beat("has revoked", "cg9", "a", 2, owned=[("c1", [0, 1])])
    for version in (9, 10):
        commit(d, "in an older epoch, with one given back", "cg9", "a", 2, partitions=(0, 3), version=version)
        commit(d, "in an older epoch", "cg9", "a", 2, partitions=(0, 1), version=version)
    commit(d, "of another", "cg9", "b", 3, partitions=(0, 2))
    for member, epoch in (("a", 3), ("a", 2), ("a", 4), ("nobody", 3), (None, -1), ("", -1), ("a", -1)):
        fetch(d, f"by {member} {epoch}", "cg9", member, epoch)
    fetch(d, "no member in v8", "cg9", None, -1, version=8)
    delete = dict(GroupId="cg9", Topics=[dict(Name="c1", Partitions=[dict(PartitionIndex=0)])])
    d.both("subscribed", "OffsetDelete", 0, delete)
    d.both("not empty", "DeleteGroups", 2, dict(GroupsNames=["cg9"]))
    beat("a leaves", "cg9", "a", -1)
    beat("b leaves", "cg9", "b", -1)
    commit(d, "empty, simple", "cg9", "", -1)
    commit(d, "empty, by one that left", "cg9", "a", 3)
    d.both("empty", "OffsetDelete", 0, delete)
    d.both("empty", "DeleteGroups", 2, dict(GroupsNames=["cg9"]))
    members.describe("deleted", "cg9")


def shown(d, members):
    members.beat("to be shown", "cg10", "m", 0, ["c1"])
    for version in (0, 1):
        members.describe("all kinds", "cg10", "no-such", "", version=version)
    for version in (0, 5, 6):
        d.both("as a classic one", "DescribeGroups", version, dict(Groups=["cg10", "no-such"]))
    only = lambda answer: answer.update(Groups=[g for g in answer["Groups"] if g["GroupId"] in ("cg10", "cg1", "cg2")])
    for version in range(0, 6):
        d.both("all", "ListGroups", version, {}, only)
    for kinds in (["consumer"], ["CONSUMER"], ["classic"], ["share"], ["nonsense"]):
        d.both(f"{kinds}", "ListGroups", 5, dict(TypesFilter=kinds), only)
    for states in (["Stable"], ["stable"], ["Empty"], ["Assigning", "Reconciling"], ["nonsense"]):
        d.both(f"{states}", "ListGroups", 5, dict(StatesFilter=states), only)


def configs(d):
    values = {
        "consumer.session.timeout.ms": ("45000", "44999", "60000", "60001", "x", ""),
        "consumer.heartbeat.interval.ms": ("5000", "4999", "15000", "15001"),
        "consumer.assignment.interval.ms": ("0", "-1", "15000", "15001"),
        "consumer.nonsense": ("1",),
    }
    for name, tried in values.items():
        for value in tried:
            resource = dict(ResourceType=32, ResourceName="cg20", Configs=[dict(Name=name, ConfigOperation=0, Value=value)])
            d.both(f"{name}={value}", "IncrementalAlterConfigs", 1, dict(Resources=[resource], ValidateOnly=False))
    wanted = dict(ResourceType=32, ResourceName="cg20", ConfigurationKeys=[name for name in values])
    d.both("after that", "DescribeConfigs", 4, dict(Resources=[wanted], IncludeSynonyms=True))
    only = lambda answer: answer.update(ConfigResources=[r for r in answer["ConfigResources"] if r["ResourceName"] == "cg20"])
    d.both("groups", "ListConfigResources", 1, dict(ResourceTypes=[32]), only)


def subscription(*topics, owned=(), generation=-1):
    """The consumer protocol, version 2."""
    string = lambda text: len(text).to_bytes(2, "big") + text.encode()
    out = b"\0\2" + len(topics).to_bytes(4, "big") + b"".join(map(string, topics)) + b"\xff\xff\xff\xff"
    out += len(owned).to_bytes(4, "big")
    for topic, partitions in owned:
        out += string(topic) + len(partitions).to_bytes(4, "big") + b"".join(p.to_bytes(4, "big") for p in partitions)
    return out + generation.to_bytes(4, "big", signed=True)


def assignment(*topics, user_data=None):
    string = lambda text: len(text).to_bytes(2, "big") + text.encode()
    out = b"\0\2" + len(topics).to_bytes(4, "big")
    for topic, partitions in topics:
        out += string(topic) + len(partitions).to_bytes(4, "big") + b"".join(p.to_bytes(4, "big") for p in partitions)
    return out + (b"\xff\xff\xff\xff" if user_data is None else len(user_data).to_bytes(4, "big") + user_data)


class Classic:
    def __init__(self, d, group):
        self.d, self.group = d, group

    def join(self, label, called, metadata, first=False, protocol="range", instance=None, kind="consumer", version=5):
        """Joins under an id that the broker makes, which goes by `called`."""

        def ask(peer):
            body = dict(
                GroupId=self.group,
                SessionTimeoutMs=30000,
                RebalanceTimeoutMs=30000,
                MemberId="" if first else peer.memory.get(called, called),
                ProtocolType=kind,
                Protocols=[dict(Name=protocol, Metadata=metadata)],
                GroupInstanceId=instance,
            )
            answer = peer.call("JoinGroup", version, body)
            if isinstance(answer, dict) and answer["MemberId"]:
                peer.name(answer["MemberId"], called)
            return answer

        self.d.each(f"{label} JoinGroup v{version}", ask)

    def sync(self, label, called, generation, given=(), protocol="range", version=5):
        def body(peer):
            rows = [dict(MemberId=peer.memory.get(m, m), Assignment=data) for m, data in given]
            return dict(
                GroupId=self.group,
                MemberId=peer.memory.get(called, called),
                GenerationId=generation,
                Assignments=rows,
                ProtocolType="consumer",
                ProtocolName=protocol,
            )

        self.d.both(label, "SyncGroup", version, body)

    def heartbeat(self, label, called, generation, **more):
        body = lambda peer: dict(
            GroupId=self.group, MemberId=peer.memory.get(called, called), GenerationId=generation, **more
        )
        self.d.both(label, "Heartbeat", 4, body, again=False)

    def leave(self, label, called, instance=None):
        members = lambda peer: [dict(MemberId=peer.memory.get(called, called), GroupInstanceId=instance)]
        self.d.both(label, "LeaveGroup", 5, lambda peer: dict(GroupId=self.group, Members=members(peer)))


def rolling(d, members):
    """A classic group whose members move to the new protocol one by one, and back."""
    beat = members.beat
    g = Classic(d, "cg21")
    g.join("told", "k1", subscription("c1"), first=True)
    g.join("classic", "k1", subscription("c1"))
    g.sync("classic", "k1", 1, given=[("k1", assignment(("c1", [0, 1, 2, 3])))])
    beat("unknown to a classic group", "cg21", "n1", 3)
    beat("leaves a classic group", "cg21", "n1", -1)
    beat("upgrade", "cg21", "n1", 0, ["c1"])
    members.describe("upgraded", "cg21")
    d.both("upgraded", "DescribeGroups", 6, dict(Groups=["cg21"]))
    g.heartbeat("told to join again", "k1", 1)
    g.sync("before it joins again", "k1", 1)
    g.join("again", "k1", subscription("c1", owned=[("c1", [0, 1, 2, 3])], generation=1))
    g.sync("again", "k1", 1)
    g.heartbeat("revokes", "k1", 1)
    g.join("has revoked", "k1", subscription("c1", owned=[("c1", [0, 1])], generation=1))
    g.sync("has revoked, old generation", "k1", 1)
    g.sync("has revoked", "k1", 2)
    g.heartbeat("stable", "k1", 2)
    g.heartbeat("wrong generation", "k1", 5)
    g.heartbeat("not classic", "n1", 2)
    g.sync("not classic", "n1", 2)
    g.sync("other protocol", "k1", 2, protocol="other")
    beat("gets its part", "cg21", "n1", 2)
    members.describe("both kinds", "cg21")
    commit(d, "classic member", "cg21", "k1", 2)
    g.join("other protocol", "k9", subscription("c1"), first=True, protocol="sticky")
    g.join("other type", "k9", subscription("c1"), first=True, kind="connect")
    g.join("malformed", "k9", b"\0", first=True, version=3)
    for version in (3, 5, 9):
        g.join("other type, with an id", "k9", subscription("c1"), kind="connect", version=version)
        g.join("other protocol, with an id", "k9", subscription("c1"), protocol="sticky", version=version)
    g.leave("not a member", "k9")
    g.leave("the classic one", "k1")
    beat("alone", "cg21", "n1", 2)
    beat("downgrade: nobody is left", "cg21", "n1", -1)
    d.both("empty", "ListGroups", 5, {}, lambda a: a.update(Groups=[x for x in a["Groups"] if x["GroupId"] == "cg21"]))
    g.join("classic again, told", "k2", subscription("c1"), first=True)
    d.both("classic again", "ListGroups", 5, {}, lambda a: a.update(Groups=[x for x in a["Groups"] if x["GroupId"] == "cg21"]))
    downgrade(d, members)
    refused(d, members)
    static_roll(d, members)


def downgrade(d, members):
    """The last member of the new protocol leaves."""
    g = Classic(d, "cg22")
    members.beat("new", "cg22", "~n1", 0, ["c1"])
    g.join("told", "k1", subscription("c1"), first=True)
    g.join("joins", "k1", subscription("c1"))
    g.sync("joins", "k1", 3)
    members.describe("before", "cg22")
    members.beat("downgrade", "cg22", "~n1", -1)
    d.both("downgraded", "DescribeGroups", 6, dict(Groups=["cg22"]), lambda a: [m.pop("ClientHost") for x in a["Groups"] for m in x["Members"]])
    g.heartbeat("told to join again", "k1", 3)
    g.join("again", "k1", subscription("c1"))
    g.sync("again", "k1", 4, given=[("k1", assignment(("c1", [0, 1, 2, 3])))])


def refused(d, members):
    g = Classic(d, "cg23")
    g.join("told", "k1", b"not a subscription", first=True, kind="connect")
    g.join("connect", "k1", b"not a subscription", kind="connect")
    members.beat("of another type", "cg23", "n1", 0, ["c1"])
    g = Classic(d, "cg24")
    g.join("told", "k1", b"\0", first=True)
    g.join("malformed", "k1", b"\0")
    g.sync("malformed", "k1", 1, given=[("k1", b"")])
    members.beat("malformed", "cg24", "n1", 0, ["c1"])
    g = Classic(d, "cg25")
    g.join("told", "k1", subscription("c1"), first=True)
    g.join("user data", "k1", subscription("c1"))
    g.sync("user data", "k1", 1, given=[("k1", assignment(("c1", [0]), user_data=b"mine"))])
    members.beat("user data", "cg25", "n1", 0, ["c1"])


def static_roll(d, members):
    """Static members change the protocol under the same instance id."""
    g = Classic(d, "cg26")
    g.join("static", "k1", subscription("c1"), first=True, instance="i1")
    g.sync("static", "k1", 1, given=[("k1", assignment(("c1", [0, 1, 2, 3])))])
    members.beat("the same instance", "cg26", "n1", 0, ["c1"], InstanceId="i1")
    members.describe("upgraded", "cg26")
    g.heartbeat("fenced", "k1", 1)
    g.join("back", "k2", subscription("c1"), first=True, instance="i1")
    d.both("back", "DescribeGroups", 6, dict(Groups=["cg26"]), lambda a: [m.pop("ClientHost") for x in a["Groups"] for m in x["Members"]])
