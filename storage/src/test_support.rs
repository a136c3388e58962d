//! Batches, logs and disks for tests.

pub(crate) mod disk;
mod env;
pub(crate) mod gate;

use bytes::Bytes;
pub(crate) use env::ManualEnv;
use esker_protocol::{
    compression::Compression,
    records::{BatchBuilder, BatchHeader},
};

pub(crate) fn random_uuid() -> crate::Uuid {
    crate::env::random_uuid(&crate::MachineEnv::default())
}

/// A header of `count` records without a producer.
pub(crate) fn header(count: i32) -> BatchHeader {
    BatchHeader { records_count: count, last_offset_delta: count - 1, ..BatchHeader::default() }
}

pub(crate) fn set_transactional(header: &mut BatchHeader) {
    header.attributes = header.attributes.with_transactional(true);
}

/// A batch of records `(timestamp, value)`.
pub(crate) fn batch(codec: Compression, records: &[(i64, &[u8])]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (delta, (timestamp, value)) in records.iter().enumerate() {
        builder.append(delta as i32, *timestamp, Some(b"key"), Some(value), &[]);
    }
    builder.build().unwrap()
}

/// As `batch`, with a producer.
pub(crate) fn producer_batch(id: i64, epoch: i16, sequence: i32, transactional: bool, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).producer(id, epoch, sequence).transactional(transactional);
    for delta in 0..count {
        builder.append(delta as i32, 1000, None, Some(b"v"), &[]);
    }
    builder.build().unwrap()
}
