"""Compacts with ours what Kafka's cleaner was given, and compares.

Wilful differences, and nothing else:
1. A bare header (a batch without records) that no producer needs: Kafka keeps the one that ends what was cleaned, we keep the last batch
   of every new segment, whoever wrote it. A crash in the middle of a swap is then finished from the new file alone, and fetches never meet a hole at the
   end of a segment. It costs 61 bytes a segment.
2. The delete horizon is the clock's at the time of the pass plus delete.retention.ms: it is there or not on both sides, and the two lie
   within the minutes that the test takes.
"""

import subprocess
import sys
import time
from pathlib import Path

MINUTES = 10 * 60_000
RETENTION = {"plain": 86400000, "idempotent": 86400000, "transactions": 86400000, "expired": 1}


def dump(tool, folder):
    """Batches of a partition's folder: (header fields, records), and the segments' names."""
    lines = subprocess.run([tool, "dump", str(folder)], check=True, capture_output=True, text=True).stdout.splitlines()
    segments, batches = [], []
    # What ends a segment is known when the next one begins.
    for line in lines:
        kind, rest = line.split(" ", 1)
        if kind == "segment":
            if batches:
                batches[-1]["ends"] = True
            segments.append(int(rest))
        elif kind == "batch":
            words = rest.split()
            at = words.index("horizon")
            horizon = int(words[at + 1])
            words[at + 1] = "set" if horizon >= 0 else "none"
            batches.append({"header": " ".join(words), "base": int(words[0]), "producer": int(words[5]), "horizon": horizon,
                            "ends": False, "records": []})
        else:
            batches[-1]["records"].append(rest)
    batches[-1]["ends"] = True
    return segments, batches


def by_base(batches, other):
    """Without bare headers that end a segment and that the other side has not: difference 1."""
    known = {b["base"] for b in other}
    return {b["base"]: b for b in batches if b["records"] or not b["ends"] or b["base"] in known}


def main():
    tool, out = sys.argv[1], Path(sys.argv[2])
    failed, facts = 0, []
    for before in sorted(out.glob("before-*")):
        number = before.name.split("-")[1]
        after = out / f"after-{number}"
        for topic, retention in RETENTION.items():
            folder = f"{topic}-0"
            given = dump(tool, before / topic / folder)[1]
            theirs_segments, theirs = dump(tool, after / topic / folder)
            now = int(time.time() * 1000)
            subprocess.run([tool, "clean", str(before / topic), "1048576", str(retention), str(now)], check=True, capture_output=True)
            ours_segments, ours = dump(tool, before / topic / folder)
            what = f"pass {number}, {topic}"
            problems = []
            if ours_segments != theirs_segments:
                problems.append(f"segments: Kafka {theirs_segments}, ours {ours_segments}")
            a, b = by_base(theirs, ours), by_base(ours, theirs)
            for base in sorted(a.keys() | b.keys()):
                x, y = a.get(base), b.get(base)
                if x is None or y is None:
                    problems.append(f"only {'ours' if x is None else 'Kafka'}: {(x or y)['header']} {(x or y)['records'][:2]}")
                elif (x["header"], x["records"]) != (y["header"], y["records"]):
                    problems.append(f"Kafka {x['header']} {x['records'][:2]}\n    ours  {y['header']} {y['records'][:2]}")
                elif x["horizon"] >= 0 and abs(x["horizon"] - y["horizon"]) > MINUTES:
                    problems.append(f"horizons of {base}: Kafka {x['horizon']}, ours {y['horizon']}")
            records = lambda batches: sum(len(b["records"]) for b in batches)
            facts.append((records(given), records(ours)))
            markers = sum(" control true" in b["header"] for b in ours)
            empty = sum(not b["records"] for b in ours)
            horizons = sum(b["horizon"] >= 0 for b in ours)
            print(f"{what}: {len(given)} batches, {records(given)} records -> {len(ours)} batches, {records(ours)} records, "
                  f"{markers} control, {empty} empty, {horizons} with a horizon; {len(problems)} differences")
            for problem in problems[:10]:
                print(f"  {problem}")
            failed += len(problems)
    if len(facts) != 16 or not all(given > left > 0 for given, left in facts):
        sys.exit(f"nothing was compacted: {facts}")
    sys.exit(1 if failed else 0)


main()
