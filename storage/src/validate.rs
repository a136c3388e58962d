//! Produce checks over a record set, in Kafka's order, before anything is appended. Pure: no clock, no file.
//!
//! A sound batch passes as the slice it came in as. A batch is rewritten only if the topic's rules demand it (append time, another
//! codec, an old message format, header bits that a client must not set). A compressed batch is decompressed only if a check needs
//! its records: compacted topics need keys, some timestamp limits need every record, and a topic may request it.

mod check;
#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use check::validate;
pub use esker_protocol::{compression::Compression, records::TimestampType};
use thiserror::Error;

use crate::BatchHeader;

/// `compression.type` of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionTarget {
    /// As the producer sent it.
    #[default]
    Producer,
    /// This codec at this level (`None` = the codec's default); batches of another codec are packed again.
    Codec {
        /// The codec; [`Compression::None`] for `uncompressed`.
        codec: Compression,
        /// Its level.
        level: Option<i32>,
    },
}

/// The rules of a topic and of the request's version for a record set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidateRules {
    /// `max.message.bytes`: whole batch with its 12 bytes of log overhead.
    pub max_message_bytes: usize,
    /// `max.decompressed.message.bytes`: bound on a single record of a compressed batch (Kafka 4.4). Checked where a batch is
    /// decompressed.
    pub max_decompressed_bytes: usize,
    /// `cleanup.policy` contains compact: keys are needed.
    pub compacted: bool,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`.
    pub compression: CompressionTarget,
    /// `record.validation=full`: open compressed batches always.
    pub full: bool,
    /// Version of the Produce request: below 3 old message formats are taken and converted, below 7 zstd is refused.
    pub produce_version: i16,
}

/// A record set that may be appended.
#[derive(Debug, Clone)]
pub struct Validated {
    /// Header of `bytes`.
    pub header: BatchHeader,
    /// Exactly one v2 batch. A slice of the request unless it had to be rewritten.
    pub bytes: Bytes,
    /// -1, or the time that was stamped on every record.
    pub log_append_time: i64,
}

/// One record that failed; all of its batch is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Index of the record in the batch.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: String,
}

/// Why a record set is refused. The comment names Kafka's error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RejectReason {
    /// INVALID_RECORD.
    #[error("{0}")]
    InvalidRecord(String),
    /// A record of a compacted topic has no key. INVALID_RECORD.
    #[error("{0}")]
    MissingKey(String),
    /// CORRUPT_MESSAGE.
    #[error("{0}")]
    Corrupt(String),
    /// The record format is none that exists. CORRUPT_MESSAGE.
    #[error("unknown record format {0}")]
    UnknownMagic(i8),
    /// MESSAGE_TOO_LARGE.
    #[error("the record batch has {size} bytes, the topic's max.message.bytes is {max}")]
    TooLarge {
        /// Whole batch.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// INVALID_TIMESTAMP.
    #[error("{0}")]
    InvalidTimestamp(String),
    /// UNSUPPORTED_COMPRESSION_TYPE.
    #[error("{0}")]
    UnsupportedCompression(String),
}

/// A refused record set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Rejected {
    /// The error, with the message for the answer.
    pub reason: RejectReason,
    /// Records that failed (answers v8+).
    pub record_errors: Vec<RecordError>,
}

impl Default for ValidateRules {
    /// Kafka's defaults for a topic, and a client of today.
    fn default() -> Self {
        Self {
            max_message_bytes: 1_048_588,
            max_decompressed_bytes: 2_147_483_639,
            compacted: false,
            timestamp_type: TimestampType::Create,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: CompressionTarget::Producer,
            full: false,
            produce_version: 13,
        }
    }
}
