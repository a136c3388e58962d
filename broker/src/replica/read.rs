//! A read of one partition's log: its bound and its result.
//!
//! The result includes the offsets that the read saw (its bound, the log start): a waiting fetch compares only with these.

use esker_storage::{EpochEndOffset, Log, ReadInfo};

use super::error::FetchError;

/// The upper bound of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBound {
    /// Consumers: committed records.
    HighWatermark,
    /// Consumers with `isolation.level=read_committed`: records below the first open transaction.
    LastStable,
    /// Followers: all records.
    LogEnd,
}

/// One partition's records and offsets, as a fetch answer carries them.
#[derive(Debug, Clone)]
pub struct PartitionRead {
    /// The records, and where they begin and end.
    pub info: ReadInfo,
    /// High watermark.
    pub high_watermark: i64,
    /// Last stable offset.
    pub last_stable_offset: i64,
    /// Log start offset.
    pub log_start_offset: i64,
    /// The bound at the time of the read, which a waiting fetch compares with.
    pub up_to: i64,
    /// The leader epoch of the read.
    pub leader_epoch: i32,
    /// Set when the client's log and ours parted (KIP-595 style truncation): no records then.
    pub diverging: Option<EpochEndOffset>,
}

/// Which replicas serve a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The leader: for followers, and for consumers whose version of Fetch knows no preferred replica.
    Leader,
    /// Any replica (KIP-392).
    AnyReplica,
}

/// The position of a read in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadAt {
    /// First requested offset.
    pub offset: i64,
    /// The client's current leader epoch, -1 for none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record the client has, -1 for none.
    pub last_fetched_epoch: i32,
    /// The upper bound of the read.
    pub bound: ReadBound,
    /// Which replicas serve it.
    pub from: ReadFrom,
}

/// How a read handles data that is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The read returns nothing; for async workers.
    Resident,
    /// The read loads it; for blocking threads.
    Load,
}

/// The current offset of the bound.
pub(super) fn readable_end(log: &Log, bound: ReadBound) -> i64 {
    match bound {
        ReadBound::HighWatermark => log.high_watermark(),
        ReadBound::LastStable => log.last_stable_offset(),
        ReadBound::LogEnd => log.log_end_offset(),
    }
}

/// Reads from a log, without a check of leadership.
pub(super) fn read_from(
    log: &Log,
    at: &ReadAt,
    max_bytes: usize,
    at_least_one: bool,
    access: Access,
) -> Result<Option<PartitionRead>, FetchError> {
    let mut read = read_offsets(log, at)?;
    if read.diverging.is_none() {
        let info = match access {
            Access::Resident => log.read_resident(at.offset, max_bytes, read.up_to, at_least_one)?,
            Access::Load => Some(log.read_cold(at.offset, max_bytes, read.up_to, at_least_one)?),
        };
        let Some(info) = info else { return Ok(None) };
        read.info = info;
    }
    Ok(Some(read))
}

/// The offsets of a read without its records.
pub(super) fn read_offsets(log: &Log, at: &ReadAt) -> Result<PartitionRead, FetchError> {
    let high_watermark = log.high_watermark();
    let last_stable_offset = log.last_stable_offset().min(high_watermark);
    let up_to = match at.bound {
        ReadBound::HighWatermark => high_watermark,
        ReadBound::LastStable => last_stable_offset,
        ReadBound::LogEnd => log.log_end_offset(),
    };
    Ok(PartitionRead {
        info: ReadInfo { first_offset: at.offset, next_offset: at.offset, ..ReadInfo::default() },
        high_watermark,
        last_stable_offset,
        log_start_offset: log.log_start_offset(),
        up_to,
        leader_epoch: -1,
        diverging: divergence(log, at)?,
    })
}

/// KIP-320: where the client's log parts from ours, if its last fetched epoch says that it does.
pub(super) fn divergence(log: &Log, at: &ReadAt) -> Result<Option<EpochEndOffset>, FetchError> {
    if at.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = log.epoch_end_offset(at.last_fetched_epoch);
    if end.end_offset < 0 || end.leader_epoch < 0 {
        return Err(FetchError::UndefinedEpoch(at.last_fetched_epoch));
    }
    let parted = end.leader_epoch < at.last_fetched_epoch || end.end_offset < at.offset;
    Ok(parted.then_some(end))
}
