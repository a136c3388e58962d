"""Fetch, ListOffsets, OffsetForLeaderEpoch and DeleteRecords."""

from batches import batch
from common import prepare
from messages import NO_ID

MUCH = 10_000_000


def run(d):
    prepare(d, {"r": 2, "r0": 1, "rd": 1}, forever=True)
    for peer in d.peers:
        for number in range(5):
            at = 1_700_000_000_000 + number * 1000
            records = batch([b"x" * 100, b"y"], first_timestamp=at)
            for name in ("r", "rd"):
                data = [dict(Name=name, PartitionData=[dict(Index=0, Records=records)])]
                answer = peer.call("Produce", 9, dict(Acks=-1, TimeoutMs=5000, TopicData=data))
                assert answer["Responses"][0]["PartitionResponses"][0]["BaseOffset"] == 2 * number, answer
    fetch(d)
    sessions(d)
    list_offsets(d)
    epochs(d)
    delete_records(d)


def no_session(answer):
    """Ids of sessions are made up by each broker."""
    if answer.get("SessionId", 0) > 0:
        answer["SessionId"] = "set"


def fetch(d):
    def one(
        label, version, topic="r", partition=0, offset=0, limit=MUCH, wait=0, minimum=0, most=MUCH, top=None, by_id=None, **more
    ):
        wanted = dict(Partition=partition, FetchOffset=offset, PartitionMaxBytes=limit, **more)

        def body(peer):
            name = dict(TopicId=by_id(peer)) if by_id else dict(Topic=topic)
            return dict(MaxWaitMs=wait, MinBytes=minimum, MaxBytes=most, Topics=[dict(name, Partitions=[wanted])], **(top or {}))

        d.both(label, "Fetch", version, body, no_session)

    def id_of(topic):
        return lambda peer: peer.topic_id(topic)

    for version in range(4, 13):
        one("all", version)
        one("unknown topic", version, topic="nope")
    for version in range(13, 19):
        one("all", version, by_id=id_of("r"))
        one("unknown id", version, by_id=lambda peer: "11" * 16)
        one("no id", version, by_id=lambda peer: NO_ID)
    one("middle", 12, offset=3)
    one("end", 12, offset=10)
    one("past the end", 12, offset=11)
    one("negative", 12, offset=-1)
    one("other partition", 12, partition=1)
    one("unknown partition", 12, partition=9)
    one("illegal topic", 12, topic="a b")
    one("read committed", 12, top=dict(IsolationLevel=1))
    one("isolation 7", 12, top=dict(IsolationLevel=7))
    one("limit 0", 12, limit=0)
    one("limit 1", 12, limit=1)
    one("limit of two batches", 12, limit=400)
    one("limit negative", 12, limit=-1)
    one("most 0", 12, most=0)
    one("most 1", 12, most=1)
    one("waits in vain", 12, offset=10, wait=50, minimum=1)
    one("waits for much", 12, wait=50, minimum=1_000_000)
    one("minimum negative", 12, offset=10, wait=1000, minimum=-1)
    one("epoch right", 12, CurrentLeaderEpoch=0)
    one("epoch too new", 12, CurrentLeaderEpoch=5)
    one("epoch too new, with leader", 16, by_id=id_of("r"), CurrentLeaderEpoch=5)
    one("last epoch right", 12, offset=3, LastFetchedEpoch=0)
    one("last epoch beyond", 12, offset=3, LastFetchedEpoch=9)
    one("last epoch, past the end", 12, offset=30, LastFetchedEpoch=0)
    one("as replica", 12, top=dict(ReplicaId=7))
    one("as replica", 15, by_id=id_of("r"), top=dict(ReplicaState=dict(ReplicaId=7, ReplicaEpoch=1)))
    one("as debugger", 12, top=dict(ReplicaId=-2))
    one("rack", 12, top=dict(RackId="somewhere"))
    one("cluster id wrong", 12, top=dict(ClusterId="nobody"))
    d.both("nothing", "Fetch", 12, dict(MaxWaitMs=0, MinBytes=0, Topics=[]))
    both = [dict(Topic="r", Partitions=[dict(Partition=at, FetchOffset=0, PartitionMaxBytes=MUCH) for at in (0, 1, 9, 0)])]
    d.both("several", "Fetch", 12, dict(MaxWaitMs=0, MinBytes=0, Topics=both))
    small = [dict(Topic=name, Partitions=[dict(Partition=0, FetchOffset=0, PartitionMaxBytes=250)]) for name in ("rd", "r")]
    d.both("both limited", "Fetch", 12, dict(MaxWaitMs=0, MinBytes=0, MaxBytes=300, Topics=small))


def sessions(d):
    def step(label, epoch, partitions=(), forget=(), session="session", version=12, topic="r"):
        def body(peer):
            wanted = [dict(Partition=at, FetchOffset=offset, PartitionMaxBytes=MUCH) for at, offset in partitions]
            number = peer.memory.get(session, 0) if isinstance(session, str) else session
            return dict(
                MaxWaitMs=0,
                MinBytes=0,
                SessionId=number,
                SessionEpoch=epoch,
                Topics=[dict(Topic=topic, Partitions=wanted)] if wanted else [],
                ForgottenTopicsData=[dict(Topic=topic, Partitions=list(forget))] if forget else [],
            )

        answers = d.both(label, "Fetch", version, body, no_session)
        for peer, answer in zip(d.peers, answers):
            if epoch == 0 and not isinstance(answer, str):
                peer.memory["session"] = answer["SessionId"]

    step("open", 0, [(0, 0), (1, 0)], session=0)
    step("next, nothing new asked", 1)
    step("next, at the end", 2, [(0, 10)])
    step("nothing new", 3)
    step("past the end", 4, [(0, 50)])
    step("repeated error", 5)
    step("forget", 6, forget=[0])
    step("forgotten", 7)
    step("forget what is not there", 8, forget=[5])
    step("unknown topic", 9, [(0, 0)], topic="nope")
    step("epoch repeated", 9)
    step("epoch too far", 12)
    step("still there", 10)
    step("close", -1)
    step("after closing", 11)
    step("unknown session", 1, session=123456)
    step("epoch without session", 5, session=0)
    step("negative epoch", -7)
    step("open with nothing", 0, session=0)


def list_offsets(d):
    def ask(label, version, timestamp, topic="r", partition=0, epoch=-1, **more):
        wanted = dict(PartitionIndex=partition, Timestamp=timestamp, CurrentLeaderEpoch=epoch)
        if version < 4:
            wanted.pop("CurrentLeaderEpoch")
        d.both(
            label,
            "ListOffsets",
            version,
            dict(dict(ReplicaId=-1), Topics=[dict(Name=topic, Partitions=[wanted])], **more),
            at_what_time,
        )

    for version in range(1, 12):
        for timestamp in (-1, -2, -3, -4, -5, -6, -7, 0, 1_700_000_002_000):
            ask(f"at {timestamp}", version, timestamp)
    ask("between", 7, 1_700_000_002_001)
    ask("last", 7, 1_700_000_004_000)
    ask("after all", 7, 1_800_000_000_000)
    ask("empty, latest", 7, -1, partition=1)
    ask("empty, earliest", 7, -2, partition=1)
    ask("empty, largest", 7, -3, partition=1)
    ask("empty, by time", 7, 5, partition=1)
    ask("unknown topic", 7, -1, topic="nope")
    ask("illegal topic", 7, -1, topic="a b")
    ask("unknown partition", 7, -1, partition=9)
    ask("epoch right", 7, -1, epoch=0)
    ask("epoch too new", 7, -1, epoch=3)
    ask("read committed", 7, -1, IsolationLevel=1)
    ask("isolation 9", 7, -1, IsolationLevel=9)
    ask("as debugger", 7, -1, ReplicaId=-2)
    ask("as replica", 7, -1, ReplicaId=5)
    twice = [dict(PartitionIndex=0, Timestamp=-1), dict(PartitionIndex=0, Timestamp=-2), dict(PartitionIndex=1, Timestamp=-1)]
    d.both("twice", "ListOffsets", 7, dict(ReplicaId=-1, Topics=[dict(Name="r", Partitions=twice)]))
    d.both("none", "ListOffsets", 7, dict(ReplicaId=-1, Topics=[]))


def at_what_time(answer):
    """These times are the records' own, so they count."""
    for topic in answer["Topics"]:
        for partition in topic["Partitions"]:
            partition["time"] = partition.pop("Timestamp")


def epochs(d):
    def ask(label, version, epoch, topic="r", partition=0, current=-1, replica=-1):
        wanted = dict(Partition=partition, LeaderEpoch=epoch, CurrentLeaderEpoch=current)
        body = dict(Topics=[dict(Topic=topic, Partitions=[wanted])])
        if version >= 3:
            body["ReplicaId"] = replica
        d.both(label, "OffsetForLeaderEpoch", version, body)

    for version in range(2, 5):
        for epoch in (-2, -1, 0, 1, 7):
            ask(f"epoch {epoch}", version, epoch)
    ask("empty", 4, 0, partition=1)
    ask("unknown topic", 4, 0, topic="nope")
    ask("illegal topic", 4, 0, topic="a b")
    ask("unknown partition", 4, 0, partition=9)
    ask("current right", 4, 0, current=0)
    ask("current too new", 4, 0, current=4)
    ask("as debugger", 4, 0, replica=-2)
    ask("as replica", 4, 0, replica=3)


def delete_records(d):
    def delete(label, offset, topic="rd", partition=0, version=2):
        wanted = [dict(Name=topic, Partitions=[dict(PartitionIndex=partition, Offset=offset)])]
        d.both(label, "DeleteRecords", version, dict(Topics=wanted, TimeoutMs=5000))

    for version in range(0, 3):
        delete(f"up to {version + 1}", version + 1, version=version)
    delete("below the start", 1)
    delete("negative", -2)
    delete("past the end", 99)
    delete("unknown topic", 1, topic="nope")
    delete("illegal topic", 1, topic="a b")
    delete("unknown partition", 1, partition=8)
    delete("internal topic", 1, topic="__consumer_offsets")
    wanted = [dict(Topic="rd", Partitions=[dict(Partition=0, FetchOffset=at, PartitionMaxBytes=MUCH)]) for at in (0,)]
    d.both("before the start", "Fetch", 12, dict(MaxWaitMs=0, MinBytes=0, Topics=wanted))
    inside = [dict(Topic="rd", Partitions=[dict(Partition=0, FetchOffset=3, PartitionMaxBytes=MUCH)])]
    d.both("within a batch", "Fetch", 12, dict(MaxWaitMs=0, MinBytes=0, Topics=inside))
    first = [dict(Name="rd", Partitions=[dict(PartitionIndex=0, Timestamp=-2)])]
    d.both("earliest afterwards", "ListOffsets", 7, dict(ReplicaId=-1, Topics=first))
    by_time = [dict(Name="rd", Partitions=[dict(PartitionIndex=0, Timestamp=0)])]
    d.both("by time afterwards", "ListOffsets", 7, dict(ReplicaId=-1, Topics=by_time))
    delete("all", -1)
    d.both("earliest of none", "ListOffsets", 7, dict(ReplicaId=-1, Topics=first))
    d.both(
        "epoch of none", "OffsetForLeaderEpoch", 4, dict(Topics=[dict(Topic="rd", Partitions=[dict(Partition=0, LeaderEpoch=0)])])
    )
