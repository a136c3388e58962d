//! A partition whose leader is another broker: what was fetched goes into the log as it is.
//!
//! Each change of the log is made in the leader epoch that it was fetched in, and under `appending`: an answer of an old leader changes
//! nothing. Must never: give an offset or an epoch to a record.

use bytes::Bytes;
use esker_storage::{AppendError, Appended, LogError};

use super::Partition;
use crate::blocking;
use crate::replica::error::FollowError;

/// Where the length and the leader epoch of a batch stand (the format of batches, magic 2).
const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
/// The length does not count what stands before it, and itself.
const BEFORE_LENGTH: usize = 12;

impl Partition {
    /// Appends what was fetched in `leader_epoch`: whole batches that keep their offsets and epochs; CRCs are checked before the first write.
    /// Writes into the page cache only, as a produce does.
    pub fn append_as_follower(&self, leader_epoch: i32, records: Bytes, now_ms: i64) -> Result<Appended, FollowError> {
        let records = up_to_epoch(records, leader_epoch);
        let held = blocking::read(&self.appending);
        self.check_following(leader_epoch)?;
        let appended = self.log.load().append_replicated(records, now_ms)?;
        drop(held);
        Ok(appended)
    }

    /// Drops the whole log and starts it at `offset`. Blocks on the disk.
    pub fn start_anew_at(&self, leader_epoch: i32, offset: i64) -> Result<(), FollowError> {
        let held = blocking::write(&self.appending);
        self.check_following(leader_epoch)?;
        let dropped: Result<(), LogError> = self.log.load().truncate_fully_and_start_at(offset);
        drop(held);
        self.fetches.wake_all();
        Ok(dropped?)
    }

    /// The leader deleted what lies below `log_start`: so does this replica, as far as it is committed here.
    pub fn follow_log_start(&self, leader_epoch: i32, log_start: i64) -> Result<(), FollowError> {
        let log = self.log.load();
        let target = log_start.min(log.high_watermark());
        if target <= log.log_start_offset() {
            return Ok(());
        }
        let held = blocking::read(&self.appending);
        self.check_following(leader_epoch)?;
        self.log.load().advance_log_start(target)?;
        drop(held);
        self.fetches.wake_all();
        Ok(())
    }

    /// Whether the first batch of an answer begins before an empty log: the leader's log start lies within a batch (DeleteRecords). The log
    /// has to begin where the batch does.
    pub(in crate::replica) fn begins_before(&self, error: &FollowError) -> Option<i64> {
        let log = self.log.load();
        let is_empty = log.log_start_offset() == log.log_end_offset();
        match error {
            FollowError::Append(AppendError::OffsetsOutOfOrder { base_offset, .. }) if is_empty => Some(*base_offset),
            _ => None,
        }
    }
}

/// The batches before the first one of a later epoch. A leader may append in a new epoch between its check of a fetch's epoch and the read:
/// what belongs to an epoch that this replica does not know yet is fetched again in that epoch.
fn up_to_epoch(records: Bytes, leader_epoch: i32) -> Bytes {
    let int_at = |at: usize| -> Option<i32> {
        let bytes = records.get(at..at.checked_add(4)?)?;
        Some(i32::from_be_bytes(bytes.try_into().ok()?))
    };
    let mut at = 0usize;
    while let (Some(length), Some(epoch)) = (int_at(at + LENGTH_AT), int_at(at + EPOCH_AT)) {
        if epoch > leader_epoch {
            return records.slice(..at);
        }
        // A length that is none is found by the log.
        let Ok(length) = usize::try_from(length) else { break };
        at = at.saturating_add(BEFORE_LENGTH).saturating_add(length);
        if at >= records.len() {
            break;
        }
    }
    records
}

#[cfg(test)]
mod tests;
