"""Runs each command of chores.tsv, and prints the table."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

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
SECONDS = 60


def shims(folder, jars, logging, bootstrap):
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


def work(command, tool, shows, folder, environment):
    """Whether a command does its work; what it printed where it does not."""
    command = re.sub(r"\b(orders|app|since)\b", rf"\1-{tool}", command)
    try:
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"{tool}: {command}: no end"
    # The console consumer ends by its time-out, which is a failure for it.
    sound = done.returncode == 0 or "--timeout-ms" in command or ("--timeout" in command and tool == "kcl")
    if sound and re.search(shows, done.stdout + done.stderr):
        return None
    return f"{tool}: {command}: exit code {done.returncode}\n{done.stdout[-800:]}{done.stderr[-800:]}"


def main():
    """Runs all, and prints the table; fails with what did not work."""
    table, jars, logging = sys.argv[1:]
    lines = pathlib.Path(table).read_text().splitlines()
    columns = lines[0].split("\t")
    rows = [dict(zip(columns, line.split("\t"))) for line in lines[1:]]
    failures, typed = [], {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        environment = shims(folder, jars, logging, os.environ["BOOTSTRAP"])
        for tool in TOOLS:
            if tool in ("kcat", "kcl") and not shutil.which(tool) or tool in os.environ.get("SKIP", "").split():
                continue
            commands = [(row["chore"], row["shows"], row[tool]) for row in rows if row[tool] != "-"]
            # What a tool cannot do is done for it.
            for row in rows:
                command = row[tool]
                if command == "-" and row["chore"].startswith(("create", "delete the topic")):
                    work(row["esker"], tool, "", folder, environment)
                elif command != "-":
                    failures += filter(None, [work(command, tool, row["shows"], folder, environment)])
            typed[tool] = (len(commands), sum(len(command) for _, _, command in commands))
    print("| chore | " + " | ".join(TOOLS.values()) + " |\n|" + "---|" * (len(TOOLS) + 1))
    for row in rows:
        cells = ("-" if row[tool] == "-" else f"`{row[tool]}`".replace("|", "\\|") for tool in TOOLS)
        print(f"| {row['chore']} | " + " | ".join(cells) + " |")
    print("| **chores done, characters typed** | " + " | ".join("{}, {}".format(*typed[tool]) if tool in typed else "" for tool in TOOLS) + " |")
    if failures:
        sys.exit("\n".join(failures))


main()
