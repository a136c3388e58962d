//! One replica's log on disk, in Kafka's own file formats: segments, indexes, recovery, retention.
//!
//! No network, no async: calls may block on the disk, and their docs say when. `io` is the seam to the file system and
//! `mmap` the only module with `unsafe`.

mod config;
mod error;
mod interim;
mod log;
mod manager;
pub mod producers;
mod types;
pub mod validate;

pub use config::LogConfig;
pub use error::{AppendError, FileError, LogError, OpenError, ReadError};
pub use interim::{BatchHeader, Uuid};
pub use log::Log;
pub use manager::{LogDirInfo, LogManager, LogManagerConfig};
pub use producers::ProducerError;
pub use types::{
    AbortedTransaction, AppendBatch, Appended, EpochEndOffset, Origin, ProducerInfo, ReadInfo, RetentionOutcome,
    TimestampOffset,
};
