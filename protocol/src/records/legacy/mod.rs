//! Message sets: what Kafka wrote before record batches (magic 0 and 1), and their conversion from and to batches.
//!
//! Kafka 4 no longer supports them. Clients of that age still exist, so Produce 0-2 is up-converted and Fetch 0-3 down-converted here,
//! off the hot path. Old segments need no conversion: readers since Fetch 4 take messages as they lie on disk.
//!
//! A message: `offset i64 | size i32 | crc u32 (IEEE) | magic i8 | attributes i8 | [timestamp i64, magic 1] | key | value`, both
//! with i32 lengths, -1 for null. Compression wraps a whole set into the value of one message: offsets inside are absolute in
//! magic 0; in magic 1 they count from 0, and the wrapper has the offset of the last (KIP-31).

mod convert;
mod read;

pub use convert::{down_convert, truncate_set, up_convert};
pub use read::{Message, MessageSet, Messages};

/// Bytes of a message of magic 0 without key and value, offset and size included.
pub const OVERHEAD_V0: usize = 26;
/// Bytes of a message of magic 1 without key and value, offset and size included.
pub const OVERHEAD_V1: usize = 34;
