//! The header of a record batch, magic 2 (KIP-98): 61 bytes, never compressed.
//!
//! `base_offset` and `partition_leader_epoch` lie before the CRC's range, so a leader stamps both without touching the
//! checksum; that is what lets a batch pass through a broker unchanged.

use bytes::{Buf, BufMut};

use super::{BatchError, crc32c, crc32c_append};
use crate::compression::{Compression, CompressionError};

/// Bytes before the part of a batch that `batch_length` counts: base offset and length.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes of a batch header, magic 2.
pub const BATCH_OVERHEAD: usize = 61;
/// Where the magic byte is, in all formats.
pub const MAGIC_OFFSET: usize = 16;
/// Where the CRC's range begins in a batch, magic 2.
pub(super) const CRC_START: usize = 21;

/// Message format 0: no timestamps.
pub const MAGIC_V0: i8 = 0;
/// Message format 1: timestamps (KIP-32).
pub const MAGIC_V1: i8 = 1;
/// Record batches: idempotence, transactions, headers (KIP-98, KIP-82).
pub const MAGIC_V2: i8 = 2;

/// `producer_id` of a batch that is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// `producer_epoch` of a batch that is not idempotent.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// `base_sequence` of a batch without sequence numbers.
pub const NO_SEQUENCE: i32 = -1;
/// A record without a timestamp.
pub const NO_TIMESTAMP: i64 = -1;

/// Whether the producer or the log set the timestamps of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer; each record has its own.
    #[default]
    Create,
    /// The broker, at append: every record has the batch's maximal timestamp.
    LogAppend,
}

/// The attribute bits of a batch: 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec of the records.
    ///
    /// # Errors
    /// The bits name none (5 to 7).
    pub fn compression(self) -> Result<Compression, CompressionError> {
        Compression::from_id((self.0 & Self::CODEC) as u8)
    }

    /// The same attributes with another codec.
    #[must_use]
    pub fn with_compression(self, codec: Compression) -> Self {
        Self((self.0 & !Self::CODEC) | i16::from(codec.id()))
    }

    /// Whether a codec is set, known or not.
    #[must_use]
    pub fn is_compressed(self) -> bool {
        self.0 & Self::CODEC != 0
    }

    /// Whether the producer or the log set the timestamps.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND != 0 { TimestampType::LogAppend } else { TimestampType::Create }
    }

    /// The same attributes with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(Self::LOG_APPEND, kind == TimestampType::LogAppend)
    }

    /// Part of a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// The same attributes, part of a transaction or not.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// Written by a broker or controller for readers to act on, never delivered to applications.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The same attributes, control or not.
    #[must_use]
    pub fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    /// `base_timestamp` is the time after which the cleaner may drop tombstones and markers (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same attributes, with or without a delete horizon.
    #[must_use]
    pub fn with_delete_horizon(self, on: bool) -> Self {
        self.with(Self::DELETE_HORIZON, on)
    }

    fn with(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// The header of a record batch, magic 2. All fields as on the wire; offsets and timestamps (ms) of records are relative to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (before compaction took any away).
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; outside the CRC.
    pub partition_leader_epoch: i32,
    /// Format, 2.
    pub magic: i8,
    /// CRC-32C of everything after this field.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record less `base_offset`; compaction leaves it.
    pub last_offset_delta: i32,
    /// Timestamp that records count from, or the delete horizon.
    pub base_timestamp: i64,
    /// Largest timestamp of the records, or the append time.
    pub max_timestamp: i64,
    /// Producer, -1 for none.
    pub producer_id: i64,
    /// Its epoch, -1 for none.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 for none.
    pub base_sequence: i32,
    /// Records in the batch.
    pub records_count: i32,
}

impl Default for BatchHeader {
    /// An empty batch without a producer.
    fn default() -> Self {
        Self {
            base_offset: 0,
            batch_length: (BATCH_OVERHEAD - LOG_OVERHEAD) as i32,
            partition_leader_epoch: -1,
            magic: MAGIC_V2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            records_count: 0,
        }
    }
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; what follows it need not be there.
    ///
    /// # Errors
    /// Fewer than 61 bytes (with a magic below 2, fewer than 17), another magic, or a length that holds no header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let truncated = BatchError::Truncated { needed: BATCH_OVERHEAD, available: bytes.len() };
        let magic = *bytes.get(MAGIC_OFFSET).ok_or(truncated.clone())? as i8;
        if magic != MAGIC_V2 {
            return Err(BatchError::Magic { magic });
        }
        let Some(fields) = bytes.first_chunk::<BATCH_OVERHEAD>() else { return Err(truncated) };
        let mut b: &[u8] = fields;
        let header = Self {
            base_offset: b.get_i64(),
            batch_length: b.get_i32(),
            partition_leader_epoch: b.get_i32(),
            magic: b.get_i8(),
            crc: b.get_u32(),
            attributes: Attributes(b.get_i16()),
            last_offset_delta: b.get_i32(),
            base_timestamp: b.get_i64(),
            max_timestamp: b.get_i64(),
            producer_id: b.get_i64(),
            producer_epoch: b.get_i16(),
            base_sequence: b.get_i32(),
            records_count: b.get_i32(),
        };
        if header.batch_length < (BATCH_OVERHEAD - LOG_OVERHEAD) as i32 {
            return Err(BatchError::Length { length: header.batch_length });
        }
        Ok(header)
    }

    /// The 61 bytes of this header, as it is.
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_OVERHEAD] {
        let mut out = [0_u8; BATCH_OVERHEAD];
        let mut w: &mut [u8] = &mut out;
        w.put_i64(self.base_offset);
        w.put_i32(self.batch_length);
        w.put_i32(self.partition_leader_epoch);
        w.put_i8(self.magic);
        w.put_u32(self.crc);
        w.put_i16(self.attributes.0);
        w.put_i32(self.last_offset_delta);
        w.put_i64(self.base_timestamp);
        w.put_i64(self.max_timestamp);
        w.put_i64(self.producer_id);
        w.put_i16(self.producer_epoch);
        w.put_i32(self.base_sequence);
        w.put_i32(self.records_count);
        out
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Bytes of the whole batch, header included. Never less than [`BATCH_OVERHEAD`] for a header that was parsed.
    #[must_use]
    pub fn total_size(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Sequence number of the last record; it wraps from 2147483647 to 0. -1 without sequence numbers.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return NO_SEQUENCE;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta.max(0));
        (sum % (i64::from(i32::MAX) + 1)) as i32
    }

    /// Has a producer id: takes part in idempotence.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Delete horizon in ms, if the batch has one.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// This header with the CRC that it and `records` (the bytes after the header) have.
    #[must_use]
    pub fn sealed(mut self, records: &[u8]) -> Self {
        let bytes = self.encode();
        let crc = crc32c(bytes.get(CRC_START..).unwrap_or_default());
        self.crc = crc32c_append(crc, records);
        self
    }

    /// This header with every record's timestamp set to `now` (ms), by the broker (`message.timestamp.type=LogAppendTime`), and
    /// the CRC to go with it. The record bytes stay as they are.
    #[must_use]
    pub fn with_log_append_time(mut self, now: i64, records: &[u8]) -> Self {
        self.attributes = self.attributes.with_timestamp_type(TimestampType::LogAppend);
        self.max_timestamp = now;
        self.sealed(records)
    }

    /// This header with the timestamp type set to create time and `max_timestamp` as given, and the CRC to go with it.
    #[must_use]
    pub fn with_create_time(mut self, max_timestamp: i64, records: &[u8]) -> Self {
        self.attributes = self.attributes.with_timestamp_type(TimestampType::Create);
        self.max_timestamp = max_timestamp;
        self.sealed(records)
    }
}
