//! What the benchmarks share: batches to write and to send, and what the kernel says about a broker's process.

pub mod broker;
pub mod client;
pub mod kafka;
pub mod leader;
pub mod process;
pub mod produce;

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::records::{BatchBuilder, BatchError};

/// Any failure ends a benchmark with a message.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One batch of about `batch_bytes` whose records have values of `value_bytes`; the values are text-like, so that codecs have
/// something to do. Returns it with the count of its records.
///
/// # Errors
/// The batch is over 2 GiB.
pub fn sample_batch(
    codec: Compression,
    value_bytes: usize,
    batch_bytes: usize,
    timestamp: i64,
) -> std::result::Result<(Bytes, usize), BatchError> {
    let mut builder = BatchBuilder::new(codec);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut value = vec![0; value_bytes];
    loop {
        for byte in &mut value {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = b'@' + (state >> 59) as u8;
        }
        builder.append(builder.len() as i32, timestamp, None, Some(&value), &[]);
        if builder.size() + value_bytes + 16 > batch_bytes {
            let records = builder.len();
            return Ok((builder.build()?, records));
        }
    }
}
