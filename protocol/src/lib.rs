//! Kafka's wire format: messages, primitives, record batches, compression. No I/O, no async.

pub mod compression;
pub mod records;
