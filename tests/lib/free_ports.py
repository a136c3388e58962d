"""Free ports for the brokers of a test. lib/broker.sh puts this folder on Python's path."""

import socket


def free_ports(count):
    """As many ports of loopback as are free at the moment, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
