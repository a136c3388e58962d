"""Record batches, right and wrong."""

import struct

TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    TABLE.append(number)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = number << 1 ^ number >> 63
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def sized(data):
    return varint(-1) if data is None else varint(len(data)) + data


def record(offset, value=b"value", key=None, timestamp=0, headers=(), attributes=0):
    body = struct.pack("b", attributes) + varint(timestamp) + varint(offset) + sized(key) + sized(value) + varint(len(headers))
    return sized(body + b"".join(sized(name) + sized(content) for name, content in headers))


def batch(
    values=(b"value",),
    records=None,
    base_offset=0,
    length=None,
    leader_epoch=-1,
    magic=2,
    crc=None,
    attributes=0,
    last_delta=None,
    first_timestamp=1_700_000_000_000,
    max_timestamp=None,
    producer=-1,
    epoch=-1,
    sequence=-1,
    count=None,
):
    """One batch; `records` are its raw bytes, instead of `values`. Each header field can be set to what it should not be."""
    number = len(values)
    if records is None:
        records = b"".join(record(at, value) for at, value in enumerate(values))
    body = struct.pack(
        ">hiqqqhii",
        attributes,
        number - 1 if last_delta is None else last_delta,
        first_timestamp,
        first_timestamp if max_timestamp is None else max_timestamp,
        producer,
        epoch,
        sequence,
        number if count is None else count,
    )
    body += records
    crc = crc32c(body) if crc is None else crc
    size = 9 + len(body) if length is None else length
    return struct.pack(">qiibI", base_offset, size, leader_epoch, magic, crc) + body
