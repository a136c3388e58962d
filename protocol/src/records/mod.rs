//! Record batches: Kafka's unit of data on the wire, on disk and between brokers.
//!
//! A batch is checked and passed on as the bytes it came in as. So everything here is a *view*: [`Batch`] is a slice
//! of the frame it arrived in, [`Records`] yields slices of the batch, and only a compressed batch is unpacked (once, and
//! never past a limit). New bytes come from [`BatchBuilder`] alone, which the slow paths in [`rewrite`] and [`legacy`] use
//! too.
//!
//! Nothing here does I/O, reads a clock, panics on hostile bytes, or allocates by an unchecked length.

mod batch;
mod builder;
mod control;
mod crc;
mod error;
mod frames;
mod header;
pub mod legacy;
mod record;
mod retain;
pub mod rewrite;
mod varint;

#[cfg(test)]
mod tests;

pub use batch::{Batch, Batches};
pub use builder::BatchBuilder;
pub use control::{ControlType, EndTxnMarker, end_txn_batch};
pub use crc::{crc32c, crc32c_append};
pub use error::{BatchError, RecordFault};
pub use frames::{FrameSummary, check_frames};
pub use header::{
    Attributes, BATCH_OVERHEAD, BatchHeader, LOG_OVERHEAD, MAGIC_OFFSET, MAGIC_V0, MAGIC_V1, MAGIC_V2,
    NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType,
};
pub use record::{Headers, Record, RecordHeader, Records};
pub use retain::{emptied, retain};
