//! Changes of the high watermark: by appends, flushes, fetches of followers, and truncation.
//!
//! The high watermark of a partition moves only while `appending` is held, and a log is truncated only while it is held for
//! writing: no thread sets a high watermark that it computed from a log end before a truncation. [`HeldRole`] is the proof. Must
//! never: wake a request before the new high watermark is published.

use std::sync::atomic::{Ordering, fence};

use esker_core::replication::ReplicaEnds;
use esker_storage::{Log, LogError};
use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

use super::Partition;
use crate::blocking;
use crate::replica::error::{AccessError, FollowError};
use crate::replica::purgatory::{EVERYTHING, Progress};
use crate::replica::role::{Leader, Role};

/// Proof that `appending` is held: the role does not change, and the log is not truncated.
pub(super) trait HeldRole {}

impl HeldRole for RwLockReadGuard<'_, ()> {}
impl HeldRole for RwLockWriteGuard<'_, ()> {}

impl Partition {
    /// Moves the high watermark as far as the in-sync replicas allow; true if it moved. The caller wakes the requests.
    pub(super) fn advance_high_watermark(&self, _held: &impl HeldRole, log: &Log, leader: &Leader) -> bool {
        let own = ReplicaEnds { log_end: log.log_end_offset(), flushed: log.durable_offset() };
        let target = leader.high_watermark(log.high_watermark(), own);
        let moved = log.advance_high_watermark(target).is_some();
        debug_assert!(log.high_watermark() <= log.log_end_offset(), "the high watermark is past the log end");
        moved
    }

    /// As [`Partition::advance_high_watermark`], for other causes than an append: then releases the committed produces, and wakes
    /// the consumers. A concurrent append may have left bytes without credit, and their number is unknown: every consumer reads
    /// again.
    pub(super) fn advance_and_wake(&self, held: RwLockReadGuard<'_, ()>, leader: &Leader) -> bool {
        let log = self.log.load();
        let stable = log.last_stable_offset();
        let moved = self.advance_high_watermark(&held, &log, leader);
        drop(held);
        if moved {
            self.wake_consumers(&log, stable);
        }
        moved
    }

    /// Wakes consumers after the high watermark moved without an append; `stable` is the last stable offset before.
    fn wake_consumers(&self, log: &Log, stable: i64) {
        self.commits.release_up_to(log.high_watermark());
        // Between the published high watermark and the check of flags and lists: see `purgatory`.
        fence(Ordering::SeqCst);
        self.settle_uncredited(log);
        let last_stable = if log.last_stable_offset() > stable { EVERYTHING } else { 0 };
        self.fetches.credit(Progress {
            high_watermark: EVERYTHING,
            moves_high_watermark: true,
            last_stable,
            log_end: 0,
        });
    }

    /// Whether bytes without credit are below the high watermark now. Others may still be above it.
    pub(super) fn settle_uncredited(&self, log: &Log) -> bool {
        let uncredited = self.uncredited.swap(false, Ordering::SeqCst);
        if log.high_watermark() < log.log_end_offset() {
            self.uncredited.store(true, Ordering::SeqCst);
        }
        uncredited
    }

    /// Records a follower's fetch from `ends.log_end` in `leader_epoch`, with everything below `ends.flushed` flushed, and advances
    /// the high watermark. True if it moved.
    pub fn update_follower(&self, follower: i32, leader_epoch: i32, ends: ReplicaEnds) -> Result<bool, AccessError> {
        let held = blocking::read(&self.appending);
        let role = self.role.load();
        let leader = role.leader_in_epoch(leader_epoch)?;
        role.check_follower(follower)?;
        let recorded = leader.record_ends(follower, ends, self.log.load().log_end_offset());
        Ok(recorded && self.advance_and_wake(held, leader))
    }

    /// Records that everything below `offset` is flushed: releases the waiting produces, and advances the high watermark if it
    /// depends on flushed offsets.
    pub(super) fn record_flushed(&self, offset: i64) {
        self.flushes.release_up_to(offset);
        if !matches!(&**self.role.load(), Role::Leader(leader) if leader.counts_flushed()) {
            return;
        }
        let held = blocking::read(&self.appending);
        if let Role::Leader(leader) = &**self.role.load() {
            self.advance_and_wake(held, leader);
        }
    }

    /// As a follower in `leader_epoch`: takes over the leader's high watermark, up to the own log end. True if it moved.
    pub fn follow_high_watermark(&self, leader_epoch: i32, high_watermark: i64) -> Result<bool, FollowError> {
        let held = blocking::read(&self.appending);
        self.check_following(leader_epoch)?;
        self.leader_high_watermark.store(high_watermark, Ordering::Relaxed);
        let log = self.log.load();
        let stable = log.last_stable_offset();
        let moved = log.advance_high_watermark(high_watermark).is_some();
        drop(held);
        if moved {
            self.wake_consumers(&log, stable);
        }
        Ok(moved)
    }

    /// Committed records of the leader that this replica lacks, as of the leader's last answer; `None` unless it follows.
    pub fn replication_lag(&self) -> Option<i64> {
        let follows = matches!(&**self.role.load(), Role::Follower(_));
        let behind = || self.leader_high_watermark.load(Ordering::Relaxed) - self.log.load().log_end_offset();
        follows.then(|| behind().max(0))
    }

    /// As a follower in `leader_epoch`: truncates the log to `offset`, and the high watermark with it. Blocks on the disk.
    pub fn truncate_to(&self, leader_epoch: i32, offset: i64) -> Result<(), FollowError> {
        let held = blocking::write(&self.appending);
        self.check_following(leader_epoch)?;
        let log = self.log.load();
        let cut: Result<(), LogError> = log.truncate_to(offset);
        assert!(log.high_watermark() <= log.log_end_offset(), "a truncation left the high watermark past the log end");
        drop(held);
        // Parked fetches hold slices of truncated records.
        self.fetches.wake_all();
        Ok(cut?)
    }

    pub(super) fn check_following(&self, leader_epoch: i32) -> Result<(), FollowError> {
        match &**self.role.load() {
            Role::Follower(follower) if follower.assignment.leader_epoch == leader_epoch => Ok(()),
            _ => Err(FollowError::NotFollowing(leader_epoch)),
        }
    }
}
