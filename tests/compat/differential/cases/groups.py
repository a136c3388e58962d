"""Classic consumer groups: joining, rebalances, static members, leaving, and how groups are shown and deleted."""

from common import prepare, prepare_groups

RANGE = dict(Name="range", Metadata=b"meta")


def join_body(group, member="", protocols=(RANGE,), session=30000, rebalance=30000, kind="consumer", instance=None, reason=None):
    def body(peer):
        return dict(
            GroupId=group,
            SessionTimeoutMs=session,
            RebalanceTimeoutMs=rebalance,
            MemberId=peer.memory.get(member, member),
            ProtocolType=kind,
            Protocols=list(protocols),
            GroupInstanceId=instance,
            Reason=reason,
        )

    return body


class Group:
    def __init__(self, d):
        self.d = d

    def join(self, label, group, version=9, called=None, on="main", **more):
        def ask(peer):
            answer = peer.call("JoinGroup", version, join_body(group, **more), on)
            if called and isinstance(answer, dict):
                peer.name(answer["MemberId"], called)
            return answer

        def tidy(answer):
            if not called and not more.get("member"):
                answer["MemberId"] = "new" if answer["MemberId"] else ""

        return self.d.each(f"{label} JoinGroup v{version}", ask, tidy)

    def call(self, label, api, version, group, member="", generation=1, on="main", **more):
        def body(peer):
            fields = dict(GroupId=group, MemberId=peer.memory.get(member, member), GenerationId=generation)
            fields.update(more)
            return fields

        return self.d.both(label, api, version, body, on=on, again=False)

    def heartbeat(self, label, group, member="", generation=1, version=4, **more):
        self.call(label, "Heartbeat", version, group, member, generation, **more)

    def sync(
        self, label, group, member="", generation=1, assignments=(), version=5, on="main", kind="consumer", name="range", **more
    ):
        def body(peer):
            given = [dict(MemberId=peer.memory.get(m, m), Assignment=data) for m, data in assignments]
            fields = dict(GroupId=group, MemberId=peer.memory.get(member, member), GenerationId=generation, Assignments=given)
            if version >= 5:
                fields.update(ProtocolType=kind, ProtocolName=name)
            return dict(fields, **more)

        self.d.both(label, "SyncGroup", version, body, on=on)

    def leave(self, label, group, *members, version=5):
        def body(peer):
            given = [dict(MemberId=peer.memory.get(m, m), GroupInstanceId=instance) for m, instance in members]
            if version < 3:
                return dict(GroupId=group, MemberId=given[0]["MemberId"])
            return dict(GroupId=group, Members=given)

        self.d.both(label, "LeaveGroup", version, body)

    def describe(self, label, *groups, version=6):
        def tidy(answer):
            for group in answer["Groups"]:
                for member in group["Members"]:
                    member.pop("ClientHost")

        self.d.both(label, "DescribeGroups", version, dict(Groups=list(groups), IncludeAuthorizedOperations=version >= 3), tidy)


def run(d):
    prepare(d, {"g": 3})
    coordinators(d)
    prepare_groups(d)
    group = Group(d)
    joining(d, group)
    one_member(d, group)
    two_members(d, group)
    static_members(d, group)
    shown(d, group)
    deleted(d, group)


def coordinators(d):
    def found(answer):
        return not any(c["ErrorCode"] in (14, 15, 16) for c in answer.get("Coordinators") or [answer])

    for version in range(0, 7):
        for kind in (0, 1, 2, 3, -1) if version else (0,):
            for key in ("first", ""):
                body = dict(KeyType=kind) if version else {}
                body.update(dict(CoordinatorKeys=[key]) if version >= 4 else dict(Key=key))
                if kind != 1:
                    d.until(f"type {kind} {key!r}", "FindCoordinator", version, body, found, nameless)
    several = dict(KeyType=0, CoordinatorKeys=["a", "b", "a"])
    d.both("several", "FindCoordinator", 4, several, nameless)
    d.both("none", "FindCoordinator", 4, dict(KeyType=0, CoordinatorKeys=[]))


def nameless(answer):
    """The words of an error are each broker's own."""
    for one in answer.get("Coordinators") or [answer]:
        one["ErrorMessage"] = None


def joining(d, group):
    for version in range(2, 10):
        group.join("empty group", "", version)
        group.join("member unknown", "g-none", version, member="nobody")
        group.join("session too short", "g-none", version, session=5)
        group.join("session too long", "g-none", version, session=99_000_000)
        group.join("no protocols", "g-none", version, protocols=[])
        group.join("no protocol type", "g-none", version, kind="")
        if version >= 4:
            group.join("told its id", f"g-told-{version}", version, called=f"told-{version}")
            group.join("with its id", f"g-told-{version}", version, member=f"told-{version}", called=f"told-{version}")
        else:
            group.join("at once", f"g-told-{version}", version, called=f"told-{version}")
    group.join("session 0", "g-zero", session=0)
    group.join("rebalance time-out 0", "g-zero", rebalance=0)
    group.join("empty instance", "g-empty-instance", called="empty", instance="")
    group.join("illegal instance", "g-illegal-instance", called="illegal", instance="a b")
    group.join("long instance", "g-long-instance", called="long", instance="i" * 300)
    group.join("other type", "g-told-9", member="told-9", kind="connect")
    group.join("other protocol", "g-told-9", kind="consumer", protocols=[dict(Name="none such", Metadata=b"")])


def one_member(d, group):
    for label, id in (("unknown group", "g-none"), ("empty group", "")):
        group.heartbeat(label, id, "m")
        group.sync(label, id, "m")
        group.leave(label, id, ("m", None))
        group.leave(label, id, ("m", None), version=2)
    group.join("told", "g1", called="m1")
    group.heartbeat("not yet a member", "g1", "m1", 0)
    group.describe("pending", "g1")
    group.join("first", "g1", member="m1", called="m1")
    group.describe("completing", "g1")
    group.heartbeat("before sync", "g1", "m1")
    group.sync("stale generation", "g1", "m1", 0)
    group.sync("future generation", "g1", "m1", 2)
    group.sync("unknown member", "g1", "nobody")
    group.sync("other type", "g1", "m1", kind="connect")
    group.sync("other protocol", "g1", "m1", name="other")
    group.sync("no type", "g1", "m1", kind=None, name=None, assignments=[("m1", b"mine"), ("nobody", b"x")])
    for version in range(0, 6):
        group.sync("again", "g1", "m1", version=version)
    group.describe("stable", "g1")
    for version in range(0, 5):
        group.heartbeat("good", "g1", "m1", version=version)
        group.heartbeat("stale generation", "g1", "m1", 0, version=version)
        group.heartbeat("future generation", "g1", "m1", 7, version=version)
        group.heartbeat("generation -1", "g1", "m1", -1, version=version)
        group.heartbeat("unknown member", "g1", "nobody", version=version)
        group.heartbeat("no member", "g1", "", version=version)
    group.heartbeat("static, but is not", "g1", "m1", GroupInstanceId="i")
    group.join("leader joins again", "g1", member="m1", called="m1")
    group.heartbeat("old generation", "g1", "m1", 1)
    group.sync("second generation", "g1", "m1", 2, assignments=[("m1", b"again")])
    group.leave("not a member", "g1", ("nobody", None))
    group.leave("nobody", "g1")
    group.leave("static, but is not", "g1", ("m1", "i"))
    group.leave("one of two", "g1", ("m1", None), ("nobody", None))
    group.describe("empty", "g1")
    group.leave("left already", "g1", ("m1", None))
    group.heartbeat("left already", "g1", "m1", 2)
    for version in range(0, 6):
        name = f"l{version}"
        group.join("told, to leave", f"g-{name}", called=name)
        group.join("joined, to leave", f"g-{name}", member=name, called=name)
        group.leave("leaves", f"g-{name}", (name, None), version=version)


def two_members(d, group):
    """A second member joins on a connection of its own, while the first one hears of it."""
    both = dict(protocols=[dict(Name="range", Metadata=b"1"), dict(Name="sticky", Metadata=b"2")])
    group.join("told a", "g2", called="a", **both)
    group.join("first", "g2", member="a", called="a", **both)
    group.sync("first", "g2", "a", assignments=[("a", b"all")])
    group.join("no common protocol", "g2", protocols=[dict(Name="other", Metadata=b"")])
    group.join("told b", "g2", called="b", on="b", protocols=[dict(Name="sticky", Metadata=b"3")])
    d.send("JoinGroup", 9, join_body("g2", "b", [dict(Name="sticky", Metadata=b"3")]), on="b")
    beat = lambda peer: dict(GroupId="g2", MemberId=peer.memory["a"], GenerationId=1)
    d.until("told of b", "Heartbeat", 4, beat, lambda answer: answer["ErrorCode"] != 0)
    group.describe("preparing", "g2")
    group.sync("while preparing", "g2", "a")
    group.join("a joins again", "g2", member="a", called="a", **both)
    d.receive("b", "JoinGroup", 9, "b")
    group.describe("completing", "g2")
    sync = lambda peer: dict(GroupId="g2", MemberId=peer.memory["b"], GenerationId=2)
    d.send("SyncGroup", 5, sync, on="b")
    group.sync("leader", "g2", "a", 2, name="sticky", assignments=[("a", b"half"), ("b", b"other half")])
    d.receive("b", "SyncGroup", 5, "b")
    group.describe("stable", "g2")
    group.heartbeat("b", "g2", "b", 2)
    group.join("follower, the same", "g2", member="b", called="b", protocols=[dict(Name="sticky", Metadata=b"3")])
    group.leave("b", "g2", ("b", None))
    beat = lambda peer: dict(GroupId="g2", MemberId=peer.memory["a"], GenerationId=2)
    d.until("told that b left", "Heartbeat", 4, beat, lambda answer: answer["ErrorCode"] != 0)
    group.join("a alone", "g2", member="a", called="a", **both)
    group.sync("a alone", "g2", "a", 3, assignments=[("a", b"all")])


def static_members(d, group):
    group.join("first", "gs", called="s1", instance="one")
    group.sync("first", "gs", "s1", assignments=[("s1", b"all")], GroupInstanceId="one")
    group.heartbeat("good", "gs", "s1", GroupInstanceId="one")
    group.heartbeat("no instance", "gs", "s1")
    group.heartbeat("other instance", "gs", "s1", GroupInstanceId="two")
    group.heartbeat("other member", "gs", "nobody", GroupInstanceId="one")
    group.join("other member", "gs", member="nobody", instance="one")
    group.join("comes back", "gs", called="s2", instance="one")
    group.heartbeat("fenced", "gs", "s1", GroupInstanceId="one")
    group.sync("fenced", "gs", "s1", GroupInstanceId="one")
    group.heartbeat("new id", "gs", "s2", GroupInstanceId="one")
    group.sync("new id", "gs", "s2", GroupInstanceId="one")
    group.describe("static", "gs")
    group.join("comes back, older", "gs", version=8, called="s3", instance="one")
    group.join("other metadata", "gs", called="s4", instance="one", protocols=[dict(Name="range", Metadata=b"new")])
    group.leave("other member", "gs", ("s1", "one"))
    group.leave("other instance", "gs", ("", "two"))
    group.leave("by instance", "gs", ("", "one"))
    group.describe("left", "gs")


def shown(d, group):
    for version in range(0, 7):
        group.describe("several", "g1", "g2", "g-none", "", version=version)
    group.describe("twice", "g1", "g1")
    group.describe("none")

    def ours(answer):
        answer["Groups"] = [one for one in answer["Groups"] if one["GroupId"] in ("g1", "g2", "gs")]

    for version in range(0, 6):
        d.both("all", "ListGroups", version, {}, ours)
    for states in (["Stable"], ["stable"], ["Empty", "Dead"], ["nonsense"], [""]):
        d.both(f"states {states}", "ListGroups", 4, dict(StatesFilter=states), ours)
    for types in (["classic"], ["Classic"], ["consumer"], ["share"], ["nonsense"], ["classic", "consumer"]):
        d.both(f"types {types}", "ListGroups", 5, dict(TypesFilter=types), ours)


def deleted(d, group):
    for version in range(0, 4):
        d.both("several", "DeleteGroups", version, dict(GroupsNames=["g2", "g-none", "", f"g-l{version}"]))
    d.both("empty", "DeleteGroups", 2, dict(GroupsNames=["g1"]))
    d.both("again", "DeleteGroups", 2, dict(GroupsNames=["g1"]))
    d.both("twice", "DeleteGroups", 2, dict(GroupsNames=["gs", "gs"]))
    d.both("none", "DeleteGroups", 2, dict(GroupsNames=[]))
    group.describe("afterwards", "g1", "gs")
