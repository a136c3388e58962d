//! Batches of what coordinators write: one for a decision, or several of bounded size for independent records.
//!
//! A batch that is larger than a segment is refused, so a set of records that grows with what a partition holds (tombstones of an
//! expiry, of a deleted topic, of a group) must be divided. Sets that are one change must never be.

use bytes::Bytes;
use esker_core::coordinator::{StateMachine, Writer};
use esker_protocol::compression::Compression;
use esker_protocol::records::{BatchBuilder, NO_SEQUENCE};

/// Bytes of a batch of independent records: well below the smallest segment and the smallest `max.message.bytes`
/// that brokers are run with.
pub(super) const MAX_DIVISIBLE: usize = 256 << 10;

/// About what the frame of a record takes.
const FRAME: usize = 32;

/// As many records as `limit` bytes take, at least one, as a batch; and how many these are. `None` if a record cannot be encoded.
pub(super) fn encode<M: StateMachine>(
    records: &[M::Record],
    writer: Option<Writer>,
    limit: usize,
    now: i64,
) -> Option<(Bytes, usize)> {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some(Writer { producer_id, producer_epoch }) = writer {
        builder = builder.producer(producer_id, producer_epoch, NO_SEQUENCE).transactional(true);
    }
    let (mut count, mut bytes) = (0, 0usize);
    for record in records {
        let (key, value) = M::encode(record).ok()?;
        bytes = bytes.saturating_add(key.len()).saturating_add(value.as_ref().map_or(0, Bytes::len) + FRAME);
        if count > 0 && bytes > limit {
            break;
        }
        builder.append(i32::try_from(count).ok()?, now, Some(&key), value.as_deref(), &[]);
        count += 1;
    }
    Some((builder.build().ok()?, count))
}
