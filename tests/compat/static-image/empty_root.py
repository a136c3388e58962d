#!/usr/bin/env python3
"""Starts the static binary in a root folder with nothing else: empty_root.py BINARY.

First the binary is all that there is. Then, as in a container, /etc names a DNS server, and a node and a client find each other by name: glibc
resolves names in a static binary by code that it loads in a dynamic one. Needs root, and the network namespace must be its own."""

import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

NAME = "esker-0.esker.test"
PROGRAM_INTERPRETER = 3
START_SECONDS = 30


def read_program_headers(binary):
    """The types of the program headers of a 64-bit ELF file."""
    data = binary.read_bytes()[: 1 << 16]
    assert data[:5] == b"\x7fELF\x02", "not a 64-bit ELF file"
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return [struct.unpack_from("<I", data, offset + size * n)[0] for n in range(count)]


def answer_queries(asked):
    """A DNS server on 127.0.0.1:53 that knows one name."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def run():
        while True:
            query, sender = server.recvfrom(1500)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, (kind,) = ".".join(labels), struct.unpack_from(">H", query, at + 1)
            question = query[12 : at + 5]
            asked.append(name)
            known = name == NAME
            answers = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1]) if known and kind == 1 else b""
            flags = 0x8180 if known else 0x8183
            server.sendto(query[:2] + struct.pack(">HHHHH", flags, 1, bool(answers), 0, 0) + question + answers, sender)

    threading.Thread(target=run, daemon=True).start()


class Root:
    """A folder that processes take for /."""

    def __init__(self, binary):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="esker-root-"))
        shutil.copy(binary, self.path / "esker")

    def command(self, *arguments):
        def enter():
            os.chroot(self.path)
            os.chdir("/")

        return {"args": ["/esker", *arguments], "preexec_fn": enter, "env": {}, "text": True}

    def serve(self, *arguments):
        """Starts the broker; its process and the seconds to its ready line."""
        began = time.monotonic()
        process = subprocess.Popen(**self.command("serve", "--data-dir", "/data", *arguments), stdout=subprocess.PIPE)
        timer = threading.Timer(START_SECONDS, process.kill)
        timer.start()
        line = process.stdout.readline()
        seconds = time.monotonic() - began
        timer.cancel()
        assert line.startswith("esker ready "), f"no ready line: {line!r}"
        return process, seconds

    def run(self, *arguments, stdin=""):
        return subprocess.run(**self.command(*arguments), input=stdin, capture_output=True, timeout=60, check=False)

    def check_broker(self, bootstrap):
        """Produces and consumes with the client in the same binary."""
        for arguments, stdin, expected in [
            (["topic", "create", "t", "-b", bootstrap], "", None),
            (["produce", "t", "-b", bootstrap], "one\ntwo\n", None),
            (["consume", "t", "-e", "-f", "%s\n", "-b", bootstrap], "", "one\ntwo\n"),
        ]:
            ended = self.run(*arguments, stdin=stdin)
            assert ended.returncode == 0, f"{arguments}: {ended.stderr}"
            assert expected in (None, ended.stdout), f"{arguments}: {ended.stdout!r}"

    def stop(self, process):
        process.terminate()
        assert process.wait(START_SECONDS) == 0
        process.stdout.close()


def main():
    binary = pathlib.Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    assert PROGRAM_INTERPRETER not in read_program_headers(binary), "the binary asks for a dynamic linker"
    print(f"static, {binary.stat().st_size / 1e6:.1f} MB")
    root = Root(binary)
    try:
        process, seconds = root.serve()
        memory = next(line for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmRSS" in line)
        print(f"in a root folder with nothing else: ready after {seconds * 1000:.0f} ms, {memory.split()[1]} kB resident")
        root.check_broker("127.0.0.1:9092")
        root.stop(process)
        starts = []
        for _ in range(10):
            process, seconds = root.serve()
            starts.append(seconds)
            root.stop(process)
        print(f"ten more starts: {min(starts) * 1000:.0f} to {max(starts) * 1000:.0f} ms")

        asked = []
        answer_queries(asked)
        (root.path / "etc").mkdir()
        (root.path / "etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:3\n")
        shutil.rmtree(root.path / "data")
        process, _ = root.serve("--listen", f"{NAME}:9092")
        root.check_broker(f"{NAME}:9092")
        root.stop(process)
        assert NAME in asked, asked
        unknown = root.run("topic", "list", "-b", "nowhere.esker.test:9092")
        assert unknown.returncode == 1 and "nowhere.esker.test" in unknown.stderr, unknown
        print(f"names come from the DNS server of /etc/resolv.conf: {len(asked)} queries")

        (root.path / "etc/resolv.conf").unlink()
        (root.path / "etc/hosts").write_text("127.0.0.1 localhost from-hosts\n")
        shutil.rmtree(root.path / "data")
        process, _ = root.serve("--listen", "from-hosts:9092")
        root.check_broker("from-hosts:9092")
        root.stop(process)
        print("and from /etc/hosts")
    finally:
        shutil.rmtree(root.path)


main()
