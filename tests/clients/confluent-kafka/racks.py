"""Consumers of librdkafka with `client.rack` on a cluster of three brokers, each in a rack of its own (KIP-392).

Which broker served them is read from the brokers' metrics. The script starts the cluster itself (`ESKER_BIN`).
"""

import os
import subprocess
import tempfile
import time
import urllib.request

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from free_addresses import free_addresses

TOPIC, RECORDS, SIZE = "racks", 1000, 1000
SELECTOR = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector"
# No broker is fenced because it stands still for a while: it would leave the ISR, and consumers would read elsewhere.
STEADY = "broker.session.timeout.ms=30000"
PATIENCE = 60


def start(folder, number, address, join):
    command = [os.environ["ESKER_BIN"], "serve", "--data-dir", f"{folder}/{number}", "--listen", address]
    command += ["--http", "127.0.0.1:0", "--join", join, "--set", f"broker.rack=rack{number}", "--set", SELECTOR]
    command += ["--set", STEADY]
    with open(f"{folder}/{number}.log", "w") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def bytes_out(http):
    with urllib.request.urlopen(f"http://{http}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("kafka_server_brokertopicmetrics_bytesout_total"))


def read_all(join, rack):
    consumer = Consumer({"bootstrap.servers": join, "group.id": "racks", "client.rack": rack, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    read = []
    while len(read) < RECORDS:
        record = consumer.poll(PATIENCE)
        assert record is not None, f"{len(read)} records, and no more come"
        if not record.error():
            read.append(record.offset())
    consumer.close()
    assert read == list(range(RECORDS)), "each record once, in order"


def find(what, look):
    """Waits until `look` finds something."""
    until = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found is not None:
            return found
        assert time.monotonic() < until, f"it never came: {what}"
        time.sleep(0.01)


def leader_in_sync(admin):
    """The leader, once all three replicas are in sync: what is acknowledged is on each of them then."""
    topic = admin.list_topics(TOPIC, timeout=PATIENCE).topics[TOPIC]
    partition = topic.partitions.get(0)
    return partition.leader if partition and len(partition.isrs) == 3 and partition.leader in partition.isrs else None


def main(folder, processes):
    addresses = free_addresses(3)
    join = ",".join(addresses)
    processes += [start(folder, number, address, join) for number, address in enumerate(addresses)]
    brokers = {}
    for number, process in enumerate(processes):
        line = process.stdout.readline()
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        brokers[int(fields["node"])] = (f"rack{number}", fields["http"])
    admin = AdminClient({"bootstrap.servers": join})
    admin.create_topics([NewTopic(TOPIC, 1, 3)])[TOPIC].result(PATIENCE)
    leader = find("a leader with its followers", lambda: leader_in_sync(admin))
    producer = Producer({"bootstrap.servers": join})
    for _ in range(RECORDS):
        producer.produce(TOPIC, b"x" * SIZE, partition=0)
    assert producer.flush(PATIENCE) == 0
    follower = next(node for node in brokers if node != leader)
    for rack, server in ((brokers[follower][0], follower), (brokers[leader][0], leader), ("", leader)):
        before = {node: bytes_out(http) for node, (_, http) in brokers.items()}
        read_all(join, rack)
        sent = {node: bytes_out(http) - before[node] for node, (_, http) in brokers.items()}
        assert sent[server] > RECORDS * SIZE, f"{rack!r} reads from node {server}: {sent}"
        assert sum(sent.values()) - sent[server] < RECORDS * SIZE / 10, f"{rack!r} reads elsewhere: {sent}"
    print("consumers read from the replica in their rack")


with tempfile.TemporaryDirectory() as data:
    started = []
    try:
        main(data, started)
    finally:
        for broker in started:
            broker.kill()
            broker.wait()
