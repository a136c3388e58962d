"""A cluster of three nodes that rows of load take for one broker: CPU time is the sum over its processes."""

import shutil

from brokers import KAFKA, Broker, free_places, wait_until
from session import remove_all

NODES = 3
# How its topics are created; producers wait for all replicas in sync.
TOPIC = [NODES, "min.insync.replicas=2"]


class Cluster:
    """The nodes of one peer, each with a folder of its own."""

    def __init__(self, name, folder, tools):
        self.name, self.folder, self.tools, self.nodes = name, folder, tools, []
        places = free_places(NODES)
        self.bootstrap = ",".join(place.address for place in places)
        for place in places:
            self.nodes.append(Broker(name, folder / f"node-{place.node}", tools, place, places))

    def start(self):
        """Starts all nodes, and waits until they serve, are brokers of one cluster, and vote."""
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait_until_ready()
        self.tools.run_client(self, "brokers", "-", NODES)
        if self.name != KAFKA:
            # Kafka's are voters from the beginning.
            wait_until("three voters", lambda: all(node.metric("esker_raft_voters") == NODES for node in self.nodes))

    def cpu_seconds(self):
        """CPU time so far of all processes that run."""
        return sum(node.cpu_seconds() for node in self.nodes if node.process)

    def wait_until_deleted(self, topic):
        """Waits until no node has a folder of a deleted topic."""
        for node in self.nodes:
            node.wait_until_deleted(topic)

    def remove(self):
        """Ends all nodes, whatever they are doing, and deletes their folders."""
        remove_all(self.nodes)
        shutil.rmtree(self.folder, ignore_errors=True)
