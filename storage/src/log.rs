//! One replica's log (API first; being filled in).

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use crate::{
    AbortedTransaction, AppendBatch, AppendError, Appended, EpochEndOffset, LogConfig, LogError, Origin, ProducerInfo,
    ReadError, ReadInfo, RetentionOutcome, TimestampOffset, Uuid,
};

/// One replica's log: `Send + Sync`, one writer at a time (an internal lock), readers without locks.
#[derive(Debug)]
pub struct Log {
    topic: Arc<str>,
    partition: i32,
    topic_id: Uuid,
}

#[allow(unused_variables)]
impl Log {
    /// Topic name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }
    /// Partition number.
    pub fn partition(&self) -> i32 {
        self.partition
    }
    /// Topic id of `partition.metadata`.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }
    /// The log dir (not the partition's folder) it lies in.
    pub fn log_dir(&self) -> PathBuf {
        PathBuf::new()
    }
    /// Current configuration.
    pub fn config(&self) -> Arc<LogConfig> {
        Arc::default()
    }
    /// Replaces the configuration; holds for what comes after.
    pub fn update_config(&self, config: LogConfig) {}

    /// Appends one batch as leader in `leader_epoch`: producer checks, offsets, write, publish. `now_ms` is wall clock.
    pub fn append(
        &self,
        batch: AppendBatch<'_>,
        origin: Origin,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        Err(self.offline())
    }
    /// Appends what was fetched from the leader: whole batches that keep their offsets and epochs (a partial tail is dropped).
    pub fn append_replicated(&self, records: Bytes, now_ms: i64) -> Result<Appended, AppendError> {
        Err(self.offline())
    }
    fn offline(&self) -> AppendError {
        AppendError::Offline { topic: self.topic.to_string(), partition: self.partition }
    }
    /// Whole batches from the one that holds `from` on, all of them ending below `up_to`, at most `max_bytes` together
    /// (the first one may be larger if `at_least_one`). From one segment: ask again for more.
    pub fn read(&self, from: i64, max_bytes: usize, up_to: i64, at_least_one: bool) -> Result<ReadInfo, ReadError> {
        Err(ReadError::Closed)
    }
    /// Whether a read there would find its pages in memory; if not, read on a blocking thread.
    pub fn is_resident(&self, from: i64, max_bytes: usize) -> bool {
        true
    }

    /// First offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        0
    }
    /// Offset of the next record.
    pub fn log_end_offset(&self) -> i64 {
        0
    }
    /// High watermark.
    pub fn high_watermark(&self) -> i64 {
        0
    }
    /// Moves the high watermark up to at most the log end; never down. Returns the old one if it moved.
    pub fn advance_high_watermark(&self, offset: i64) -> Option<i64> {
        None
    }
    /// First offset of the oldest transaction that is open, or finished above the high watermark.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        None
    }
    /// min(high watermark, first unstable offset): where read-committed readers stop.
    pub fn last_stable_offset(&self) -> i64 {
        0
    }
    /// Bytes of all segments' data.
    pub fn size_bytes(&self) -> u64 {
        0
    }
    /// Everything below is on disk.
    pub fn recovery_point(&self) -> i64 {
        0
    }
    /// First record with a timestamp >= `timestamp` (ListOffsets). Reads and may decompress: call it where blocking is allowed.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        Ok(None)
    }
    /// First record with the largest timestamp (ListOffsets -3).
    pub fn max_timestamp_offset(&self) -> Result<Option<TimestampOffset>, ReadError> {
        Ok(None)
    }
    /// End of an epoch as OffsetForLeaderEpoch answers it.
    pub fn epoch_end_offset(&self, leader_epoch: i32) -> EpochEndOffset {
        EpochEndOffset { leader_epoch: -1, end_offset: -1 }
    }
    /// Latest leader epoch that has records here.
    pub fn latest_epoch(&self) -> Option<i32> {
        None
    }
    /// Leader epoch of the record at `offset`.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        None
    }
    /// Tells the log that `leader_epoch` starts at its end (KIP-101; when a replica becomes leader).
    pub fn assign_epoch(&self, leader_epoch: i32) -> Result<(), LogError> {
        Ok(())
    }
    /// Cuts everything at and above `offset` (follower). No-op if the log is shorter.
    pub fn truncate_to(&self, offset: i64) -> Result<(), LogError> {
        Ok(())
    }
    /// Throws everything away and starts anew at `offset` (follower whose leader has no such offsets any more).
    pub fn truncate_fully_and_start_at(&self, offset: i64) -> Result<(), LogError> {
        Ok(())
    }
    /// DeleteRecords: moves the log start up to `offset` (at most the high watermark). Returns the new log start.
    pub fn advance_log_start(&self, offset: i64) -> Result<i64, LogError> {
        Ok(0)
    }
    /// Aborted transactions that overlap `from..up_to`.
    pub fn aborted_transactions(&self, from: i64, up_to: i64) -> Result<Vec<AbortedTransaction>, ReadError> {
        Ok(Vec::new())
    }
    /// Producers with state.
    pub fn producers(&self) -> Vec<ProducerInfo> {
        Vec::new()
    }
    /// Closes the active segment and opens a new one.
    pub fn roll(&self, now_ms: i64) -> Result<(), LogError> {
        Ok(())
    }
    /// Brings everything to disk; returns the recovery point. Blocks.
    pub fn flush(&self) -> Result<i64, LogError> {
        Ok(0)
    }
    /// `flush.ms` has passed for something unflushed.
    pub fn flush_due(&self, now_ms: i64) -> bool {
        false
    }
    /// Deletes segments that are due by time, bytes or log start; rolls an old active one; forgets expired producers.
    pub fn retention_pass(&self, now_ms: i64) -> Result<RetentionOutcome, LogError> {
        Ok(RetentionOutcome::default())
    }
}
