"""Runs the commands of one tool in chores.tsv (`run TOOL JARS LOGGING`), or prints the page about all of them (`page JARS`).

A command works when its exit code says so, its output matches `shows`, and the shell command `proof`, which failed before, succeeds after it.
What a tool cannot do (`-`) is done by esker, so that the later chores have something to work on.
"""

import csv
import datetime
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

TOOLS = {"esker": "esker", "kcat": "kcat", "kcl": "kcl", "kafka": "Kafka's tools"}
T = "org.apache.kafka.tools"
SCRIPTS = {
    "kafka-topics.sh": f"{T}.TopicCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups.sh": f"{T}.consumer.group.ConsumerGroupCommand",
    "kafka-get-offsets.sh": f"{T}.GetOffsetShell",
    "kafka-console-producer.sh": f"{T}.ConsoleProducer",
    "kafka-console-consumer.sh": f"{T}.consumer.ConsoleConsumer",
    "kafka-delete-records.sh": f"{T}.DeleteRecordsCommand",
    "kafka-metadata-quorum.sh": f"{T}.MetadataQuorumCommand",
    "kafka-transactions.sh": f"{T}.TransactionsCommand",
    "kafka-reassign-partitions.sh": f"{T}.reassign.ReassignPartitionsCommand",
}
# Exit codes beside 0 of a command that did its work, by how it begins: 3 is the documented "warnings only"; timeout(1) reports that it ended a
# command that does not end by itself.
ALSO_DONE = {"esker doctor": 3, "timeout ": 124}
COMMAND_SECONDS = 120
PROOF_SECONDS = 30


def chores():
    """The rows of chores.tsv."""
    table = pathlib.Path(__file__).with_name("chores.tsv")
    return list(csv.DictReader(table.open(newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))


def make_environment(folder, jars, logging, bootstrap):
    """The tools under the names that people type, with the cluster's address."""
    binaries = folder / "bin"
    binaries.mkdir()
    for name, main in SCRIPTS.items():
        java = f"java -Xmx256m -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile={logging} -cp '{jars}/*' {main}"
        (binaries / name).write_text(f'#!/bin/sh\nexec {java} --bootstrap-server {bootstrap} "$@"\n')
        (binaries / name).chmod(0o755)
    (binaries / "esker").symlink_to(os.path.abspath(os.environ["ESKER_BIN"]))
    (folder / "kcat.conf").write_text(f"bootstrap.servers={bootstrap}\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ESKER_", "KAFKA_"))}
    return clean | {"PATH": f"{binaries}:{clean['PATH']}", "ESKER_BOOTSTRAP": bootstrap, "KCAT_CONFIG": str(folder / "kcat.conf"),
                    "KCL_SEED_BROKERS": bootstrap, "KCL_NO_CONFIG_FILE": "1", "HOME": str(folder)}


class Shell:
    """A shell in which the tools are found."""

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment

    def run(self, command):
        """The exit code of a command (None: it did not end) and what it printed."""
        try:
            done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stdout

    def proves(self, proof, seconds):
        """Whether a proof succeeds within some seconds: some changes are asynchronous."""
        deadline = time.monotonic() + seconds
        while self.run(proof)[0] != 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)
        return True

    def failure(self, row, command):
        """What is wrong with a command; None where it does its work."""
        if row["proof"] and self.proves(row["proof"], 0):
            return f"the proof of '{row['chore']}' succeeds before the command, so it shows nothing: {row['proof']}"
        code, output = self.run(command)
        accepted = {0} | {also for start, also in ALSO_DONE.items() if command.startswith(start)}
        if code not in accepted:
            wrong = "it does not end" if code is None else f"exit code {code}"
        elif not re.search(row["shows"], output):
            wrong = f"the output does not match {row['shows']}"
        elif row["proof"] and not self.proves(row["proof"], PROOF_SECONDS):
            wrong = f"it is not done by: {row['proof']}"
        else:
            return None
        return f"{command}\n  {wrong}\n{output[-800:]}"


def run(tool, jars, logging):
    """Runs what a tool can do; ends with what did not work."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        shell = Shell(folder, make_environment(folder, jars, logging, os.environ["BOOTSTRAP"]))
        for row in chores():
            able = row[tool] != "-"
            if able or row["proof"]:
                began = time.monotonic()
                failure = shell.failure(row, row[tool] if able else row["esker"])
                print(f"{tool if able else 'esker for ' + tool}: {row['chore']}: {'FAILED' if failure else 'works'}, {time.monotonic() - began:.1f} s", flush=True)
                failures += [failure] if failure else []
    if failures:
        sys.exit("\n".join(failures))


def version(tool, jars):
    """The version of a tool."""
    if tool == "kafka":
        return next(pathlib.Path(jars).glob("kafka-tools-*.jar")).stem.removeprefix("kafka-tools-")
    command = {"esker": [os.environ["ESKER_BIN"], "--version"], "kcat": ["kcat", "-V"], "kcl": ["kcl", "--version"]}[tool]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(r"\d+\.\d+\.\d+", printed)[0]


def page(jars):
    """Prints the page about all tools."""
    rows = chores()
    print(pathlib.Path(__file__).with_name("head.md").read_text().replace("DATE", str(datetime.date.today())), end="")
    print("| tool | version | chores it does | characters typed for them | esker's for the same chores |\n|---|---|---|---|---|")
    for tool, name in TOOLS.items():
        able = [row for row in rows if row[tool] != "-"]
        typed, ours = (sum(len(row[column]) for row in able) for column in (tool, "esker"))
        print(f"| {name} | {version(tool, jars)} | {len(able)} of {len(rows)} | {typed:,} | {ours:,} |")
    print("\n| chore | " + " | ".join(TOOLS.values()) + " |\n|" + "---|" * (len(TOOLS) + 1))
    for row in rows:
        cells = ("-" if row[tool] == "-" else "`" + row[tool].replace("|", "\\|") + "`" for tool in TOOLS)
        print(f"| {row['chore']} | " + " | ".join(cells) + " |")
    def unnamed(row, tool):
        return len(row[tool].replace(tool, ""))

    shorter = [f"{row['chore']} ({tool}, by {unnamed(row, 'esker') - unnamed(row, tool)})"
               for row in rows for tool in ("kcat", "kcl") if row[tool] != "-" and unnamed(row, tool) < unnamed(row, "esker")]
    print("\nWhere another tool needs fewer characters, its name not counted: " + ("; ".join(shorter) or "nowhere") + ".")


def main():
    """Does what the arguments say."""
    {"run": run, "page": page}[sys.argv[1]](*sys.argv[2:])


main()
