//! Pending produces: they wait for the high watermark, for a flush, or for the end of their leader epoch.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker_storage::Log;

use super::Partition;
use crate::replica::error::ProduceError;
use crate::replica::flusher::FlushTarget;
use crate::replica::purgatory::CommitGate;
use crate::replica::role::Role;

/// The conditions for the acknowledgment of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarantee {
    /// It is below the high watermark (`acks=all`).
    pub committed: bool,
    /// It is flushed on this broker (topic config `durability=flush` with `acks=all`; `flush.messages`).
    pub on_disk: bool,
}

impl Partition {
    /// The guarantee of `acks=all`.
    pub fn full_guarantee(&self) -> Guarantee {
        // Without a replica here, nothing is acknowledged: `meets_guarantee` refuses.
        let on_disk = self.role.load().settings().is_none_or(|settings| settings.flush_before_ack);
        Guarantee { committed: true, on_disk }
    }

    /// Whether `guarantee` holds for everything below `offset`, in the leader epoch it was written in.
    pub fn meets_guarantee(&self, guarantee: Guarantee, offset: i64, leader_epoch: i32) -> Result<bool, ProduceError> {
        let role = self.role.load();
        let leader = role.leader_in_epoch(leader_epoch)?;
        let log = self.log_in_use();
        if guarantee.on_disk && log.durable_offset() < offset {
            return if log.is_offline() { Err(ProduceError::NotFlushed) } else { Ok(false) };
        }
        if guarantee.committed {
            if log.high_watermark() < offset {
                return Ok(false);
            }
            if leader.is_under_min_isr() {
                return Err(ProduceError::NotEnoughReplicasAfterAppend);
            }
        }
        Ok(true)
    }

    /// Releases `gate` once `guarantee` holds for everything below `offset`, or when it can no longer hold here: this broker no
    /// longer leads in the epoch that the records were written in. The registration ends with the guard.
    #[must_use = "the registration ends when this is dropped"]
    pub fn park_commit(
        self: &Arc<Self>,
        guarantee: Guarantee,
        offset: i64,
        leader_epoch: i32,
        gate: &Arc<CommitGate>,
    ) -> PendingCommit {
        let pending = PendingCommit { partition: Arc::clone(self), offset, gate: Arc::clone(gate) };
        self.flusher.foreground().note();
        if guarantee.committed {
            gate.require_release();
            self.commits.register(offset, Arc::clone(gate));
            self.commits.release_up_to(self.log.load().high_watermark());
        }
        // After the other one: a flush that fails ends both.
        if guarantee.on_disk {
            gate.require_release();
            self.flushes.register(offset, Arc::clone(gate));
            self.flushes.release_up_to(self.log.load().durable_offset());
            self.flush_soon();
        }
        // A role that ended before the registration released nothing here.
        if self.role.load().leader_in_epoch(leader_epoch).is_err() {
            for waiters in [&self.commits, &self.flushes] {
                if waiters.leave(offset, gate) {
                    gate.release();
                }
            }
        }
        gate.release();
        pending
    }

    /// Releases `gate` once everything below `offset` is flushed, under any leader, or once it cannot be. The caller requests the flush.
    #[must_use = "the registration ends when this is dropped"]
    pub(in crate::replica) fn park_flush(self: &Arc<Self>, offset: i64, gate: &Arc<CommitGate>) -> PendingCommit {
        gate.require_release();
        self.flushes.register(offset, Arc::clone(gate));
        self.flushes.release_up_to(self.log.load().durable_offset());
        PendingCommit { partition: Arc::clone(self), offset, gate: Arc::clone(gate) }
    }

    /// Flushes everything in the log with the next round.
    pub fn flush_soon(self: &Arc<Self>) {
        self.flusher.request_flush(self);
    }

    /// Flushes the log and releases the waiting produces. Blocks.
    pub(crate) fn flush(&self) {
        // Before the flush reads the log end: a request from here on is queued again.
        self.flush_queued.store(false, Ordering::SeqCst);
        let log = self.log();
        let flushed = log.flush().or_else(|error| {
            // The log may have moved to another dir meanwhile.
            let now = self.log();
            if Arc::ptr_eq(&log, &now) { Err(error) } else { now.flush() }
        });
        match flushed {
            Ok(_) => self.record_flushed(self.log.load().durable_offset()),
            Err(error) => {
                tracing::error!(topic = self.topic(), partition = self.index(), %error, "records cannot be flushed; their producers get an error");
                self.release_unflushed();
            }
        }
    }

    /// Ends every wait for a flush, which failed. Such a write may wait for the high watermark, too: it needs both, and gets an error now.
    fn release_unflushed(&self) {
        for (offset, gate) in self.flushes.take_all() {
            gate.release();
            if self.commits.leave(offset, &gate) {
                gate.release();
            }
        }
    }

    /// Fails every pending produce: its leader epoch has ended.
    pub(super) fn release_writers(&self) {
        self.commits.release_all();
        self.flushes.release_all();
    }
}

impl Partition {
    /// Requests a flush of appended records without a waiting producer, if consumers may read them only once they are durable.
    pub fn flush_unawaited(self: &Arc<Self>) {
        if !self.counts_flushed() {
            return;
        }
        if self.fetches.is_empty() {
            self.flusher.request_flush_later(self);
        } else {
            self.flush_soon();
        }
    }

    /// Requests a flush for a consumer that has read all readable records: the rest becomes readable with the next round.
    pub(in crate::replica) fn flush_unread(self: &Arc<Self>) {
        if self.awaits_flush() {
            self.flush_soon();
        }
    }

    /// Whether records become readable by a flush.
    pub fn awaits_flush(&self) -> bool {
        let log = self.log.load();
        let end = log.log_end_offset();
        log.high_watermark() < end && log.durable_offset() < end && self.counts_flushed() && !log.is_offline()
    }

    fn counts_flushed(&self) -> bool {
        matches!(&**self.role.load(), Role::Leader(leader) if leader.counts_flushed())
    }
}

impl FlushTarget for Partition {
    fn enqueue_later(&self) -> bool {
        !self.flush_later.swap(true, Ordering::SeqCst)
    }

    fn leave_later(&self) {
        self.flush_later.store(false, Ordering::SeqCst);
    }

    fn enqueue_flush(&self) -> bool {
        !self.flush_queued.swap(true, Ordering::SeqCst)
    }

    fn is_in(&self, log_dir: &Path) -> bool {
        self.log.load().log_dir() == log_dir
    }

    fn begin_flush(&self) -> Option<Arc<Log>> {
        self.flush_queued.store(false, Ordering::SeqCst);
        Some(self.log())
    }

    fn end_flush(&self) {
        self.record_flushed(self.log.load().durable_offset());
    }

    fn start_flush(&self) {
        self.log().start_flush();
    }

    fn flush(&self) {
        Self::flush(self);
    }
}

/// The registration of a pending produce with a partition; it ends when this is dropped.
#[derive(Debug)]
pub struct PendingCommit {
    partition: Arc<Partition>,
    offset: i64,
    gate: Arc<CommitGate>,
}

impl Drop for PendingCommit {
    fn drop(&mut self) {
        // An open gate was released by every list that it was in.
        if !self.gate.is_open() {
            self.partition.commits.leave(self.offset, &self.gate);
            self.partition.flushes.leave(self.offset, &self.gate);
        }
    }
}
