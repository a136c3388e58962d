//! The slow path: batches that cannot stay as they were sent.
//!
//! A topic with its own `compression.type`, or offset deltas that must be made whole, need the records encoded again. A change of
//! timestamps alone does not: see [`BatchHeader::with_log_append_time`].

use bytes::Bytes;

use super::{Batch, BatchBuilder, BatchError, BatchHeader, TimestampType};
use crate::compression::Compression;

/// How to rebuild a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// Codec of the result.
    pub codec: Compression,
    /// Its level; `None` for the codec's default.
    pub level: Option<i32>,
    /// Number records 0, 1, 2, ... instead of keeping their offset deltas.
    pub renumber: bool,
    /// Give every record this time (ms) as append time; `None` keeps the batch's timestamps and their type.
    pub log_append_time: Option<i64>,
}

impl Rewrite {
    /// Another codec, all else as it is.
    #[must_use]
    pub fn recompress(codec: Compression, level: Option<i32>) -> Self {
        Self { codec, level, renumber: false, log_append_time: None }
    }

    /// Encodes the batch again. Producer, flags, base offset, leader epoch and delete horizon stay. At most `max_decompressed`
    /// bytes of records are unpacked.
    ///
    /// # Errors
    /// The batch is malformed, unpacks to more than the limit, or does not fit into 2 GiB.
    pub fn apply(&self, batch: &Batch, max_decompressed: usize) -> Result<Bytes, BatchError> {
        let BatchHeader { attributes, .. } = batch.header;
        let mut builder = BatchBuilder::new(self.codec)
            .level(self.level)
            .base_offset(batch.header.base_offset)
            .leader_epoch(batch.header.partition_leader_epoch)
            .producer(batch.header.producer_id, batch.header.producer_epoch, batch.header.base_sequence)
            .transactional(attributes.is_transactional())
            .control(attributes.is_control());
        let append_time = match (self.log_append_time, attributes.timestamp_type()) {
            (Some(now), _) => Some(now),
            (None, TimestampType::LogAppend) => Some(batch.header.max_timestamp),
            (None, TimestampType::Create) => None,
        };
        if let Some(time) = append_time {
            builder = builder.log_append_time(time);
        }
        if attributes.has_delete_horizon() {
            builder.set_delete_horizon(batch.header.base_timestamp);
        }
        for (index, record) in (0..).zip(batch.records(max_decompressed)?) {
            let record = record?;
            let delta = if self.renumber { index } else { (record.offset - batch.header.base_offset) as i32 };
            let timestamp = append_time.unwrap_or(record.timestamp);
            builder.append_raw_headers(
                delta,
                timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                record.headers.raw(),
            );
        }
        if !self.renumber {
            builder.set_last_offset_delta(batch.header.last_offset_delta);
        }
        builder.build()
    }
}
