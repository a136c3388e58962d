//! One replica's log on disk, in Kafka's own file formats: segments, indexes, recovery, retention.
//!
//! No network, no async: calls may block on the disk, and their docs say when. `io` is the seam to the file system and
//! `mmap` the only module with `unsafe`. [`LogManager`] opens the log dirs, [`Log`] is one replica, [`validate`] checks
//! what producers send before it is appended.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod blocking;
mod checkpoints;
mod cold;
mod compaction;
mod config;
mod dir;
mod env;
mod epochs;
mod error;
mod eviction;
mod files;
#[doc(hidden)]
pub mod hooked;
mod index;
pub mod io;
mod journal;
mod log;
mod manager;
pub mod metalog;
mod mmap;
mod open_files;
mod producers;
mod read_admission;
mod reaper;
mod reserve;
mod residency;
mod scan;
mod scrub;
mod segment;
#[cfg(test)]
mod test_support;
mod throttle;
mod types;
pub mod validate;
mod walk;

pub use compaction::{CleanStats, Cleaner, CleanerConfig, CleanerStats, RunningPasses};
pub use config::LogConfig;
pub use dir::LogDirListener;
pub use env::{Env, MachineEnv, ThreadBody};
pub use error::{AppendError, FileError, LogError, OpenError, ReadError};
pub use esker_protocol::primitives::Uuid;
pub use esker_protocol::records::BatchHeader;
pub use eviction::ColdReadStats;
pub use journal::{Journal, JournalStats};
pub use log::Log;
pub use manager::{
    Folder, FolderIdentity, LoadProgress, LogDirInfo, LogManager, LogManagerConfig, Move, Progress, node_id_of,
};
pub use mmap::{Map, file_of, is_damaged, unguarded_maps, verify_slice};
pub use open_files::OpenFileStats;
pub use producers::ProducerError;
pub use scrub::{ScrubStats, Scrubber};
pub use types::{
    AbortedTransaction, AppendBatch, Appended, DamagedRange, EpochEndOffset, OpenTransaction, Origin, ProducerInfo,
    ReadInfo, RetentionOutcome, TimestampOffset, VerificationGuard,
};
