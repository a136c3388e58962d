"""librdkafka in consumer groups of KIP-848: rebalances, restarts of the broker in the middle, regular expressions, static
members, and members that move from the classic protocol to the new one."""

import os
import subprocess
import time

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

BOOT = os.environ["BOOTSTRAP"]
CTL = os.environ["ESKER_CTL"]
REPLICAS = int(os.environ["REPLICAS"])
ADMIN = AdminClient({"bootstrap.servers": BOOT})
PRODUCER = Producer({"bootstrap.servers": BOOT})


def step(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


class Member:
    """A consumer with what it owns and has read."""

    def __init__(self, group, topics, new=True, seen=None, **more):
        conf = {
            "bootstrap.servers": BOOT,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "topic.metadata.refresh.interval.ms": 500,
        }
        if new:
            conf["group.protocol"] = "consumer"
        else:
            conf.update({"session.timeout.ms": 10000, "heartbeat.interval.ms": 300, "partition.assignment.strategy": "cooperative-sticky"})
        conf.update(more)
        self.owns, self.seen = set(), set() if seen is None else seen
        self.consumer = Consumer(conf)
        self.consumer.subscribe(topics, on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.revoked)

    def assigned(self, consumer, partitions):
        self.owns |= {(p.topic, p.partition) for p in partitions}
        consumer.incremental_assign(partitions)

    def revoked(self, consumer, partitions):
        self.owns -= {(p.topic, p.partition) for p in partitions}
        consumer.incremental_unassign(partitions)

    def poll(self):
        for message in self.consumer.consume(100, 0.02):
            if message.error() is None:
                self.seen.add(int(message.value()))
                try:
                    self.consumer.commit(message, asynchronous=False)
                except KafkaException:
                    # The partition went elsewhere in between: its records are read again there.
                    pass

    def close(self):
        self.consumer.close()
        self.owns = set()


def wait(what, members, check, seconds=90):
    end = time.monotonic() + seconds
    while not check():
        for member in members:
            member.poll()
        assert time.monotonic() < end, f"not in {seconds} s: {what}: {[sorted(m.owns) for m in members]}"


def share(members, partitions):
    owned = [p for m in members for p in m.owns]
    return len(owned) == len(set(owned)) == partitions and all(m.owns for m in members)


def create(topic, partitions):
    for future in ADMIN.create_topics([NewTopic(topic, partitions, REPLICAS)]).values():
        future.result(30)


def produce(topic, partitions, numbers):
    for number in numbers:
        PRODUCER.produce(topic, str(number).encode(), partition=number % partitions)
    assert PRODUCER.flush(40) == 0


def described(group):
    return ADMIN.describe_consumer_groups([group])[group].result(30)


def rebalances():
    step("rebalances")
    create("cc-a", 6)
    produce("cc-a", 6, range(600))
    seen = set()
    one, two, three = (Member("cc-group", ["cc-a"], seen=seen) for _ in range(3))
    wait("three share", [one, two, three], lambda: share([one, two, three], 6) and len(seen) == 600)
    assert sorted(len(m.owns) for m in (one, two, three)) == [2, 2, 2]
    group = described("cc-group")
    assert group.type.name == "CONSUMER" and group.state.name == "STABLE" and len(group.members) == 3, group
    for how in ("restart", "kill9restart"):
        step(how)
        subprocess.run([CTL, how], check=True)
        before = [set(m.owns) for m in (one, two, three)]
        produce("cc-a", 6, range(len(seen), len(seen) + 60))
        wanted = len(seen) + 60
        wait("they go on", [one, two, three], lambda: len(seen) == wanted)
        assert [m.owns for m in (one, two, three)] == before, "a restart moves nothing"
    two.close()
    wait("two share", [one, three], lambda: share([one, three], 6))
    one.close()
    three.close()
    # A client of its own: one that was idle through two restarts may wait for long before it connects again.
    admin = AdminClient({"bootstrap.servers": BOOT})
    admin.delete_consumer_groups(["cc-group"])["cc-group"].result(30)


def expressions():
    step("regular expressions")
    one = Member("cc-regex", ["^cc-r.*"], seen=set())
    create("cc-r1", 2)
    wait("a topic", [one], lambda: len(one.owns) == 2)
    create("cc-r2", 1)
    wait("another", [one], lambda: len(one.owns) == 3)
    one.close()


def static_members():
    step("static members")
    one, two = (Member("cc-static", ["cc-a"], **{"group.instance.id": name}) for name in ("one", "two"))
    wait("two share", [one, two], lambda: share([one, two], 6))
    had, other = set(one.owns), set(two.owns)
    one.close()
    again = Member("cc-static", ["cc-a"], **{"group.instance.id": "one"})
    wait("it has back what it had", [again, two], lambda: again.owns == had)
    assert two.owns == other
    again.close()
    two.close()


def rolling():
    create("cc-roll", 4)
    seen, produced = set(), 0
    members = [Member("cc-roll", ["cc-roll"], new=False, seen=seen) for _ in range(2)]
    wait("two classic members share", members, lambda: share(members, 4))
    for new in (True, False):
        step("roll to the new protocol" if new else "roll to the classic protocol")
        for at in range(2):
            produce("cc-roll", 4, range(produced, produced + 100))
            produced += 100
            members.pop(0).close()
            members.append(Member("cc-roll", ["cc-roll"], new=new, seen=seen))
            wait("both share again", members, lambda: share(members, 4) and len(seen) == produced)
            kind = described("cc-roll").type.name
            assert kind == ("CONSUMER" if new or at == 0 else "CLASSIC"), (new, at, kind)
    for member in members:
        member.close()


rebalances()
expressions()
static_members()
rolling()
step("done")
