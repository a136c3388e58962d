//! DeleteRecords on the leader: the log start moves here, and the request waits until the live replicas have followed.
//!
//! A follower learns the new log start with the answer to its waiting fetch, which a move of the log start ends. It reports its own log
//! start, once that is durable, with its next fetch. The rules are in [`esker_core::replication::DeletionProgress`].

use std::sync::Arc;

use tokio::sync::Notify;

use super::Partition;
use crate::blocking;
use crate::replica::error::{AccessError, DeleteRecordsError};
use crate::replica::purgatory::Place;

impl Partition {
    /// DeleteRecords: deletes everything below `offset` (`-1`: below the high watermark) on this replica. Returns the offset that the low
    /// watermark must reach. Blocks while the log moves to another log dir.
    pub fn delete_records(&self, offset: i64) -> Result<i64, DeleteRecordsError> {
        // Held so that the log cannot be replaced in between: its log start is copied before it is closed.
        let _appending = blocking::read(&self.appending);
        let role = self.leader_for_epoch(-1)?;
        if !role.settings.log.delete {
            return Err(DeleteRecordsError::Policy);
        }
        let log = self.log();
        let high_watermark = log.high_watermark();
        let target = if offset == -1 { high_watermark } else { offset };
        if target < 0 || target > high_watermark {
            return Err(DeleteRecordsError::OffsetOutOfRange { offset, high_watermark });
        }
        if target > log.log_start_offset() {
            log.advance_log_start(target)?;
            // A parked fetch holds slices of deleted records.
            self.fetches.wake_all();
        }
        Ok(target)
    }

    /// The low watermark, if this broker leads: the lowest log start offset of the replicas that count.
    pub fn low_watermark(&self, is_alive: impl Fn(i32) -> bool) -> Result<i64, AccessError> {
        let role = self.role.load();
        let leader = role.leader_for_epoch(-1)?;
        Ok(leader.low_watermark(self.log.load().log_start_offset(), is_alive))
    }

    /// Signals `signal` when the low watermark may have moved, or when this broker may lead no more. The caller must look at the partition
    /// after this call. The registration ends with the guard.
    #[must_use = "the registration ends when this is dropped"]
    pub fn park_deletion(self: &Arc<Self>, signal: &Arc<Notify>) -> PendingDeletion {
        PendingDeletion { place: self.deletions.register(signal), partition: Arc::clone(self) }
    }

    /// Number of pending DeleteRecords.
    pub fn pending_deletions(&self) -> usize {
        self.deletions.len()
    }
}

/// The registration of a pending DeleteRecords with a partition; it ends when this is dropped.
#[derive(Debug)]
pub struct PendingDeletion {
    partition: Arc<Partition>,
    place: Place,
}

impl Drop for PendingDeletion {
    fn drop(&mut self) {
        self.partition.deletions.leave(self.place);
    }
}

#[cfg(test)]
mod tests;
