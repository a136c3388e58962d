//! What the journal knows of a log: what a round takes of it, and how it is synced otherwise.

use std::{fmt::Debug, path::Path, sync::Arc};

use bytes::Bytes;

use super::format::EntryHeader;
use crate::LogError;

/// A log with batches in the journal.
pub(crate) trait JournaledLog: Debug + Send + Sync {
    /// The partition's folder.
    fn dir(&self) -> &Path;

    /// The batches that are not durable yet, without their checksums; `None` if all are.
    fn take_unflushed(&self) -> Result<Option<Picked>, NotByJournal>;

    /// Adds the checksums, which reads all bytes.
    fn add_checksums(&self, picked: &mut Picked) -> Result<(), NotByJournal>;

    /// Whether nothing was cut since the batches were taken, and the log was not deleted or moved: another log may have its key by now.
    fn still_holds(&self, picked: &Picked) -> bool;

    /// Whether a round is to have this entry. A flush may have been faster: then compaction may write the segment anew, and the entry
    /// must not follow on the note that it may.
    fn is_unflushed(&self, picked: &Picked, entry: &EntryHeader) -> bool;

    /// The batches are on disk. False, and nothing noted, if the log was cut or closed meanwhile.
    fn note_durable(&self, picked: &Picked) -> bool;

    /// They were not synced.
    fn return_unflushed(&self, picked: &Picked);

    /// Whether everything below `offset` is in its segments and on disk.
    fn is_synced(&self, offset: i64) -> bool;

    /// Syncs its segments. Blocks for the disk.
    fn sync_segments(&self) -> Result<(), LogError>;
}

/// A place between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub offset: i64,
    /// Base offset of its segment.
    pub segment: i64,
    /// In the segment's file.
    pub position: u64,
}

/// The new batches of a log, in one piece a segment.
#[derive(Debug)]
pub(crate) struct Picked {
    pub pieces: Vec<(EntryHeader, Bytes)>,
    /// Cuts of the log's end before the batches were picked up.
    pub truncations: u64,
    /// The log's end by then.
    pub end: Spot,
    /// What `flush.messages` and `flush.ms` count.
    pub records: i64,
    pub dirty_since_ms: i64,
}

/// It cannot go by the journal: its segments must be synced.
#[derive(Debug)]
pub(crate) struct NotByJournal;

impl Picked {
    /// The entries of a round.
    pub(super) fn entries<'a>(&'a self, log: &'a Arc<dyn JournaledLog>) -> impl Iterator<Item = Pending<'a>> {
        self.pieces.iter().map(move |(header, bytes)| Pending {
            header: *header,
            bytes: bytes.clone(),
            round_of: Some((log, self)),
        })
    }

    /// Bytes of all batches.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

/// One entry about to be written.
pub(crate) struct Pending<'a> {
    pub header: EntryHeader,
    pub bytes: Bytes,
    /// The log, and what was picked up of it.
    pub round_of: Option<(&'a Arc<dyn JournaledLog>, &'a Picked)>,
}
