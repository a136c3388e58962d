//! What can be wrong with a batch, and with one record in it.

use crate::compression::{Compression, CompressionError};

/// Why bytes are not a sound record batch or message set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch needs {needed} bytes, only {available} are there")]
    Truncated {
        /// The length in the header, or the size of a header.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// A magic byte that is not the one expected here (2 for batches; 0 or 1 for message sets).
    #[error("magic {magic} is not a format that can be read here")]
    Magic {
        /// The byte found.
        magic: i8,
    },
    /// A batch or message length that no batch can have.
    #[error("a length of {length} bytes is not possible for a batch or message")]
    Length {
        /// The length field.
        length: i32,
    },
    /// The checksum does not match: the bytes were damaged on their way or on disk.
    #[error("the checksum is {computed:#010x}, the header says {stored:#010x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// The records could not be unpacked.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record is malformed.
    #[error("record {index}: {fault}")]
    Record {
        /// Position in the batch, from 0.
        index: i32,
        /// What is wrong.
        fault: RecordFault,
    },
    /// The count of records is negative, or does not agree with the last offset delta or with the records that follow.
    #[error("the header counts {records_count} records and ends at offset delta {last_offset_delta}")]
    Count {
        /// The header's count.
        records_count: i32,
        /// The header's last offset delta.
        last_offset_delta: i32,
    },
    /// A message inside a compressed message is compressed again: no writer does so (and no reader follows).
    #[error("a compressed message holds a compressed message")]
    NestedCompression,
    /// A codec that the requested format does not have: zstd in a message set.
    #[error("messages of the format asked for cannot be compressed with {codec}")]
    UnsupportedCodec {
        /// The codec.
        codec: Compression,
    },
    /// The result would be larger than a batch or message can be.
    #[error("{size} bytes do not fit into one batch")]
    TooLarge {
        /// The size of the result.
        size: usize,
    },
}

/// What is wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The bytes end within the record.
    #[error("ends early")]
    Truncated,
    /// A varint of more than 5 (or 10) bytes.
    #[error("holds a number that never ends")]
    Varint,
    /// A length that reaches past the record, or a negative one where null is not allowed.
    #[error("holds a length that reaches past its end")]
    Length,
    /// A negative count of headers, or more than can fit.
    #[error("holds an impossible count of headers")]
    HeaderCount,
    /// A header without a key.
    #[error("holds a header without a key")]
    HeaderKey,
    /// The fields end before the record's own length does.
    #[error("is longer than its fields")]
    Excess,
    /// Bytes follow the last record that the batch counts.
    #[error("is past the count of the batch")]
    Uncounted,
    /// Offset deltas do not go 0, 1, 2, ...
    #[error("has an offset delta out of order")]
    OffsetDelta,
}
