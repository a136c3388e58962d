"""A rolling restart of twenty members of a consumer group of KIP-848: nobody stops reading a partition that it keeps.

Of each member that stays while another is restarted, it is checked that a partition is taken from it only if another gets it, and that
every partition it keeps brings records that were written in the middle of the rebalance.
"""

import collections
import os
import threading
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

BOOT = os.environ["BOOTSTRAP"]
REPLICAS = int(os.environ["REPLICAS"])
TOPIC, PARTITIONS, MEMBERS = "rolling", 40, 20
PRODUCER = Producer({"bootstrap.servers": BOOT, "linger.ms": 0})


def step(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


class Member:
    def __init__(self, number):
        self.number, self.owns, self.taken, self.read, self.at = number, set(), [], collections.Counter(), {}
        self.gap = 0.0
        conf = {
            "bootstrap.servers": BOOT,
            "group.id": "rolling",
            "group.protocol": "consumer",
            "auto.offset.reset": "latest",
            "enable.auto.commit": True,
        }
        self.consumer = Consumer(conf)
        self.consumer.subscribe([TOPIC], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)

    def assigned(self, consumer, partitions):
        self.owns |= {p.partition for p in partitions}
        self.at.update({p.partition: time.monotonic() for p in partitions})
        consumer.incremental_assign(partitions)

    def revoked(self, consumer, partitions):
        self.owns -= {p.partition for p in partitions}
        self.taken += [p.partition for p in partitions]
        consumer.incremental_unassign(partitions)

    def lost(self, consumer, partitions):
        raise AssertionError(f"member {self.number} is fenced in a restart of others")

    def poll(self):
        for message in self.consumer.consume(200, 0.001):
            if message.error() is None and message.partition() in self.owns:
                now, partition = time.monotonic(), message.partition()
                self.read[partition] = max(self.read[partition], int(message.value()))
                self.gap = max(self.gap, now - self.at[partition])
                self.at[partition] = now


class Group:
    def __init__(self):
        self.members, self.round, self.last = [], 0, 0.0

    def turn(self):
        """A record for each partition now and then, numbered by its round, and a poll of each member."""
        if time.monotonic() - self.last > 0.05:
            self.round, self.last = self.round + 1, time.monotonic()
            for partition in range(PARTITIONS):
                PRODUCER.produce(TOPIC, str(self.round), partition=partition)
        PRODUCER.poll(0)
        for member in self.members:
            member.poll()

    def owners(self):
        return {partition: member for member in self.members for partition in member.owns}

    def until(self, what, ready):
        deadline = time.monotonic() + 120
        while not ready():
            assert time.monotonic() < deadline, f"{what}: {[sorted(m.owns) for m in self.members]}"
            self.turn()

    def stable(self):
        shares = [len(member.owns) for member in self.members]
        return shares == [PARTITIONS // MEMBERS] * MEMBERS and len(self.owners()) == PARTITIONS

    def restart(self, number):
        before, gone = self.owners(), self.members.pop(number)
        stay = list(self.members)
        for member in stay:
            member.taken = []
        # Closing waits for answers; the others read on meanwhile.
        closing = threading.Thread(target=gone.consumer.close)
        closing.start()
        self.until("the others get what it had", lambda: len(self.owners()) == PARTITIONS)
        middle = self.round + 1
        closing.join()
        self.members.append(Member(number))
        self.until("the new one has its share", self.stable)
        after = self.owners()
        for member in stay:
            for partition in member.taken:
                assert after[partition] is not member, f"member {member.number} had to give {partition} back for nothing"
        kept = [(partition, member) for partition, member in before.items() if after[partition] is member]
        assert len(kept) >= PARTITIONS - 3 * PARTITIONS // MEMBERS, f"only {len(kept)} of {PARTITIONS} stay where they were"
        self.until("what is kept is read on", lambda: all(member.read[partition] >= middle for partition, member in kept))
        return len(kept)


def main():
    admin = AdminClient({"bootstrap.servers": BOOT})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, REPLICAS)])[TOPIC].result()
    group = Group()
    group.members = [Member(number) for number in range(MEMBERS)]
    group.until("all have their share", group.stable)
    step(f"{MEMBERS} members have {PARTITIONS} partitions")
    kept = [group.restart(0) for _ in range(MEMBERS)]
    gap = max(member.gap for member in group.members)
    step(f"all restarted; kept at a restart: {min(kept)} to {max(kept)} of {PARTITIONS}; longest gap {gap:.2f} s")
    for member in group.members:
        member.consumer.close()


main()
