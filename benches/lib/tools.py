"""What a run needs besides the brokers: librdkafka and the program that uses it, and the jars of Kafka's broker and tools.

All of it is kept in the user's cache folder, which the head-to-head uses, too."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
ATTEMPTS = 3
# How long a load program may run.
PROGRAM_SECONDS = 1800
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
PERFORMANCE = "org.apache.kafka.tools.ProducerPerformance"
# "N records sent, N records/sec (N MB/sec), N ms avg latency, N ms max latency, N ms 50th, N ms 95th, N ms 99th, N ms 99.9th."
SUMMARY = re.compile(r"(\d+) records sent, ([\d.]+) records/sec.* ([\d.]+) ms 50th, .* ([\d.]+) ms 99th, ([\d.]+) ms 99\.9th")


def attempt(command):
    """Runs a command that needs the network, up to ATTEMPTS times."""
    for number in range(1, ATTEMPTS + 1):
        print(f"{command[0]} (attempt {number})", file=sys.stderr)
        if subprocess.run(command, stdout=sys.stderr).returncode == 0:
            return
    raise RuntimeError(f"failed {ATTEMPTS} times: {' '.join(map(str, command))}")


def require(program, purpose):
    """Fails where a program is not installed."""
    if not shutil.which(program):
        raise RuntimeError(f"{program} is not installed: {purpose}")


def jars(name, pom):
    """The class path of a pom's jars, which Maven resolves into the cache once."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "esker" / name
    if not (cache / ".whole").is_file():
        require("mvn", "it fetches Kafka")
        attempt(["mvn", "-B", "-q", "-f", pom, COPY, f"-DoutputDirectory={cache}"])
        (cache / ".whole").touch()
    return f"{cache}/*"


def install_librdkafka():
    """Makes sure that the headers of librdkafka are there, with apt-get where that may be."""
    check = ["cc", "-include", "librdkafka/rdkafka.h", "-fsyntax-only", "-xc", "/dev/null"]
    if subprocess.run(check, capture_output=True).returncode == 0:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise RuntimeError("librdkafka's headers are not installed: apt-get install librdkafka-dev")
    attempt(["apt-get", "install", "-y", "-q", "librdkafka-dev"])


class Tools:
    """The programs of one run."""

    def __init__(self, esker, folder):
        self.esker, self.client = pathlib.Path(esker).resolve(), folder / "client"
        if not self.esker.is_file():
            raise RuntimeError(f"{self.esker} is not there: `cargo build --release` makes it, or name one with --esker")
        require("java", "Apache Kafka needs it")
        require("cc", "it builds client.c")
        install_librdkafka()
        subprocess.run(["cc", "-O2", "-Wall", "-o", self.client, HERE / "client.c", "-lrdkafka", "-lpthread"], check=True)

    def kafka_jars(self):
        """The class path of the broker, the head-to-head's."""
        return jars("kafka-4.4.0", PROJECT / "benches/kafka/pom.xml")

    def tool_jars(self):
        """The class path of Kafka's command line tools."""
        pom = PROJECT / "tests/clients/kafka-tools/pom.xml"
        return jars(f"kafka-tools-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}", pom)

    def run_client(self, broker, command, topic, partitions, *arguments):
        """Runs client.c; returns what it reports, and the CPU seconds of the broker since its line "begin"."""
        return self.run_program(broker, [self.client, command, broker.bootstrap, topic, partitions, *arguments])

    def run_program(self, broker, line):
        """Runs a load program on a broker or a cluster; returns what it reports, and their CPU seconds since its line "begin"."""
        line = list(map(str, line))
        before, report = broker.cpu_seconds(), {}
        with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
            timer = threading.Timer(PROGRAM_SECONDS, client.kill)
            timer.start()
            try:
                for answer in client.stdout:
                    if answer.strip() == "begin":
                        before = broker.cpu_seconds()
                    else:
                        report = json.loads(answer) | {"cpu": broker.cpu_seconds() - before}
            except BaseException:
                client.kill()
                raise
            finally:
                timer.cancel()
        if client.returncode:
            raise RuntimeError(f"the client failed with status {client.returncode} on {broker.name}: {' '.join(line)}")
        return report

    def run_performance(self, broker, topic, records, size):
        """Runs kafka-producer-perf-test with its defaults; returns its rate and latencies, and the CPU seconds of the broker."""
        logging = PROJECT / "tests/clients/kafka-tools/log4j2.xml"
        line = ["java", "-Xmx512M", f"-Dlog4j2.configurationFile={logging}", "-cp", self.tool_jars(), PERFORMANCE, "--topic", topic,
                "--num-records", str(records), "--record-size", str(size), "--throughput", "-1", "--bootstrap-server", broker.bootstrap]
        before = broker.cpu_seconds()
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROGRAM_SECONDS)
        cpu = broker.cpu_seconds() - before
        found = SUMMARY.findall(done.stdout)
        if done.returncode or not found or int(found[-1][0]) != records:
            raise RuntimeError(f"{PERFORMANCE} failed on {broker.name}: {done.stdout}{done.stderr}")
        _, rate, *latencies = map(float, found[-1])
        return {"rate": rate, "cpu": cpu} | dict(zip(("p50", "p99", "p99.9"), latencies))
