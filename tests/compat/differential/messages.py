"""Messages as dicts, written and read by the definitions inside the kafka-clients jar.

Esker's own codec plays no part here, so that a mistake in it shows. Fields have Kafka's names; those left out hold their default.
"""

import json
import re
import socket
import struct
import zipfile

NUMBERS = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
}
NO_ID = "00" * 16


def in_range(text, version):
    if text is None or text == "none":
        return False
    if text.endswith("+"):
        return version >= int(text[:-1])
    first, _, last = text.partition("-")
    return int(first) <= version <= int(last or first)


class Definitions:
    """Requests and responses by name (`Produce`)."""

    def __init__(self, jar):
        self.requests, self.responses = {}, {}
        with zipfile.ZipFile(jar) as files:
            for name in files.namelist():
                if name.startswith("common/message/") and name.endswith(".json"):
                    # Comments are not JSON; a "//" within a string is not a comment.
                    text = re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda m: m[1] or "", files.read(name).decode())
                    message = json.loads(text)
                    kind = {"request": self.requests, "response": self.responses}.get(message["type"])
                    if kind is not None and message["validVersions"] != "none":
                        kind[message["name"].removesuffix(message["type"].capitalize())] = message


def uvarint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def default_of(field):
    kind, default = field["type"], field.get("default")
    if default == "null":
        return None
    if kind == "bool":
        return str(default).lower() == "true"
    if kind == "float64":
        return float(default or 0)
    if kind in NUMBERS:
        return int(str(default or 0), 0)
    if kind == "uuid":
        return NO_ID
    if kind.startswith("[]"):
        return []
    return {"string": default or "", "bytes": b"", "records": b""}.get(kind, {})


class Codec:
    """One message in one version."""

    def __init__(self, message, version):
        self.fields = message["fields"]
        self.version = version
        self.flexible = in_range(message["flexibleVersions"], version)
        self.shared = {struct["name"]: struct["fields"] for struct in message.get("commonStructs", [])}

    def inner(self, field, kind):
        return field.get("fields") or self.shared[kind]

    def tagged(self, field):
        return self.flexible and in_range(field.get("taggedVersions"), self.version)

    def length(self, number, width):
        if self.flexible:
            return uvarint(number + 1)
        return struct.pack(width, number)

    def write(self, body):
        return self.write_struct(self.fields, body)

    def write_struct(self, fields, values):
        unknown = set(values) - {field["name"] for field in fields}
        assert not unknown, f"no such fields: {unknown}"
        out, tags = b"", []
        for field in fields:
            value = values.get(field["name"], default_of(field))
            if self.tagged(field):
                if value != default_of(field):
                    tags.append((field["tag"], self.write_value(field, field["type"], value)))
            elif in_range(field["versions"], self.version):
                out += self.write_value(field, field["type"], value)
        if self.flexible:
            out += uvarint(len(tags))
            for tag, data in sorted(tags):
                out += uvarint(tag) + uvarint(len(data)) + data
        return out

    def write_value(self, field, kind, value, nullable=True):
        if kind in NUMBERS:
            return struct.pack(">" + NUMBERS[kind], value)
        if kind == "uuid":
            return bytes.fromhex(value)
        if kind in ("string", "bytes", "records"):
            width = ">h" if kind == "string" else ">i"
            if value is None:
                return self.length(-1, width)
            data = value.encode() if isinstance(value, str) else value
            return self.length(len(data), width) + data
        if kind.startswith("[]"):
            if value is None:
                return self.length(-1, ">i")
            return self.length(len(value), ">i") + b"".join(self.write_value(field, kind[2:], v, False) for v in value)
        if nullable and in_range(field.get("nullableVersions"), self.version):
            if value is None:
                return b"\xff"
            return b"\x01" + self.write_struct(self.inner(field, kind), value)
        return self.write_struct(self.inner(field, kind), value)

    def read(self, reader):
        return self.read_struct(reader, self.fields)

    def read_struct(self, reader, fields):
        out = {}
        for field in fields:
            if in_range(field["versions"], self.version) and not self.tagged(field):
                out[field["name"]] = self.read_value(reader, field, field["type"])
        if self.flexible:
            for _ in range(reader.uvarint()):
                tag, length = reader.uvarint(), reader.uvarint()
                data = Reader(reader.take(length))
                for field in fields:
                    if field.get("tag") == tag and self.tagged(field):
                        out[field["name"]] = self.read_value(data, field, field["type"])
        return out

    def read_length(self, reader, width):
        if self.flexible:
            return reader.uvarint() - 1
        return reader.number(width)

    def read_value(self, reader, field, kind, nullable=True):
        if kind in NUMBERS:
            return reader.number(">" + NUMBERS[kind])
        if kind == "uuid":
            return reader.take(16).hex()
        if kind in ("string", "bytes", "records"):
            length = self.read_length(reader, ">h" if kind == "string" else ">i")
            if length < 0:
                return None
            data = reader.take(length)
            return data.decode() if kind == "string" else data.hex()
        if kind.startswith("[]"):
            count = self.read_length(reader, ">i")
            return None if count < 0 else [self.read_value(reader, field, kind[2:], False) for _ in range(count)]
        if nullable and in_range(field.get("nullableVersions"), self.version) and reader.take(1) == b"\xff":
            return None
        return self.read_struct(reader, self.inner(field, kind))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "the answer is too short"
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, width):
        return struct.unpack(width, self.take(struct.calcsize(width)))[0]

    def uvarint(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number


class Connection:
    """One connection, with one request under way at most."""

    def __init__(self, definitions, address):
        self.definitions = definitions
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=8)
        self.correlation = 0

    def send(self, api, version, body):
        message = self.definitions.requests[api]
        codec = Codec(message, version)
        self.correlation += 1
        head = struct.pack(">hhih", message["apiKey"], version, self.correlation, 6) + b"differ" + b"\0" * codec.flexible
        self.send_frame(head + codec.write(body))

    def send_frame(self, frame):
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive(self, api, version):
        """The answer, or "closed", or "no answer"; after these the connection is of no more use."""
        try:
            data = self.receive_frame()
        except (EOFError, ConnectionError):
            return "closed"
        except TimeoutError:
            return "no answer"
        reader = Reader(data)
        assert reader.number(">i") == self.correlation, "not the answer to this request"
        codec = Codec(self.definitions.responses[api], version)
        # ApiVersions answers with the oldest header, whatever its version.
        if codec.flexible and api != "ApiVersions":
            assert reader.uvarint() == 0
        answer = codec.read(reader)
        assert reader.at == len(data), "bytes are left behind the answer"
        return answer

    def receive_frame(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data
