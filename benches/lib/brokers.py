"""The brokers that are measured, alone or as the nodes of a cluster: Apache Kafka with its stock settings, and Esker with two kinds of
durability.

Each listens on a free port of loopback, has its data in a folder of its own, and is ended by its process id. What is reported of a broker
is what the kernel says about its process."""

import contextlib
import dataclasses
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
# The values of Kafka's own server.properties; only ports, paths, replication factors and `min.insync.replicas` differ. It flushes nothing.
PROPERTIES = """process.roles=broker,controller
node.id={node}
controller.quorum.bootstrap.servers={controllers}
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
offsets.topic.replication.factor={replicas}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""
LOG4J = """<Configuration><Appenders><Console name="O"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="O"/></Root></Loggers></Configuration>
"""
START_SECONDS = 120
FORMAT_SECONDS = 120


def wait_until(what, condition, seconds=60, pause=0.01):
    """Waits for a condition and returns what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(pause)
    return found


@contextlib.contextmanager
def uninterrupted():
    """Holds back signals that would end this program: what is done here, it does to the end."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def free_ports(count):
    """Ports that were free a moment ago, all different. They are below those of outgoing connections: a node that tries to reach a node that
    does not listen yet must not be given that node's port, which would connect it to itself."""
    sockets = []
    while len(sockets) < count:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = 10_000 + found.getsockname()[1] % 20_000
        try:
            sockets.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue  # it is in use
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclasses.dataclass
class Place:
    """A node of a cluster, or a broker that is alone: its id, its port, and the port between Kafka's controllers."""

    node: int
    port: int
    controller_port: int

    @property
    def address(self):
        """Where clients and other nodes find it."""
        return f"127.0.0.1:{self.port}"

    @property
    def controller(self):
        """Where the other controllers of Kafka find it."""
        return f"127.0.0.1:{self.controller_port}"

    @property
    def voter(self):
        """The entry of `--initial-controllers`; the id of its folder is chosen here, since the first voters name it."""
        return f"{self.node}@{self.controller}:esker-bench-folder-{self.node}-A"


def free_places(count):
    """Places for the nodes of a cluster, or for one broker."""
    ports = free_ports(2 * count)
    return [Place(node + 1, *ports[2 * node:2 * node + 2]) for node in range(count)]


class Broker:
    """A broker process and its folder: alone, or the node at `place` of a cluster whose nodes are at `places`."""

    def __init__(self, name, folder, tools, place=None, places=()):
        self.name, self.folder, self.tools = name, pathlib.Path(folder).resolve(), tools
        self.data, self.log = self.folder / "data", self.folder / "broker.log"
        self.join = ",".join(one.address for one in places)
        self.process = self.http = self.started = None
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if name == KAFKA and not place:
            places = [place] = free_places(1)
        self.bootstrap = place.address if place else "127.0.0.1:0"
        if name == KAFKA:
            self._format_kafka(place, places)

    def _format_kafka(self, place, places):
        properties = self.folder / "server.properties"
        properties.write_text(PROPERTIES.format(node=place.node, port=place.port, controller=place.controller_port, data=self.data,
                                                controllers=",".join(one.controller for one in places),
                                                replicas=len(places), in_sync=len(places) // 2 + 1) + DELETE_DELAY + "\n")
        (self.folder / "log4j2.xml").write_text(LOG4J)
        command = ["java", "-Xmx256M", "-cp", self.tools.kafka_jars(), "kafka.tools.StorageTool", "format", "--initial-controllers",
                   ",".join(one.voter for one in places), "-t", "esker-bench-clients-0A", "-c", str(properties)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_SECONDS)
        if done.returncode:
            raise RuntimeError(f"Kafka could not format its folder: {done.stdout}{done.stderr}")

    def _command(self):
        if self.name == KAFKA:
            return ["java", *JVM, f"-Dlog4j2.configurationFile={self.folder}/log4j2.xml", "-cp", self.tools.kafka_jars(),
                    "kafka.Kafka", str(self.folder / "server.properties")]
        return [str(self.tools.esker), "serve", "--listen", self.bootstrap, "--http", "127.0.0.1:0", "--data-dir", str(self.data),
                "--set", DELETE_DELAY, *ESKER[self.name], *(["--join", self.join] if self.join else [])]

    def start(self):
        """Starts it, again on the same port if it ran before, and waits until it serves; returns the seconds that took."""
        self.spawn()
        return self.wait_until_ready()

    def spawn(self):
        """Starts the process."""
        # Esker reads variables of that prefix as configs.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ESKER_")}
        # Not a session of its own: the kernel's scheduler takes each session for one group (autogroup), and lets a group wait whose threads used
        # more than its share, however much it prefers one of them. Nodes on machines of their own do not compete so.
        with open(self.log, "wb") as log:
            self.started = time.monotonic()
            self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                            env=environment, process_group=0)

    def wait_until_ready(self):
        """Waits until it says that it serves; returns the seconds since its start."""
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
