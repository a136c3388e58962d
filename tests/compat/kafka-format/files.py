"""Data folders as files: what DumpLogSegments says of them, and what it does not look at.

check FOLDER...    every file is read by Kafka's DumpLogSegments, and it has nothing to say against any
self-check FOLDER  the check sees damage: wrong index entries, a flipped bit in records, a snapshot and a transaction index
small A B          the small files of two folders, one Kafka's and one Esker's, are of one form
"""

import collections
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

OWN = {"metadata.log", "metadata.snapshot", ".lock", "broker.epoch", "cluster.joining", "directory.joining", "replaced-metadata.log", "replaced-metadata.snapshot"} | {f"esker-journal-{number}" for number in range(4)}
# What DumpLogSegments prints of sound files. It takes the base offset of a file for a gap if that is not 0, and prints so.
SOUND = [
    r"Dumping (?P<file>.+)",
    r"(?P<file>.+) is empty\.",
    r"(?P<file>.+) passed sanity check\.",
    r"Log starting offset: \d+",
    r"baseOffset: .* isvalid: true",
    r"\| offset: .*",
    r"offset: \d+ position: \d+",
    r"timestamp: \d+ offset: \d+",
    r"version: 0 producerId: \d+ firstOffset: \d+ lastOffset: \d+ lastStableOffset: \d+",
    r"producerId: \d+ producerEpoch: \d+ .*",
]
SOUND = [re.compile(pattern) for pattern in SOUND]
GAP = re.compile(r"Non-consecutive offsets in (.+)")
TIME = re.compile(r"Found timestamp mismatch in :(.+)")
NO_RECORD = re.compile(r"  Index timestamp: (\d+), log timestamp: -1")


def dump(commands):
    text = "".join(" ".join(command) + "\n" for command in commands)
    done = subprocess.run(os.environ["DUMP"].split("\t"), input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    runs = re.split(r"^== .*\n", done.stdout, flags=re.M)[1:]
    assert len(runs) == len(commands), done.stdout[-3000:]
    return runs


def files(folder, *ends):
    found = [path for path in pathlib.Path(folder).rglob("*") if path.suffix in ends and path.name not in OWN]
    return sorted(str(path) for path in found if "__cluster_metadata-0" not in path.parts)


def compacted(path):
    """A file that may have gaps: `compact` is the tests' compacted topic, the other one Kafka's own."""
    return re.search(r"/(compact|__consumer_offsets|__transaction_state)-\d+/", path) is not None


def complaints_of(output, wanted):
    found, dumped, path, gap, late = [], [], None, None, None
    for line in output.splitlines():
        if TIME.fullmatch(line):
            late = TIME.fullmatch(line)[1]
            continue
        if late is not None and line.startswith("  Index timestamp: "):
            # The tool asks the records for their times, and a batch that compaction emptied has its own alone. Kafka indexes that, too.
            match = NO_RECORD.fullmatch(line)
            if match is None or int(match[1]) not in emptied_at(late):
                found.append(f"{late}: {line}")
            continue
        if gap is not None:
            follows = re.fullmatch(r"  (-?\d+) is followed by (\d+)", line)
            if follows:
                first = follows[1] == "-1" and int(follows[2]) == int(pathlib.Path(gap).stem)
                if not first and not compacted(gap):
                    found.append(f"{gap}: {line}")
                continue
            gap = None
        if GAP.fullmatch(line):
            gap = GAP.fullmatch(line)[1]
            continue
        match = next((m for m in (pattern.fullmatch(line) for pattern in SOUND) if m), None)
        if match is None:
            found.append(f"{path}: {line}")
        elif line.startswith("Dumping "):
            path = match["file"]
            dumped.append(path)
    if sorted(dumped) != sorted(wanted):
        found.append(f"not all files were read: {sorted(set(wanted) - set(dumped))}")
    return found


def emptied_at(index):
    """The times of a segment's batches without records."""
    data = pathlib.Path(index).with_suffix(".log").read_bytes()
    return {batch.newest for batch in batches(data) if compacted(index) and not batch.records}


def check(folders):
    """All that is wrong with these folders, and how many files were looked at."""
    commands, wanted = [], []
    for folder in folders:
        logs, indexes = files(folder, ".log", ".txnindex", ".snapshot"), files(folder, ".index", ".timeindex")
        offsets = [path for path in logs if path.endswith(".log") and "__consumer_offsets" in path]
        states = [path for path in logs if path.endswith(".log") and "__transaction_state" in path]
        for arguments, paths in (
            (["--deep-iteration"], logs),
            ([], indexes),
            (["--verify-index-only"], indexes),
            (["--index-sanity-check"], indexes),
            (["--offsets-decoder"], offsets),
            (["--transaction-log-decoder"], states),
        ):
            if paths:
                commands.append(arguments + ["--files", ",".join(paths)])
                wanted.append(paths)
    found = []
    for run, paths in zip(dump(commands), wanted):
        found += complaints_of(run, paths)
    for folder in folders:
        found += closed_time_indexes(folder)
        found += transaction_indexes(folder)
    return found, len(set(sum(wanted, [])))


Batch = collections.namedtuple("Batch", "base last newest transactional control producer records")


def batches(data):
    at = 0
    while at + 61 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        attributes, delta, _, newest, producer = struct.unpack_from(">hiqqq", data, at + 21)
        yield Batch(base, base + delta, newest, attributes & 16, attributes & 32, producer, data[at + 61 : at + 12 + length])
        at += 12 + length


def closed_time_indexes(folder):
    """A closed segment's time index ends with the largest timestamp in it: Kafka looks nowhere else for it."""
    found = []
    for log in files(folder, ".log"):
        partition = pathlib.Path(log).parent
        if log == max(str(path) for path in partition.glob("*.log")) or os.path.getsize(log) == 0:
            continue
        newest = max(batch.newest for batch in batches(pathlib.Path(log).read_bytes()))
        index = pathlib.Path(log).with_suffix(".timeindex")
        entry = index.read_bytes()[-12:] if index.exists() else b""
        if len(entry) != 12 or struct.unpack(">qi", entry)[0] != newest:
            found.append(f"{index} does not end with {newest}")
    return found


def transaction_indexes(folder):
    """The transaction indexes have the aborted transactions of the log, and no more. Kafka's tool prints them as they are."""
    found, partitions = [], {}
    for log in files(folder, ".log"):
        if not compacted(log):
            partitions.setdefault(pathlib.Path(log).parent, []).append(pathlib.Path(log))
    for partition, logs in partitions.items():
        began = {}
        for log in logs:
            aborted = []
            for batch in batches(log.read_bytes()):
                if batch.control:
                    # length, attributes, time, offset and key length are one byte each, then the version and the type.
                    kind = struct.unpack(">h", batch.records[7:9])[0]
                    first = began.pop(batch.producer, None)
                    if kind == 0 and first is not None:
                        stable = min(began.values(), default=batch.last + 1)
                        aborted.append((0, batch.producer, first, batch.last, stable))
                elif batch.transactional:
                    began.setdefault(batch.producer, batch.base)
            index = log.with_suffix(".txnindex")
            data = index.read_bytes() if index.exists() else b""
            entries = [struct.unpack_from(">hqqqq", data, at) for at in range(0, len(data) - 33, 34)]
            if entries != aborted or len(data) % 34:
                found.append(f"{index} has {entries} and not {aborted}")
    return found


def flip(folder, suffix, number, at):
    """Raises one byte of one of the files of that kind."""
    path = pathlib.Path([path for path in files(folder, suffix) if os.path.getsize(path)][number])
    data = bytearray(path.read_bytes())
    data[at] = (data[at] + 1) & 255
    path.write_bytes(data)


def self_check(folder):
    plants = {
        "the offset of an index entry": (".index", 0, 3 * 8 + 3),
        "the position of an index entry": (".index", 1, 3 * 8 + 7),
        "the time of a time index entry": (".timeindex", 0, 3 * 12 + 7),
        "the offset of a time index entry": (".timeindex", 1, 3 * 12 + 11),
        "a byte of a record": (".log", 2, 300),
        "a byte of a producer snapshot": (".snapshot", 0, 20),
        "the version of a transaction index entry": (".txnindex", 0, 1),
    }
    with tempfile.TemporaryDirectory() as scratch:
        copies = {what: pathlib.Path(scratch) / str(number) for number, what in enumerate([None, *plants])}
        for what, copy in copies.items():
            shutil.copytree(folder, copy)
            if what is not None:
                flip(copy, *plants[what])
        found, _ = check(copies.values())
    for what, copy in copies.items():
        told = [line for line in found if f"{copy}/" in line]
        if what is None:
            assert not told, f"the check sees damage where there is none: {told}"
        else:
            assert told, f"{what} was changed, and the check did not see it"
            print(f"seen: {what}: {told[0][-130:]}")


# The whole of each small file, as a pattern and a count of its rows.
CHECKPOINT = re.compile(r"(?:0\n(\d+)\n((?:\S+ \d+ -?\d+\n)*))?")
EPOCHS = re.compile(r"(?:0\n(\d+)\n((?:\d+ \d+\n)*))?")
TOPIC_ID = re.compile(r"version: 0\ntopic_id: [A-Za-z0-9_-]{22}")


def rows(pattern, path):
    text = path.read_text()
    match = pattern.fullmatch(text)
    assert match, f"{path} has another form: {text!r}"
    lines = (match[2] or "").splitlines()
    assert len(lines) == int(match[1] or 0), f"{path} has another number of rows than it says"
    assert len({line.rsplit(" ", 1)[0] for line in lines}) == len(lines), f"{path} has a row twice"
    return {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in lines}


def properties(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def small(kafka, esker):
    kafka, esker = pathlib.Path(kafka), pathlib.Path(esker)
    for folder in (kafka, esker):
        names = {f"{name}-offset-checkpoint" for name in ("recovery-point", "replication", "log-start", "cleaner")}
        found = {path.name for path in folder.iterdir() if path.is_file()}
        assert found - OWN == names | {"meta.properties", ".kafka_cleanshutdown", "bootstrap.checkpoint"} & found | {
            "meta.properties",
            ".kafka_cleanshutdown",
        }, f"{folder} has {sorted(found)}"
        points = {name: rows(CHECKPOINT, folder / name) for name in names}
        partitions = [path for path in folder.iterdir() if path.is_dir() and path.name != "__cluster_metadata-0"]
        keys = {" ".join(path.name.rsplit("-", 1)) for path in partitions}
        # After a clean stop every partition has its row, and nothing else does.
        for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
            assert set(points[name]) == keys, f"{folder}/{name}: {set(points[name]) ^ keys}"
        for name in ("log-start-offset-checkpoint", "cleaner-offset-checkpoint"):
            assert set(points[name]) <= keys, f"{folder}/{name}: {set(points[name]) - keys}"
        for path in partitions:
            assert TOPIC_ID.fullmatch((path / "partition.metadata").read_text()), path
            rows(EPOCHS, path / "leader-epoch-checkpoint")
    ours, theirs = properties(esker / "meta.properties"), properties(kafka / "meta.properties")
    assert ours.keys() == theirs.keys() and ours["version"] == theirs["version"], (ours, theirs)
    assert len(ours["cluster.id"]) == len(ours["directory.id"]) == len(theirs["directory.id"]), ours
    ours, theirs = (json.loads((folder / ".kafka_cleanshutdown").read_text()) for folder in (esker, kafka))
    assert ours.keys() == theirs.keys() and ours["version"] == theirs["version"], (ours, theirs)


def main():
    command, folders = sys.argv[1], sys.argv[2:]
    if command == "check":
        found, count = check(folders)
        if found:
            sys.exit("\n".join(found[:40]))
        print(f"{count} files are sound")
    elif command == "self-check":
        self_check(folders[0])
    elif command == "small":
        small(*folders)
    else:
        sys.exit(__doc__)


main()
