"""Transactions: producers and their epochs, partitions, both ways to end, markers, offsets; by transaction version 1 and 2."""

import time

from batches import batch
from common import next_millisecond, prepare, prepare_groups

ABORTED, COMMITTED = False, True
TRANSACTIONAL, CONTROL = 16, 32


def prepare_coordinator(d):
    """Waits until every transactional id has its coordinator, and producer ids are there."""
    for peer in d.peers:
        deadline = time.monotonic() + 240
        while peer.call("InitProducerId", 4, dict(TransactionalId=None))["ErrorCode"] and time.monotonic() < deadline:
            time.sleep(0.02)
        for number in range(60):
            name = f"reach-{number}"
            while time.monotonic() < deadline:
                found = peer.call("FindCoordinator", 4, dict(KeyType=1, CoordinatorKeys=[name]))
                asked = peer.call("DescribeTransactions", 0, dict(TransactionalIds=[name]))
                if found["Coordinators"][0]["ErrorCode"] == 0 and asked["TransactionStates"][0]["ErrorCode"] == 105:
                    break
                time.sleep(0.02)


class Producer:
    """One transactional id; who it is, each broker says."""

    def __init__(self, d, id):
        self.d, self.id = d, id

    def me(self, peer, epoch=0):
        return dict(ProducerId=peer.memory[self.id, "id"], ProducerEpoch=peer.memory[self.id, "epoch"] + epoch)

    def init(self, label, version=5, timeout=60000, again=False, given=None, learn=True):
        """`given`: the difference to the epoch it has, or None to be new."""

        def ask(peer):
            body = dict(TransactionalId=self.id, TransactionTimeoutMs=timeout)
            if given is not None:
                body.update(self.me(peer, given))
            deadline = time.monotonic() + 20
            while True:
                answer = peer.call("InitProducerId", version, body)
                if learn and answer["ErrorCode"] == 0:
                    self.learn(peer, answer)
                if not again or answer["ErrorCode"] != 51 or time.monotonic() > deadline:
                    return answer
                time.sleep(0.02)

        return self.d.each(f"{label} InitProducerId v{version}", ask)

    def learn(self, peer, answer):
        peer.memory[self.id, "id"], peer.memory[self.id, "epoch"] = answer["ProducerId"], answer["ProducerEpoch"]

    def add(self, label, partitions=((0,)), version=3, topic="tx", epoch=0, more=()):
        def body(peer):
            topics = [dict(Name=topic, Partitions=list(partitions))] + [dict(Name=n, Partitions=p) for n, p in more]
            return dict(
                V3AndBelowTransactionalId=self.id,
                V3AndBelowProducerId=self.me(peer)["ProducerId"],
                V3AndBelowProducerEpoch=self.me(peer, epoch)["ProducerEpoch"],
                V3AndBelowTopics=topics,
            )

        self.d.both(label, "AddPartitionsToTxn", version, body, tidy_added)

    def ask_as_broker(self, label, verify, partitions=((0,)), version=5, topic="tx", epoch=0):
        def body(peer):
            one = dict(TransactionalId=self.id, VerifyOnly=verify, Topics=[dict(Name=topic, Partitions=list(partitions))])
            return dict(Transactions=[dict(one, **self.me(peer, epoch))])

        self.d.both(label, "AddPartitionsToTxn", version, body)

    def end(self, label, committed, version=4, epoch=0, learn=True):
        def ask(peer):
            answer = peer.call("EndTxn", version, dict(TransactionalId=self.id, Committed=committed, **self.me(peer, epoch)))
            if version >= 5 and learn and answer["ErrorCode"] == 0:
                self.learn(peer, answer)
            return answer

        self.d.each(f"{label} EndTxn v{version}", ask)
        self.settle(label)
        next_millisecond()

    def settle(self, label):
        """Waits until no markers are left to be written."""
        ready = lambda answer: not answer["TransactionStates"][0]["TransactionState"].startswith("Prepare")
        ask = dict(TransactionalIds=[self.id])
        self.d.until(label, "DescribeTransactions", 0, ask, ready, tidy_described)

    def produce(self, label, sequence, partition=0, version=11, values=(b"v",), epoch=0, topic="tx", named=True, flags=TRANSACTIONAL):
        def body(peer):
            me = self.me(peer, epoch)
            records = batch(
                values, attributes=flags, producer=me["ProducerId"], epoch=me["ProducerEpoch"], sequence=sequence
            )
            data = [dict(Name=topic, PartitionData=[dict(Index=partition, Records=records)])]
            return dict(TransactionalId=self.id if named else None, Acks=-1, TimeoutMs=5000, TopicData=data)

        self.d.both(label, "Produce", version, body, tidy_produced)

    def add_offsets(self, label, group="tg", version=3, epoch=0):
        body = lambda peer: dict(TransactionalId=self.id, GroupId=group, **self.me(peer, epoch))
        self.d.both(label, "AddOffsetsToTxn", version, body)

    def commit_offset(self, label, offset, group="tg", version=4, epoch=0, member="", generation=-1, topic="tx", partition=0):
        def body(peer):
            more = dict(MemberId=member, GenerationIdOrMemberEpoch=generation) if version >= 3 else {}
            partitions = [dict(PartitionIndex=partition, CommittedOffset=offset)]
            name = dict(TopicId=peer.topic_id(topic)) if version >= 6 else dict(Name=topic)
            topics = [dict(name, Partitions=partitions)]
            return dict(TransactionalId=self.id, GroupId=group, Topics=topics, **self.me(peer, epoch), **more)

        self.d.both(label, "TxnOffsetCommit", version, body)


def tidy_added(answer):
    """Kafka gives the topics in an order of its own."""
    for results in answer.values():
        if isinstance(results, list):
            results.sort(key=lambda one: one["Name"])
            for topic in results:
                topic["ResultsByPartition"].sort(key=lambda one: one["PartitionIndex"])


def tidy_described(answer):
    for state in answer["TransactionStates"]:
        state["TransactionStartTimeMs"] = min(state["TransactionStartTimeMs"], 0)
        for topic in state["Topics"]:
            topic["Partitions"].sort()


def tidy_produced(answer):
    for topic in answer["Responses"]:
        for partition in topic["PartitionResponses"]:
            partition.pop("ErrorMessage", None)


def tidy_fetched(answer):
    for topic in answer["Responses"]:
        for partition in topic["Partitions"]:
            for aborted in partition["AbortedTransactions"] or ():
                aborted["ProducerId"] = min(aborted["ProducerId"], 0)
            # Ids and times of markers are each broker's own.
            partition["Records"] = len(partition["Records"] or "")


class Views:
    def __init__(self, d):
        self.d = d

    def log(self, label, partition=0, topic="tx"):
        """What the partition holds for both kinds of readers, and where it ends for them."""
        wanted = [dict(Topic=topic, Partitions=[dict(Partition=partition, FetchOffset=0, PartitionMaxBytes=10_000_000)])]
        for isolation in (0, 1):
            body = dict(MaxWaitMs=0, MinBytes=0, MaxBytes=10_000_000, IsolationLevel=isolation, Topics=wanted)
            self.d.both(f"{label}: isolation {isolation}", "Fetch", 12, body, tidy_fetched)
            for timestamp in (-1, -3):
                asked = [dict(Name=topic, Partitions=[dict(PartitionIndex=partition, Timestamp=timestamp)])]
                body = dict(ReplicaId=-1, IsolationLevel=isolation, Topics=asked)
                self.d.both(f"{label}: isolation {isolation} {timestamp}", "ListOffsets", 7, body)

    def producers(self, label, partition=0, topic="tx"):
        body = dict(Topics=[dict(Name=topic, PartitionIndexes=[partition])])
        self.d.both(label, "DescribeProducers", 0, body)

    def offset(self, label, stable, group="tg", version=8, partitions=(0,)):
        topics = [dict(Name="tx", PartitionIndexes=list(partitions))]
        body = dict(Groups=[dict(GroupId=group, Topics=topics)], RequireStable=stable)
        if version < 8:
            body = dict(GroupId=group, Topics=topics, RequireStable=stable)
        self.d.both(f"{label}, stable {stable}", "OffsetFetch", version, body)


def run(d):
    prepare(d, {"tx": 12, "ty": 2}, forever=True)
    prepare_groups(d)
    prepare_coordinator(d)
    views = Views(d)
    producers(d)
    version_1(d, views)
    version_2(d, views)
    verified(d, views)
    offsets(d, views)
    markers(d, views)
    late(d, views)
    shown(d)
    features(d)


def producers(d):
    one = Producer(d, "init")
    for version in range(0, 6):
        d.both("no id", "InitProducerId", version, dict(TransactionalId="", TransactionTimeoutMs=1000))
        d.both("unknown", "InitProducerId", version, dict(TransactionalId=f"u{version}", TransactionTimeoutMs=1000))
    for timeout in (0, -1, 900001, 900000, 2**31 - 1):
        d.both(f"timeout {timeout}", "InitProducerId", 4, dict(TransactionalId="times", TransactionTimeoutMs=timeout))
    new = dict(TransactionalId="comes", TransactionTimeoutMs=1000)
    d.both("unknown with an id", "InitProducerId", 4, dict(new, ProducerId=4711, ProducerEpoch=3))
    d.both("id without epoch", "InitProducerId", 4, dict(new, ProducerId=4711))
    d.both("epoch without id", "InitProducerId", 4, dict(new, ProducerEpoch=4))
    d.both("idempotent with an id", "InitProducerId", 4, dict(TransactionalId=None, ProducerId=4711, ProducerEpoch=3))
    one.init("first")
    one.init("second")
    one.init("goes on", given=0)
    one.init("goes on, retry", given=-1)
    one.init("goes on, older", given=-2)
    one.init("goes on, newer", given=1)
    one.init("new instance")
    one.init("epoch before a new instance", given=-1)
    for version in (3, 4):
        one.init("older by version", version, given=-3)

    def other(peer):
        return dict(TransactionalId="init", TransactionTimeoutMs=1000, ProducerId=123456, ProducerEpoch=0)

    d.both("other id", "InitProducerId", 4, other)


def version_1(d, views):
    one = Producer(d, "one")
    for version in range(0, 4):
        d.both(
            "unknown",
            "AddPartitionsToTxn",
            version,
            dict(
                V3AndBelowTransactionalId="nobody",
                V3AndBelowProducerId=1,
                V3AndBelowProducerEpoch=0,
                V3AndBelowTopics=[dict(Name="tx", Partitions=[0])],
            ),
            tidy_added,
        )
    for version in range(0, 6):
        body = dict(TransactionalId="nobody", ProducerId=1, ProducerEpoch=0)
        d.both("unknown", "EndTxn", version, dict(body, Committed=True))
        d.both("unknown, no id", "EndTxn", version, dict(body, TransactionalId="", Committed=True))
        if version < 5:
            d.both("unknown", "AddOffsetsToTxn", version, dict(body, GroupId="tg"))
    one.init("one")
    one.end("empty, commit", COMMITTED)
    one.end("empty, abort", ABORTED)
    one.produce("not added", 0, version=7)
    one.produce("not added", 0, version=10)
    one.produce("not added", 0, version=11)
    one.add("unknown topic", topic="nope")
    one.add("unknown partition", (0, 99))
    one.add("unknown and known", (0,), more=[("nope", [0]), ("ty", [0, 7])])
    one.add("negative partition", (-1,))
    for version in range(0, 4):
        one.add("newer epoch", version=version, epoch=1)
        one.add("older epoch", version=version, epoch=-1)
    one.add("first", (0, 1), version=0)
    one.add("again", (0,))
    one.add("nothing", ())
    one.settle("ongoing")
    one.produce("first", 0)
    views.log("open")
    views.producers("open")
    one.produce("second", 1, values=(b"a", b"b"))
    one.produce("not added partition", 0, partition=5)
    one.produce("not added partition", 0, partition=5, version=9)
    one.produce("again", 1, values=(b"a", b"b"))
    one.produce("not in the transaction", 3, flags=0)
    one.produce("gap", 9)
    one.produce("older epoch", 3, epoch=-1)
    one.produce("newer epoch", 0, epoch=1)
    one.produce("newer epoch with a gap", 4, epoch=1)
    one.produce("nobody", 3, named=False)
    one.produce("control", 3, flags=TRANSACTIONAL | CONTROL)
    for version in range(0, 5):
        one.end("newer epoch", COMMITTED, version=version, epoch=1)
        one.end("older epoch", COMMITTED, version=version, epoch=-1)
    one.end("commit", COMMITTED)
    one.end("commit again", COMMITTED)
    one.end("abort after commit", ABORTED)
    views.log("committed")
    views.producers("committed")
    one.produce("after commit", 3)
    one.produce("after commit", 3, version=9)
    one.add("second transaction")
    one.produce("second transaction", 3)
    one.end("abort", ABORTED)
    one.end("abort again", ABORTED)
    one.end("commit after abort", COMMITTED)
    views.log("aborted")
    views.producers("aborted")
    one.add("nothing is written", (2,))
    one.end("nothing is written", COMMITTED)
    views.log("nothing is written", 2)
    one.add("third")
    one.produce("third", 4)
    one.init("while ongoing", learn=False)
    one.init("while ongoing, again", again=True, learn=False)
    for version in (0, 1, 2, 4):
        one.end("fenced", COMMITTED, version=version)
    one.add("fenced", version=1)
    one.add("fenced", version=2)
    one.produce("fenced", 5)
    views.log("fenced")
    one.init("comes back fenced", given=0, learn=False)
    one.init("learns", again=True)
    views.producers("learnt")


def version_2(d, views):
    two = Producer(d, "two")
    two.init("two")
    two.produce("first", 0, partition=3, version=12)
    two.settle("ongoing")
    two.produce("second", 1, partition=3, version=12)
    two.produce("another partition", 0, partition=4, version=12)
    two.produce("another, not at 0", 7, partition=5, version=12)
    two.end("older epoch", COMMITTED, version=5, epoch=-1)
    two.end("newer epoch", COMMITTED, version=5, epoch=1)
    two.end("commit", COMMITTED, version=5)
    views.log("committed", 3)
    views.producers("committed", 3)
    two.end("commit, retry", COMMITTED, version=5, epoch=-1, learn=False)
    two.end("abort, retry of a commit", ABORTED, version=5, epoch=-1, learn=False)
    two.end("commit of nothing", COMMITTED, version=5)
    two.end("abort of nothing", ABORTED, version=5)
    two.end("abort of nothing, retry", ABORTED, version=5, epoch=-1, learn=False)
    two.end("commit, retry of an abort", COMMITTED, version=5, epoch=-1, learn=False)
    two.end("older still", ABORTED, version=5, epoch=-2, learn=False)
    two.end("abort of nothing, twice", ABORTED, version=5)
    two.produce("second transaction", 0, partition=3, version=12)
    two.produce("old epoch", 0, partition=3, version=12, epoch=-1)
    two.end("abort", ABORTED, version=5)
    views.log("aborted", 3)
    views.producers("aborted", 3)
    two.init("goes on after the end", given=0)
    two.produce("goes on", 0, partition=3, version=12)
    two.end("commits", COMMITTED, version=5, learn=False)
    two.init("goes on without the answer", given=0, learn=False)
    two.init("goes on without the answer, newer", given=1)
    two.produce("third", 0, partition=3, version=12)
    two.init("while ongoing", learn=False)
    two.init("while ongoing, again", again=True, learn=False)
    two.end("fenced", COMMITTED, version=5)
    two.produce("fenced", 1, partition=3, version=12)
    two.init("comes back fenced", given=0, learn=False)
    two.init("learns", again=True)
    two.produce("own transaction, ongoing", 0, partition=3, version=12)
    two.init("goes on while ongoing", given=0, learn=False)
    two.init("goes on while ongoing, again", given=0, again=True)
    two.produce("mixed", 0, partition=3, version=12)
    two.end("ends as version 1", COMMITTED, version=4)
    two.end("ends as version 1, again", COMMITTED, version=4)
    views.producers("mixed", 3)
    two.add("mixed back", (3,))
    two.produce("mixed back", 1, partition=3, version=11)
    two.end("ends as version 2", COMMITTED, version=5)
    views.producers("mixed back", 3)
    three = Producer(d, "three")
    three.init("three")
    three.end("empty abort", ABORTED, version=5)
    three.end("empty commit", COMMITTED, version=5)


def verified(d, views):
    one = Producer(d, "asked")
    one.init("asked")
    for version in (4, 5):
        one.ask_as_broker("not in", True, version=version)
        one.ask_as_broker("newer epoch", True, version=version, epoch=1)
        one.ask_as_broker("older epoch", False, version=version, epoch=-1)
        one.ask_as_broker("unknown topic", True, version=version, topic="nope")
        one.ask_as_broker("unknown topic", False, version=version, topic="nope")
    one.ask_as_broker("added", False, (6,))
    one.ask_as_broker("in, and not", True, (6, 7))
    one.settle("added by a broker")
    one.end("added by a broker", COMMITTED, version=5)
    one.ask_as_broker("after the end", True, (6,))
    empty = dict(TransactionalId="", ProducerId=1, ProducerEpoch=0, VerifyOnly=True, Topics=[dict(Name="tx", Partitions=[0])])
    nobody = dict(empty, TransactionalId="nobody")
    d.both("no id", "AddPartitionsToTxn", 5, dict(Transactions=[empty]))
    d.both("nobody", "AddPartitionsToTxn", 5, dict(Transactions=[nobody, dict(nobody, VerifyOnly=False)]))


def offsets(d, views):
    one = Producer(d, "offsets")
    one.init("offsets")
    one.commit_offset("not added", 5, version=0)
    one.commit_offset("not added", 5, version=3)
    one.commit_offset("not added", 5, version=4)
    one.add_offsets("newer epoch", epoch=1, version=1)
    one.add_offsets("newer epoch", epoch=1, version=2)
    one.add_offsets("first")
    one.add_offsets("again")
    one.add_offsets("no group", group="")
    views.offset("none", True)
    for version in range(0, 5):
        one.commit_offset("good", 5 + version, version=version)
        one.commit_offset("newer epoch", 5, version=version, epoch=1)
        one.commit_offset("older epoch", 5, version=version, epoch=-1)
        one.commit_offset("unknown topic", 5, version=version, topic="nope")
        one.commit_offset("unknown partition", 5, version=version, partition=99)
    one.commit_offset("generation", 5, generation=3)
    one.commit_offset("member", 5, member="m")
    one.commit_offset("member and generation", 5, member="m", generation=1)
    one.commit_offset("unknown group", 5, group="tg-not")
    one.commit_offset("other topic", 7, topic="ty")
    for version in (7, 8):
        for stable in (False, True):
            views.offset("open", stable, version=version, partitions=(0, 1))
    d.both("open, all", "OffsetFetch", 8, dict(Groups=[dict(GroupId="tg", Topics=None)], RequireStable=True))
    one.end("commit", COMMITTED)
    views.offset("committed", True)
    one.add_offsets("second")
    one.commit_offset("second", 90)
    views.offset("second open", False)
    one.end("abort", ABORTED)
    views.offset("aborted", True)
    d.both("groups", "DescribeGroups", 5, dict(Groups=["tg"]))
    two = Producer(d, "offsets-2")
    two.init("offsets, version 2")
    two.commit_offset("adds itself", 33, version=5)
    two.commit_offset("older epoch", 33, version=5, epoch=-1)
    two.commit_offset("newer epoch", 33, version=5, epoch=1)
    two.commit_offset("generation", 5, version=5, generation=3)
    two.commit_offset("unknown group", 5, version=5, group="tg-none", generation=3)
    two.commit_offset("by id", 34, version=6)
    two.commit_offset("unknown group, by id", 5, version=6, group="tg-none", generation=3)
    views.offset("version 2, open", True)
    two.end("version 2", COMMITTED, version=5)
    views.offset("version 2, committed", True)
    two.commit_offset("epoch before", 35, version=5, epoch=-1)
    two.commit_offset("next", 36, version=5)
    two.end("next", ABORTED, version=5)
    views.offset("version 2, aborted", True)


def markers(d, views):
    one = Producer(d, "marked")
    one.init("marked")
    one.add("marked", (9,))
    one.produce("marked", 0, partition=9)

    def mark(label, epoch=0, version=1, partition=9, topic="tx", committed=False, coordinator=0, transaction_version=0, id=None):
        def body(peer):
            me = one.me(peer, epoch)
            marker = dict(me, TransactionResult=committed, CoordinatorEpoch=coordinator)
            if id is not None:
                marker["ProducerId"] = id
            if version >= 2:
                marker["TransactionVersion"] = transaction_version
            topics = [dict(Name=topic, PartitionIndexes=[partition])]
            return dict(Markers=[dict(marker, Topics=topics)])

        d.both(label, "WriteTxnMarkers", version, body)
        next_millisecond()

    mark("unknown topic", topic="nope")
    mark("unknown partition", partition=99)
    mark("older epoch", epoch=-1)
    mark("version 2, same epoch", version=2, transaction_version=2)
    mark("abort", coordinator=5)
    views.log("marked", 9)
    views.producers("marked", 9)
    mark("again", coordinator=5)
    mark("older coordinator", coordinator=4)
    mark("version 2, same epoch again", version=2, transaction_version=2, coordinator=5)
    mark("version 2, next epoch", version=2, transaction_version=2, epoch=1, coordinator=5)
    mark("unknown producer", id=987654321)
    views.producers("marked again", 9)
    one.produce("after an admin's marker", 1, partition=9)
    one.end("its own coordinator", ABORTED)
    views.log("its own coordinator", 9)


def late(d, views):
    one, two = Producer(d, "late"), Producer(d, "late-2")
    # No broker is late before all are asked, even if one stands still for seconds meanwhile. The two time out side by side.
    one.init("late", timeout=8000)
    one.add("late", (10,))
    one.produce("late", 0, partition=10)
    two.init("late, version 2", timeout=8000)
    two.produce("late, version 2", 0, partition=11, version=12)
    ready = lambda answer: answer["TransactionStates"][0]["TransactionState"] == "CompleteAbort"
    d.until("late", "DescribeTransactions", 0, dict(TransactionalIds=["late"]), ready, tidy_described)
    d.until("late, version 2", "DescribeTransactions", 0, dict(TransactionalIds=["late-2"]), ready, tidy_described)
    one.end("late, commit", COMMITTED)
    one.add("late", (10,))
    one.produce("late again", 1, partition=10)
    views.producers("late", 10)
    views.log("late", 10)
    one.init("late goes on", given=0)
    two.end("late, version 2, commit", COMMITTED, version=5, learn=False)
    two.end("late, version 2, abort", ABORTED, version=5, learn=False)
    two.produce("late again, version 2", 1, partition=11, version=12)
    views.producers("late, version 2", 11)
    two.init("late goes on, version 2", given=0)


def shown(d):
    one = Producer(d, "shown")
    one.init("shown")
    one.add("shown", (0, 1), more=[("ty", [1])])
    d.both("several", "DescribeTransactions", 0, dict(TransactionalIds=["shown", "one", "nobody", ""]), tidy_described)

    def ours(answer):
        rows = [r for r in answer["TransactionStates"] if r["TransactionalId"] in ("shown", "one", "two", "offsets")]
        answer["TransactionStates"] = sorted(rows, key=lambda row: row["TransactionalId"])

    for version in range(0, 3):
        d.both("all", "ListTransactions", version, {}, ours)
        for states in (["Ongoing"], ["Empty", "nonsense"], ["nonsense"], ["ongoing"], ["Dead"], ["PrepareEpochFence"]):
            d.both(f"states {states}", "ListTransactions", version, dict(StateFilters=states), ours)
        mine = lambda peer: dict(ProducerIdFilters=[peer.memory["shown", "id"]])
        d.both("producer", "ListTransactions", version, mine, ours)
        d.both("no producer", "ListTransactions", version, dict(ProducerIdFilters=[999999999]), ours)
    for duration in (-1, 0, 1_000_000):
        d.both(f"duration {duration}", "ListTransactions", 1, dict(DurationFilter=duration), ours)
    for pattern in ("shown", "sho", "sho.*", "one|two", "(?i)SHOWN", "", "[", "a)(b", "^shown$", None):
        d.both(f"pattern {pattern}", "ListTransactions", 2, dict(TransactionalIdPattern=pattern), ours)
    one.end("shown", ABORTED)


def features(d):
    for version in (0, 1, 2):
        for level in (3, -1, 2):
            updates = [dict(Feature="transaction.version", MaxVersionLevel=level)]
            d.both(f"level {level}", "UpdateFeatures", version, dict(timeoutMs=10000, FeatureUpdates=updates), tidy_features)

    def change(level, kind=1):
        updates = [dict(Feature="transaction.version", MaxVersionLevel=level, UpgradeType=kind)]
        d.both(f"changes to {level}", "UpdateFeatures", 1, dict(timeoutMs=10000, FeatureUpdates=updates), tidy_features)

        def shows(answer):
            levels = {f["Name"]: f["MaxVersionLevel"] for f in answer["FinalizedFeatures"]}
            return levels.get("transaction.version", 0) == level

        def ours(answer):
            answer["ApiKeys"], answer["FinalizedFeaturesEpoch"] = [], 0
            for kind in ("SupportedFeatures", "FinalizedFeatures"):
                answer[kind] = [f for f in answer[kind] if f["Name"] == "transaction.version"]

        body = dict(ClientSoftwareName="differ", ClientSoftwareVersion="1")
        d.until(f"changed to {level}", "ApiVersions", 4, body, shows, ours)

    change(0, kind=3)
    one = Producer(d, "zero")
    one.init("level 0")
    one.add("level 0")
    one.end("level 0", COMMITTED)
    change(1)
    one.add("level 1")
    one.init("level 1, while ongoing", learn=False)
    one.init("level 1, again", again=True)
    change(2)


def tidy_features(answer):
    for result in answer.get("Results", ()):
        result["ErrorMessage"] = "set"
