"""Runs the chart's restart-nodes.sh against three real nodes under load, with a stand-in for kubectl: rolling_restart.py ESKER SCRIPT STATE

Each node is restarted once, only after the cluster said that it may be stopped, and nothing acknowledged is lost. With a node down the
script restarts nothing.
"""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from free_addresses import free_addresses

ESKER, SCRIPT, STATE = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
PODS = STATE / "pods"
HERE = pathlib.Path(__file__).parent
NAMES = [f"esker-{i}" for i in range(3)]
for variable in [name for name in os.environ if name.startswith("ESKER_")]:
    del os.environ[variable]
os.environ |= {"PODS": str(PODS), "KAFKA_PORT": "9092", "PAUSE": "0.3", "PATH": f"{HERE}:{os.environ['PATH']}"}
PODS.mkdir()
loader = importlib.machinery.SourceFileLoader("kubectl", str(HERE / "kubectl"))
kubectl = importlib.util.module_from_spec(importlib.util.spec_from_loader("kubectl", loader))


def wait_until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def describe_pods():
    addresses = free_addresses(6)
    join = ",".join(addresses[:3])
    for i, name in enumerate(NAMES):
        kafka, http = addresses[i], addresses[i + 3]
        options = {"--data-dir": str(STATE / name), "--listen": kafka, "--http": http, "--join": join, "--node-id": str(i)}
        # So that a node that stands still for a moment stays ready: one that is not ready is restarted without a question.
        options["--set"] = "broker.session.timeout.ms=30000"
        pod = {"revision": "old", "kafka": kafka, "http": http, "command": [ESKER, "serve", *(word for pair in options.items() for word in pair)]}
        (PODS / f"{name}.json").write_text(json.dumps(pod))
    return join


def run_esker(*arguments):
    return subprocess.run([ESKER, *arguments], capture_output=True, text=True, timeout=60, check=False)


def is_unsafe(bootstrap, node_id):
    """Whether the cluster says so: a command that gets no answer fails with the same code, but prints nothing."""
    done = run_esker("cluster", "safe-to-stop", "-b", bootstrap, str(node_id))
    return done.returncode == 1 and done.stdout != ""


def restart_nodes(seconds):
    done = subprocess.run(["sh", SCRIPT, "prod", "esker", str(seconds)], timeout=300, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="", end="")
    events = (PODS / "events").read_text().splitlines() if (PODS / "events").exists() else []
    (PODS / "events").unlink(missing_ok=True)
    return done.returncode, events


class Load:
    """Records to a topic, from the start until `finish`."""

    def __init__(self, bootstrap):
        command = [ESKER, "produce", "-b", bootstrap, "orders"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.ending = threading.Event()
        self.count = 0
        self.thread = threading.Thread(target=self.feed)
        self.thread.start()

    def feed(self):
        while not self.ending.wait(0.02):
            self.count += 1
            self.process.stdin.write(f"order {self.count}\n")
            self.process.stdin.flush()

    def finish(self):
        self.ending.set()
        self.thread.join()
        self.process.stdin.close()
        code = self.process.wait(60)
        assert code == 0, f"the producer failed with {code}"
        return self.count


def main():
    bootstrap = describe_pods()
    for name in NAMES:
        kubectl.start(name)
    try:
        wait_until("ready nodes", lambda: all(map(kubectl.is_ready, NAMES)))
        create = ("topic", "create", "orders", "-b", bootstrap, "--partitions", "6", "--replication-factor", "3", "--config", "min.insync.replicas=2")
        wait_until("a topic", lambda: run_esker(*create).returncode == 0 or run_esker("topic", "describe", "orders", "-b", bootstrap).returncode == 0)

        kubectl.stop("esker-1", signal.SIGKILL)
        wait_until("an unsafe stop", lambda: is_unsafe(bootstrap, 2))
        code, events = restart_nodes(5)
        assert code == 1 and "unsafe esker-2" in events and not any(event.startswith("delete") for event in events), (code, events)
        kubectl.start("esker-1")
        wait_until("a ready node", lambda: kubectl.is_ready("esker-1"))

        load = Load(bootstrap)
        # The script counts looks, which PAUSE makes short: enough of them for a slow node.
        code, events = restart_nodes(1000)
        written = load.finish()
        steps = [event for event in events if not event.startswith("unsafe")]
        assert code == 0 and steps == [f"{step} esker-{i}" for i in (2, 1, 0) for step in ("safe", "delete")], (code, events)
        read = run_esker("consume", "orders", "-b", bootstrap, "-o", "start", "-e")
        found = set(read.stdout.splitlines())
        lost = {f"order {i}" for i in range(1, written + 1)} - found
        assert not lost, f"{len(lost)} of {written} records are lost: {sorted(lost)[:5]} {read.stderr}"
        print(f"{written} records written meanwhile, all are there")
    except BaseException:
        for name in NAMES:
            print(f"-- {name}", *(PODS / f"{name}.log").read_text().splitlines()[-5:], sep="\n")
        raise
    finally:
        for name in NAMES:
            kubectl.stop(name, signal.SIGKILL)


if __name__ == "__main__":
    loader.exec_module(kubectl)
    main()
