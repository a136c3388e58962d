"""Free addresses for the brokers of a test. lib/broker.sh puts this folder on Python's path.

Each process has a host of loopback of its own: nobody else is given the port of a broker that is down.
"""

import os
import socket


def free_addresses(count):
    """As many addresses as are free at the moment, all different."""
    host = f"127.{os.getpid() >> 8 & 127}.{os.getpid() & 255}.1"
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    addresses = ["%s:%d" % opened.getsockname() for opened in sockets]
    for opened in sockets:
        opened.close()
    return addresses
