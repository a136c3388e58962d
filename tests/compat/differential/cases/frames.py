"""Frames that no client should send, and ApiVersions, which is answered even so."""

import struct

from common import prepare_groups
from messages import Connection

# What Esker does not serve yet: transactions, security, quotas, streams, share and new consumer groups, and moving replicas.
NOT_SERVED = {
    17,
    24,
    25,
    26,
    27,
    28,
    29,
    30,
    31,
    36,
    38,
    39,
    40,
    41,
    48,
    49,
    50,
    51,
    64,
    65,
    66,
    68,
    69,
    71,  # client metrics: Kafka serves them where a plugin receives them
    72,
    76,
    77,
    78,
    79,
    80,
    81,
    83,
    84,
    85,
    86,
    87,
    88,
    89,
    90,
    91,
    92,
    93,
    94,
}


def run(d):
    prepare_groups(d)

    def raw(label, *frames, sized=True):
        """What comes back, as bytes, or how the connection ends."""

        def ask(peer):
            connection = Connection(peer.definitions, peer.address)
            for frame in frames:
                if sized:
                    connection.send_frame(frame)
                else:
                    connection.socket.sendall(frame)
            try:
                return dict(bytes=connection.receive_frame().hex())
            except (EOFError, ConnectionError):
                return "closed"
            except TimeoutError:
                return "no answer"
            finally:
                connection.socket.close()

        d.each(label, ask)

    def head(key, version, client=b"\0\1c"):
        return struct.pack(">hhi", key, version, 7) + client

    raw("unknown API", head(999, 0))
    raw("negative API", head(-1, 0))
    raw("a broker's API", head(4, 0))
    raw("version too new", head(3, 99))
    raw("negative version", head(3, -1))
    raw("no body", head(3, 1))
    raw("no header", b"\0\3")
    raw("empty", b"")
    raw("a count that lies", head(3, 1) + struct.pack(">i", 1_000_000))
    raw("negative count", head(3, 1) + struct.pack(">i", -5))
    raw("text cut off", head(3, 1) + struct.pack(">ih", 1, 50) + b"short")
    raw("text that is not UTF-8", head(12, 0) + struct.pack(">h", 2) + b"\xff\xfe" + struct.pack(">ih", 1, 0))
    raw("client id null", head(12, 0, b"\xff\xff") + struct.pack(">hih", 0, 1, 0))
    raw("bytes behind", head(12, 0) + struct.pack(">hih", 0, 1, 0) + b"more")
    raw("size 0", struct.pack(">i", 0), sized=False)
    raw("negative size", struct.pack(">i", -1), sized=False)
    raw("size beyond the limit", struct.pack(">i", 104857601), sized=False)
    raw("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", sized=False)
    raw("good, then bad", head(12, 0) + struct.pack(">hih", 0, 1, 0), head(999, 0))

    def served(answer):
        """Features have levels of their own kind in each broker; versions that Kafka dropped are served on."""
        answer["ApiKeys"] = [api for api in answer["ApiKeys"] if api["ApiKey"] not in NOT_SERVED]
        for api in answer["ApiKeys"]:
            api["MinVersion"] = api["MinVersion"] if api["ApiKey"] == 18 else "any"
        for field in ("SupportedFeatures", "FinalizedFeatures", "FinalizedFeaturesEpoch", "ZkMigrationReady"):
            answer.pop(field, None)

    for version in range(0, 5):
        body = dict(ClientSoftwareName="differ", ClientSoftwareVersion="1") if version >= 3 else {}
        d.both("served", "ApiVersions", version, body, served)
    for name, version in (("", "1"), ("a b", "1"), ("x", ""), ("-x", "1"), ("x", "1.0-"), ("x" * 300, "1")):
        body = dict(ClientSoftwareName=name, ClientSoftwareVersion=version)
        d.both(f"name {name[:5]!r} {version!r}", "ApiVersions", 3, body, served)
    raw("ApiVersions 99", head(18, 99))
