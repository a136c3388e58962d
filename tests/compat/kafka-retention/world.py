"""Both brokers, told the same; what each of them then keeps."""

import gzip
import pathlib
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "differential"))

from batches import batch, record
from compare import Peer, differences
from messages import Definitions

MUCH = 50_000_000
PATIENCE = 30
HOUR = 3_600_000


def varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (number >> 1) ^ -(number & 1), at


def records(data):
    """(offset, timestamp, key, bytes of the value) of each record in whole batches of format 2."""
    at = 0
    while at + 61 <= len(data):
        base, size = struct.unpack_from(">qi", data, at)
        attributes, _, first, newest = struct.unpack_from(">hiqq", data, at + 21)
        (count,) = struct.unpack_from(">i", data, at + 57)
        body = data[at + 61 : at + 12 + size]
        if attributes & 7 == 1:
            body = gzip.decompress(body)
        place = 0
        for _ in range(count):
            _, place = varint(body, place)
            place += 1
            time_delta, place = varint(body, place)
            delta, place = varint(body, place)
            fields = []
            for _ in range(2):
                length, place = varint(body, place)
                fields.append(None if length < 0 else body[place : place + length])
                place += max(length, 0)
            headers, place = varint(body, place)
            assert headers == 0
            stamp = newest if attributes & 8 else first + time_delta
            yield base + delta, stamp, fields[0], fields[1]
        at += 12 + size


class World:
    def __init__(self, definitions, kafka, esker):
        definitions = Definitions(definitions)
        self.peers = {"Kafka": Peer(definitions, kafka), "Esker": Peer(definitions, esker)}
        self.now = int(time.time() * 1000)
        self.compared = 0
        self.wrong = []

    def both(self, api, version, body, check=None):
        """Asks both; the answers must be the same (`check` picks of them what counts)."""
        answers = {name: peer.plain(peer.call(api, version, body)) for name, peer in self.peers.items()}
        if check:
            answers = {name: check(answer) for name, answer in answers.items()}
        return answers["Kafka"], answers["Esker"]

    def create(self, name, **configs):
        """A dot in a config's name is an underscore here."""
        wanted = [dict(Name=key.replace("_", "."), Value=str(value)) for key, value in configs.items()]
        topics = [dict(Name=name, NumPartitions=1, ReplicationFactor=1, Assignments=[], Configs=wanted)]
        kafka, esker = self.both("CreateTopics", 4, dict(Topics=topics, timeoutMs=10000, validateOnly=False),
                                 lambda a: a["Topics"][0]["ErrorCode"])
        assert kafka == esker == 0, (name, kafka, esker)

    def configure(self, name, **configs):
        changes = [dict(Name=key.replace("_", "."), ConfigOperation=0 if value is not None else 1,
                        Value=None if value is None else str(value)) for key, value in configs.items()]
        wanted = [dict(ResourceType=2, ResourceName=name, Configs=changes)]
        kafka, esker = self.both("IncrementalAlterConfigs", 1, dict(Resources=wanted, ValidateOnly=False),
                                 lambda a: a["Responses"][0]["ErrorCode"])
        assert kafka == esker == 0, (name, configs, kafka, esker)

    def produce(self, topic, *batches):
        for one in batches:
            # Where brokers stamp: no two batches within a millisecond, or which of them is the newest hangs on the clock.
            before = time.time_ns() // 10**6
            while topic == "stamped" and time.time_ns() // 10**6 <= before:
                time.sleep(0.0005)
            data = [dict(Name=topic, PartitionData=[dict(Index=0, Records=one)])]
            for name, peer in self.peers.items():
                deadline = time.monotonic() + PATIENCE
                while True:
                    answer = peer.call("Produce", 9, dict(Acks=-1, TimeoutMs=10000, TopicData=data))
                    code = answer["Responses"][0]["PartitionResponses"][0]["ErrorCode"]
                    # A topic just made, or a broker just started.
                    if code not in (3, 6) or time.monotonic() > deadline:
                        break
                    time.sleep(0.05)
                assert code == 0, (name, topic, code)

    def one(self, age=None, key=b"k", value=b"v", count=1, attributes=0):
        """A batch whose records are so old (ms); None: they have no time."""
        first = -1 if age is None else self.now - age
        raw = b"".join(record(at, value, key) for at in range(count))
        if attributes & 7 == 1:
            raw = gzip.compress(raw)
        return batch([value] * count, records=raw, first_timestamp=first, attributes=attributes)

    def delete(self, topic, offset, partition=0):
        """DeleteRecords: both must answer the same."""
        wanted = [dict(Name=topic, Partitions=[dict(PartitionIndex=partition, Offset=offset)])]
        kafka, esker = self.both("DeleteRecords", 2, dict(Topics=wanted, TimeoutMs=10000))
        self.same(f"DeleteRecords {topic} up to {offset}", kafka, esker)

    def until_deletable(self, topic, code):
        """Waits until both answer `code` to a deletion of nothing: brokers tell of a new config before they go by it."""
        wanted = [dict(Name=topic, Partitions=[dict(PartitionIndex=0, Offset=0)])]
        for name, peer in self.peers.items():
            ask = lambda: peer.call("DeleteRecords", 2, dict(Topics=wanted, TimeoutMs=10000))
            self.until(f"{name} does not go by a new policy", lambda: ask()["Topics"][0]["Partitions"][0]["ErrorCode"] == code)

    def named(self, peer):
        return next(name for name, one in self.peers.items() if one is peer)

    def offset(self, peer, topic, timestamp):
        wanted = [dict(Name=topic, Partitions=[dict(PartitionIndex=0, Timestamp=timestamp)])]
        answer = peer.call("ListOffsets", 8, dict(ReplicaId=-1, Topics=wanted))
        partition = answer["Topics"][0]["Partitions"][0]
        return partition["ErrorCode"], partition["Offset"], partition["Timestamp"]

    def fetch(self, peer, topic, offset):
        wanted = [dict(Topic=topic, Partitions=[dict(Partition=0, FetchOffset=offset, PartitionMaxBytes=MUCH)])]
        body = dict(MaxWaitMs=0, MinBytes=0, MaxBytes=MUCH, Topics=wanted)
        answer = peer.call("Fetch", 12, body)
        if answer == "closed" and peer is self.peers["Kafka"]:
            # It closes segments that are being sent, where file.delete.delay.ms is 0.
            answer = peer.call("Fetch", 12, body)
        assert isinstance(answer, dict), (self.named(peer), topic, offset, answer)
        partition = answer["Responses"][0]["Partitions"][0]
        return partition["ErrorCode"], partition["LogStartOffset"], bytes.fromhex(partition["Records"] or "")

    def keeps(self, peer, topic):
        """All that clients can tell of a topic."""
        times = [-1, -2, -3, -4, 0] + [self.now - hours * HOUR for hours in (9, 6, 3, 1)]
        offsets = {f"at {at - self.now if at > 0 else at}": self.offset(peer, topic, at) for at in times}
        if topic == "stamped":
            # Each broker's own clock.
            offsets = {name: (code, at, stamp > 0) for name, (code, at, stamp) in offsets.items()}
        start, at, seen = offsets["at -2"][1], offsets["at -2"][1], []
        while at < offsets["at -1"][1]:
            code, log_start, data = self.fetch(peer, topic, at)
            found = [one for one in records(data) if one[0] >= at]
            if code or not found:
                seen.append(("end", at, code, log_start))
                break
            found = [(o, topic == "stamped" or t, k, v) for o, t, k, v in found]
            seen += [(o, t, (k or b"").decode(), len(v) if v is not None else None) for o, t, k, v in found]
            at = found[-1][0] + 1
        below = self.fetch(peer, topic, start - 1)[:2] if start else None
        beyond = self.fetch(peer, topic, offsets["at -1"][1] + 1)[0]
        return dict(offsets=offsets, seen=seen, below=below, beyond=beyond)

    def same(self, what, kafka, esker):
        self.compared += 1
        self.wrong += [f"{what}{path}: Kafka {left}, Esker {right}" for path, left, right in differences(kafka, esker)]

    def compare(self, what, topics):
        """A broker may still be at it: what differs is looked at again for a while."""
        for topic in topics:
            deadline = time.monotonic() + PATIENCE / 3
            while True:
                kafka, esker = (self.keeps(peer, topic) for peer in self.peers.values())
                self.wilful(kafka, esker)
                if kafka == esker or time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            start, end = (kafka["offsets"][f"at {at}"][1] for at in (-2, -1))
            print(f"{what}: {topic} has {start} to {end}, {len(kafka['seen'])} records")
            self.same(f"{what}: {topic}", kafka, esker)

    @staticmethod
    def wilful(kafka, esker):
        """The largest timestamp: Kafka names a record without a time, or one below the log's start; Esker says that there is none. By
        time: Kafka looks no further than a segment of such records (it takes the file's time for theirs), Esker finds what is behind."""
        if any(stamp == -1 for _, stamp, _, _ in esker["seen"]):
            for at in [at for at in kafka["offsets"] if at not in ("at -1", "at -2", "at -3", "at -4")]:
                if kafka["offsets"][at] == (0, -1, -1):
                    kafka["offsets"][at] = esker["offsets"][at]
        code, offset, at = kafka["offsets"]["at -3"]
        if code == 0 and (at < 0 or offset < kafka["offsets"]["at -2"][1]) and esker["offsets"]["at -3"] == (0, -1, -1):
            kafka["offsets"]["at -3"] = esker["offsets"]["at -3"]

    def keys(self, topic):
        """Keys that a consumer sees, of each broker."""
        return [[key for _, _, key, _ in self.keeps(peer, topic)["seen"]] for peer in self.peers.values()]

    def until(self, what, holds):
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)

    def pass_over(self):
        """Waits until retention has looked at all logs: a topic of old records lost all of them, twice."""
        for _ in range(2):
            self.produce("canary", self.one(10 * HOUR))
            for name, peer in self.peers.items():
                gone = lambda: self.offset(peer, "canary", -2)[1] == self.offset(peer, "canary", -1)[1]
                self.until(f"{name} deletes nothing", gone)
