//! The files of the metadata log: `metadata.log` (votes and entries) and `metadata.snapshot`.
//!
//! This module owns the bytes on disk and the rules that a power cut must not break: a vote never goes back, an acknowledged
//! entry is never lost, an acknowledged truncation or purge is never undone. It knows nothing of consensus: the broker's
//! adapter translates between these types and those of its raft library, so that the format outlives any version of it.
//! `storage/FORMAT.md` documents the bytes.

mod encode;
mod error;
mod file;
mod frames;
mod log;
mod recovery;
mod snapshot;
mod state;
mod types;
mod writer;

use std::{io::ErrorKind, path::Path, sync::Arc};

use crate::{Env, io::Disk};

pub use error::MetadataError;
pub use frames::FORMAT_VERSION;
pub use log::MetadataLog;
pub use recovery::{QuorumState, make_only_voter, recovery_in, recovery_of};
pub use snapshot::{SnapshotFile, SnapshotReceiver, Snapshots};
use state::check_pair;
pub use types::{Entry, LogId, Members, Payload, SnapshotMeta, Vote, VoterId};
pub use writer::Done;

/// The log and the snapshots of one folder.
#[derive(Debug, Clone)]
pub struct MetadataFiles {
    /// The log.
    pub log: Arc<MetadataLog>,
    /// The snapshots.
    pub snapshots: Arc<Snapshots>,
}

impl MetadataFiles {
    /// The names of the files. Without the snapshot the log still says whose it is.
    pub const NAMES: [&str; 2] = [snapshot::NAME, file::NAME];

    /// Opens the files in `dir`, or creates them. Blocks on the disk.
    pub fn open(env: &dyn Env, disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, MetadataError> {
        let log = MetadataLog::open(env, Arc::clone(&disk), dir)?;
        let snapshots = Snapshots::open(disk, dir)?;
        let last = snapshots.current().and_then(|snapshot| snapshot.meta().last);
        check_pair(dir, log.purged(), log.vote(), last)?;
        // A vote is saved before anything of its term. A recovery writes the snapshot first.
        if last.map(|last| last.term) > log.vote().map(|vote| vote.term) {
            let what =
                "a recovery of the quorum was interrupted: run `esker cluster recover` again; it is not complete"
                    .to_owned();
            return Err(MetadataError::Mismatch { dir: dir.to_path_buf(), what });
        }
        Ok(Self { log: Arc::new(log), snapshots: Arc::new(snapshots) })
    }

    /// Whether `dir` holds a metadata log or a snapshot of one, whatever the format.
    pub fn is_in(disk: &dyn Disk, dir: &Path) -> std::io::Result<bool> {
        match disk.list(dir) {
            Ok(names) => Ok(names.iter().any(|(name, _)| Self::NAMES.contains(&name.as_str()))),
            Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The last vote in the log in `dir`, if the log can be read. Changes nothing.
    pub fn last_vote(disk: &dyn Disk, dir: &Path) -> Option<Vote> {
        file::last_vote(disk, dir)
    }

    /// Refuses further changes and waits for those under way. Blocks on the disk.
    pub fn close(&self) {
        self.log.close();
        self.snapshots.close();
    }
}

#[cfg(test)]
mod tests;
