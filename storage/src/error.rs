//! The errors of storage: one enum for each operation, facts in fields. The broker maps them to Kafka's error codes.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::producers::ProducerError;

/// A file operation that failed, with its action and path.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// Verb phrase, e.g. "write to".
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// True when the disk (or the quota) is full: retriable, not a broken disk.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// True when the operation was a sync of data or names.
    pub(crate) fn is_sync(&self) -> bool {
        self.action == "sync"
    }

    /// True when this process or the system ran out of a resource other than disk space: file handles, memory.
    pub fn is_exhausted(&self) -> bool {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        matches!(self.source.raw_os_error(), Some(ENFILE | EMFILE)) || self.source.kind() == io::ErrorKind::OutOfMemory
    }
}

/// Why the log dirs could not be opened. Shown to the user as it is.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds the dir's lock file.
    #[error(
        "data folder {} is in use by another process (its .lock is held): stop that broker, or give this one another --data-dir",
        dir.display()
    )]
    Locked {
        /// The log dir.
        dir: PathBuf,
    },
    /// The dir was formatted for another cluster.
    #[error(
        "data folder {} belongs to cluster {found}, this broker to {expected}: point it at the right folder, or remove the folder if its data may go",
        dir.display()
    )]
    ClusterId {
        /// The log dir.
        dir: PathBuf,
        /// Id in `meta.properties`.
        found: String,
        /// The configured id.
        expected: String,
    },
    /// The dir was formatted for another node.
    #[error(
        "data folder {} belongs to node {found}, this broker is node {expected}: start with --node-id {found}, or give another folder",
        dir.display()
    )]
    NodeId {
        /// The log dir.
        dir: PathBuf,
        /// Id in `meta.properties`.
        found: i32,
        /// The configured id.
        expected: i32,
    },
    /// `meta.properties` or a checkpoint cannot be understood.
    #[error("{}: {what}; restore the file from a backup or another replica's copy, or remove the folder if its data may go", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The same partition lies in two log dirs.
    #[error("partition {topic}-{partition} is in both {} and {}: move one of the two folders away", first.display(), second.display())]
    Duplicate {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// One folder.
        first: PathBuf,
        /// The other folder.
        second: PathBuf,
    },
    /// The journal of a log dir may hold records, and is not to be found where it is looked for.
    #[error("the journal of log dir {}: {what}", dir.display())]
    JournalFolder {
        /// The log dir.
        dir: PathBuf,
        /// Where the journal lies, and what to do.
        what: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a log could not be created, deleted, truncated, flushed or rolled.
#[derive(Debug, Error)]
pub enum LogError {
    /// The log dir had a write or sync error earlier: nothing is written to it any more.
    #[error("log dir {} is offline after an earlier disk error", dir.display())]
    Offline {
        /// The log dir.
        dir: PathBuf,
    },
    /// A partition of that name exists with another topic id.
    #[error("partition {topic}-{partition} exists with another topic id")]
    TopicIdMismatch {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
    },
    /// There is no such log.
    #[error("there is no log for {topic}-{partition}")]
    Unknown {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
    },
    /// The offset lies outside of what the operation allows.
    #[error("offset {offset} is outside {low}..={high}")]
    OffsetOutOfRange {
        /// The requested offset.
        offset: i64,
        /// Smallest allowed.
        low: i64,
        /// Largest allowed.
        high: i64,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a batch was not appended. Nothing of it is visible afterwards.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The producer's sequence, epoch or transaction state forbids it.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// The batch is larger than a segment may be (Kafka: RECORD_LIST_TOO_LARGE).
    #[error("batch of {size} bytes is larger than segment.bytes = {segment_bytes}")]
    LargerThanSegment {
        /// Whole batch.
        size: usize,
        /// The topic's limit.
        segment_bytes: u32,
    },
    /// Replicated records do not begin at the log end.
    #[error("batch starts at offset {base_offset}, the log ends at {log_end_offset}")]
    OffsetsOutOfOrder {
        /// First offset of the offending batch.
        base_offset: i64,
        /// Where the log ends.
        log_end_offset: i64,
    },
    /// The bytes are not whole, sound record batches.
    #[error("record batch is corrupt: {what}")]
    Corrupt {
        /// What is wrong.
        what: String,
    },
    /// The disk is full: nothing was written; try again when space is back.
    #[error("disk full: {0}")]
    DiskFull(#[source] FileError),
    /// The log (or its dir) takes no writes: closed, deleted, or offline after an earlier disk error.
    #[error("log of {topic}-{partition} is closed or offline")]
    Offline {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
    },
    /// A file operation failed; the log dir is offline from now on.
    #[error(transparent)]
    File(FileError),
}

/// Why a read failed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Below the log start or past the log end.
    #[error("offset {offset} is outside {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange {
        /// The requested offset.
        offset: i64,
        /// First readable offset.
        log_start_offset: i64,
        /// Next offset to be written.
        log_end_offset: i64,
    },
    /// The stored batch is damaged.
    #[error("record batch at position {position} of segment {segment} is corrupt: {what}")]
    Corrupt {
        /// Base offset of the segment.
        segment: i64,
        /// Byte position in its file.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// Recovery found damage in flushed records.
    #[error("records {first_offset} to {last_offset} are damaged on disk: {what}; readers may go on at {}", last_offset + 1)]
    Damaged {
        /// First offset that cannot be read.
        first_offset: i64,
        /// Last one.
        last_offset: i64,
        /// What was found.
        what: String,
    },
    /// The log was deleted or closed.
    #[error("log is closed")]
    Closed,
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}
