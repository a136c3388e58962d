//! The check of record frames on the produce path: walks lengths, makes nothing.
//!
//! Kafka stores wrong offset deltas of uncompressed batches as sent, and consumers then see offsets that were never given out;
//! here they are an error. Everything else that Kafka refuses (`INVALID_RECORD`) is refused here too.

use super::varint::{read_i32, read_i64};
use super::{BatchError, BatchHeader, NO_TIMESTAMP, RecordFault, TimestampType};

/// What a walk over the frames of a batch saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSummary {
    /// Smallest timestamp, ms; -1 for an empty batch.
    pub min_timestamp: i64,
    /// Largest timestamp, ms; -1 for an empty batch.
    pub max_timestamp: i64,
    /// Offset delta of the first record with the largest timestamp.
    pub max_timestamp_delta: i32,
    /// The first record without a key, by its position.
    pub first_null_key: Option<i32>,
    /// The largest record, in bytes.
    pub largest_record: usize,
}

/// Walks `records`, the uncompressed records of a batch with this header: exactly `records_count` records whose fields fill them,
/// with offset deltas 0, 1, 2, ...
///
/// # Errors
/// The first record that is not so.
pub fn check_frames(header: &BatchHeader, records: &[u8]) -> Result<FrameSummary, BatchError> {
    let mut summary = FrameSummary {
        min_timestamp: NO_TIMESTAMP,
        max_timestamp: NO_TIMESTAMP,
        max_timestamp_delta: 0,
        first_null_key: None,
        largest_record: 0,
    };
    let mut deltas = Deltas { min: i64::MAX, max: i64::MIN, max_index: 0 };
    let mut rest = records;
    for index in 0..header.records_count {
        let fail = |fault| BatchError::Record { index, fault };
        let mut at = 0;
        let length = read_i32(rest, &mut at).map_err(fail)?;
        let length = usize::try_from(length).map_err(|_| fail(RecordFault::Length))?;
        let body = rest.get(at..).unwrap_or_default();
        let (record, after) = body.split_at_checked(length).ok_or_else(|| fail(RecordFault::Truncated))?;
        rest = after;
        let frame = walk(record).map_err(fail)?;
        if frame.offset_delta != index {
            return Err(fail(RecordFault::OffsetDelta));
        }
        deltas.add(frame.timestamp_delta, index);
        if frame.null_key && summary.first_null_key.is_none() {
            summary.first_null_key = Some(index);
        }
        summary.largest_record = summary.largest_record.max(length + at);
    }
    if !rest.is_empty() {
        return Err(BatchError::Record { index: header.records_count, fault: RecordFault::Uncounted });
    }
    if header.records_count > 0 {
        if header.attributes.timestamp_type() == TimestampType::LogAppend {
            summary.min_timestamp = header.max_timestamp;
            summary.max_timestamp = header.max_timestamp;
        } else {
            summary.min_timestamp = header.base_timestamp.wrapping_add(deltas.min);
            summary.max_timestamp = header.base_timestamp.wrapping_add(deltas.max);
            summary.max_timestamp_delta = deltas.max_index;
        }
    }
    Ok(summary)
}

struct Deltas {
    min: i64,
    max: i64,
    max_index: i32,
}

impl Deltas {
    #[inline]
    fn add(&mut self, delta: i64, index: i32) {
        self.min = self.min.min(delta);
        if delta > self.max {
            self.max = delta;
            self.max_index = index;
        }
    }
}

struct Frame {
    timestamp_delta: i64,
    offset_delta: i32,
    null_key: bool,
}

#[inline]
fn walk(record: &[u8]) -> Result<Frame, RecordFault> {
    let mut at = 1; // attributes: unused
    let timestamp_delta = read_i64(record, &mut at)?;
    let offset_delta = read_i32(record, &mut at)?;
    let null_key = skip(record, &mut at)?;
    skip(record, &mut at)?;
    let headers = read_i32(record, &mut at)?;
    if headers != 0 {
        walk_headers(record, &mut at, headers)?;
    }
    if at == record.len() { Ok(Frame { timestamp_delta, offset_delta, null_key }) } else { Err(RecordFault::Excess) }
}

fn walk_headers(record: &[u8], at: &mut usize, count: i32) -> Result<(), RecordFault> {
    if count < 0 || count as usize > record.len().saturating_sub(*at) / 2 {
        return Err(RecordFault::HeaderCount);
    }
    for _ in 0..count {
        if skip(record, at)? {
            return Err(RecordFault::HeaderKey);
        }
        skip(record, at)?;
    }
    Ok(())
}

/// Skips a length and its bytes; true for null.
#[inline]
fn skip(record: &[u8], at: &mut usize) -> Result<bool, RecordFault> {
    let length = read_i32(record, at)?;
    if length < 0 {
        return Ok(true);
    }
    // Both fit: `at` is within the record, and a length is at most 2^31.
    let end = *at + length as usize;
    if end > record.len() {
        return Err(RecordFault::Length);
    }
    *at = end;
    Ok(false)
}
