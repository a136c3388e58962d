//! What a compaction leaves of a batch: the same batch with fewer records, or with none.

use bytes::Bytes;

use super::{Attributes, Batch, BatchBuilder, BatchError, BatchHeader, Record, TimestampType};

/// The batch with `records` alone, which are some of its own, in order. Offsets, producer, flags, codec, leader epoch and the
/// range of offsets stay. `delete_horizon` (KIP-534, ms) takes the place of the base timestamp.
///
/// # Errors
/// The batch names no known codec, or the result does not fit into 2 GiB.
pub fn retain(batch: &Batch, records: &[Record], delete_horizon: Option<i64>) -> Result<Bytes, BatchError> {
    let BatchHeader { attributes, .. } = batch.header;
    let mut builder = BatchBuilder::new(batch.compression()?)
        .base_offset(batch.header.base_offset)
        .leader_epoch(batch.header.partition_leader_epoch)
        .producer(batch.header.producer_id, batch.header.producer_epoch, batch.header.base_sequence)
        .transactional(attributes.is_transactional())
        .control(attributes.is_control());
    if attributes.timestamp_type() == TimestampType::LogAppend {
        builder = builder.log_append_time(batch.header.max_timestamp);
    }
    if let Some(horizon) = delete_horizon {
        builder.set_delete_horizon(horizon);
    }
    for record in records {
        let delta = record.offset.saturating_sub(batch.header.base_offset) as i32;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.append_raw_headers(delta, record.timestamp, key, value, record.headers.raw());
    }
    builder.set_last_offset_delta(batch.header.last_offset_delta);
    builder.build()
}

/// The batch without any record: its header keeps the range of offsets, and the last sequence of its producer.
#[must_use]
pub fn emptied(header: &BatchHeader) -> Bytes {
    let kind = Attributes(0)
        .with_timestamp_type(header.attributes.timestamp_type())
        .with_transactional(header.attributes.is_transactional())
        .with_control(header.attributes.is_control());
    let empty = BatchHeader {
        attributes: kind,
        records_count: 0,
        base_timestamp: super::NO_TIMESTAMP,
        batch_length: BatchHeader::default().batch_length,
        ..*header
    };
    Bytes::copy_from_slice(&empty.sealed(&[]).encode())
}
