//! One replica's log on disk, in Kafka's own file formats: segments, indexes, recovery, retention.
//!
//! No network, no async: calls may block on the disk, and their docs say when. `io` is the seam to the file system and
//! `mmap` the only module with `unsafe`. [`LogManager`] opens the log dirs, [`Log`] is one replica, [`validate`] checks
//! what producers send before it is appended.
//!
//! ```
//! use std::sync::Arc;
//!
//! use esker_protocol::compression::Compression;
//! use esker_protocol::records::{Batch, BatchBuilder};
//! use esker_storage::{AppendBatch, LogConfig, LogManager, LogManagerConfig, Origin, Uuid};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let now_ms = 1_700_000_000_000;
//! let config = LogManagerConfig {
//!     dirs: vec![dir.path().to_owned()],
//!     node_id: 1,
//!     cluster_id: None,
//!     load_threads: 0,
//!     journal_bytes: 16 << 20,
//!     journal_dirs: Vec::new(),
//!     default_config: LogConfig::default(),
//!     progress: Arc::default(),
//! };
//! let manager = LogManager::open(config, now_ms)?;
//! let log = manager.create("greetings", 0, Uuid([7; 16]), LogConfig::default(), now_ms)?;
//!
//! let mut builder = BatchBuilder::new(Compression::None);
//! builder.append(0, now_ms, None, Some(b"hello"), &[]);
//! let (batch, _rest) = Batch::parse(builder.build()?)?;
//! let batch = AppendBatch { header: &batch.header, bytes: &batch.bytes };
//! let leader_epoch = 0;
//! let appended = log.append(batch, Origin::Client { transaction_v2: false }, leader_epoch, now_ms)?;
//! assert_eq!(appended.base_offset, 0);
//!
//! // Durable with one sync, by the journal of the log dir.
//! LogManager::flush_by_journal(&[Arc::clone(&log)])?;
//! let read = log.read(0, 1 << 20, log.log_end_offset(), true)?;
//! assert_eq!(read.next_offset, 1);
//! # Ok(())
//! # }
//! ```
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
