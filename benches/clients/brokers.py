"""The brokers that are measured: Apache Kafka with its stock settings, and Esker with two kinds of durability.

Each listens on a free port of loopback, has its data in a folder of its own, and is ended by its process id. What is reported of a broker
is what the kernel says about its process."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

KAFKA = "kafka"
# Each peer of Esker and its arguments. `esker` is what ships: an acknowledged record is durable (durability=flush).
ESKER = {"esker": [], "esker-page-cache": ["--set", "log.durability=page-cache"]}
PEERS = [*ESKER, KAFKA]

# Heap and collector as in Kafka's own start script.
JVM = ("-Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 "
       "-XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true").split()
# Both: a deleted topic's pages leave the page cache before the next row.
DELETE_DELAY = "log.segment.delete.delay.ms=500"
# The values of Kafka's own server.properties; only ports, paths and replication factors differ. It flushes nothing.
PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={data}
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""
LOG4J = """<Configuration><Appenders><Console name="O"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="O"/></Root></Loggers></Configuration>
"""
START_SECONDS = 120


def wait_until(what, condition, seconds=60, pause=0.01):
    """Waits for a condition and returns what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(pause)
    return found


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Broker:
    """A broker process and its folder."""

    def __init__(self, name, folder, tools):
        self.name, self.folder, self.tools = name, pathlib.Path(folder).resolve(), tools
        self.data, self.log = self.folder / "data", self.folder / "broker.log"
        self.process = self.bootstrap = self.http = self.started = None
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if name == KAFKA:
            self._format_kafka()
        else:
            self.bootstrap = "127.0.0.1:0"

    def _format_kafka(self):
        port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        properties = self.folder / "server.properties"
        properties.write_text(PROPERTIES.format(port=port, controller=controller, data=self.data) + DELETE_DELAY + "\n")
        (self.folder / "log4j2.xml").write_text(LOG4J)
        command = ["java", "-Xmx256M", "-cp", self.tools.kafka_jars(), "kafka.tools.StorageTool", "format", "--standalone",
                   "-t", "esker-bench-clients-0A", "-c", str(properties)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"Kafka could not format its folder: {done.stdout}{done.stderr}")

    def _command(self):
        if self.name == KAFKA:
            return ["java", *JVM, f"-Dlog4j2.configurationFile={self.folder}/log4j2.xml", "-cp", self.tools.kafka_jars(),
                    "kafka.Kafka", str(self.folder / "server.properties")]
        return [str(self.tools.esker), "serve", "--listen", self.bootstrap, "--http", "127.0.0.1:0", "--data-dir", str(self.data),
                "--set", DELETE_DELAY, *ESKER[self.name]]

    def start(self):
        """Starts it, again on the same port if it ran before, and waits until it says that it serves; returns the seconds that took."""
        # Esker reads variables of that prefix as configs.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ESKER_")}
        with open(self.log, "wb") as log:
            self.started = time.monotonic()
            self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                            env=environment, start_new_session=True)
        ready = wait_until(f"{self.name} serves", self._ready_line, START_SECONDS, 0.001)
        took = time.monotonic() - self.started
        if self.name != KAFKA:
            words = dict(word.split("=", 1) for word in ready.split() if "=" in word)
            self.bootstrap, self.http = words["kafka"], words["http"]
        return took

    def _ready_line(self):
        text = self.log.read_text(errors="replace")
        mark = "Kafka Server started" if self.name == KAFKA else "esker ready "
        # A line counts when it is whole.
        found = next((line for line in text.splitlines(True) if mark in line and line.endswith("\n")), None)
        if not found and self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended at its start: {text[-2000:]}")
        return found

    def cpu_seconds(self):
        """CPU time of the process so far: utime and stime, the 14th and 15th field of its stat."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name):
        """The sum over all labels of a metric of Esker."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name]
        if not found:
            raise RuntimeError(f"no metric {name}")
        return sum(found)

    def wait_until_deleted(self, topic):
        """Waits until no folder of a deleted topic is left."""
        wait_until(f"{self.name} deletes {topic}", lambda: not any(self.data.glob(f"{topic}-*")))

    def end(self, how=signal.SIGTERM):
        """Ends the process and waits for it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def remove(self):
        """Ends it, whatever it is doing, and deletes its folder."""
        self.end(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
