//! A partition on this broker: its log, its role, and its pending requests.
//!
//! Only the metadata image changes the role. An append holds `appending` for reading while it writes, so that a leader that is
//! being demoted finishes the appends it began and starts no more; all other operations take a snapshot of the role and of the log,
//! and never block. Order of locks: `appending`, then a leader's followers, then the log's writer; never the other way round, and
//! none across an await. `appending` is held for writing across fsyncs while the log moves to another dir: an append waits for it
//! off its async worker ([`blocking`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};

use arc_swap::ArcSwap;
use bytes::Bytes;
use esker_core::fetch_session::Slot;
use esker_core::metadata::PartitionId;
use esker_protocol::primitives::Uuid;
use esker_protocol::records::BatchHeader;
use esker_storage::{AppendBatch, Appended, Log, LogError, Origin, ReadError};
use parking_lot::RwLock;

use super::error::{AccessError, FetchError, LeaderHint, ProduceError};
use super::flusher::Flusher;
use super::purgatory::{
    CommitWaiters, DeletionWaiters, EVERYTHING, FetchWaiter, FetchWaiters, Place, Progress, ReadyList,
};
use super::read::{Access, PartitionRead, ReadAt, ReadBound, ReadFrom, read_from, read_offsets, readable_end};
use super::role::{Leader, NoReplica, Role};
use crate::blocking;
use crate::telemetry::TopicRates;

mod commit;
mod deletion;
mod follow;
mod isr;
mod progress;

pub use commit::{Guarantee, PendingCommit};
pub use deletion::PendingDeletion;
pub use isr::{FollowerUpdate, IsrProposal, IsrStep, ReplicaFetch};

/// One partition held by this broker.
#[derive(Debug)]
pub struct Partition {
    topic_id: Uuid,
    topic: Arc<str>,
    index: i32,
    /// Replaced when the log moves to another log dir, while no append is under way.
    log: ArcSwap<Log>,
    rates: TopicRates,
    /// Replaced while no append is under way.
    role: ArcSwap<Role>,
    /// Locked for reading by appends, for writing by changes of the role or of the log.
    appending: RwLock<()>,
    /// The high watermark in the last answer of the leader that this replica follows.
    leader_high_watermark: AtomicI64,
    fetches: FetchWaiters,
    /// There are records above the high watermark whose bytes were not credited to parked consumers.
    uncredited: AtomicBool,
    commits: CommitWaiters,
    deletions: DeletionWaiters,
    flusher: Arc<Flusher>,
    flushes: CommitWaiters,
    /// It is in the flusher's queue.
    flush_queued: AtomicBool,
    /// It is in the flusher's queue of delayed flushes.
    flush_later: AtomicBool,
}

impl Partition {
    /// A partition over its log, with the role from the image.
    pub fn new(
        topic_id: Uuid,
        log: Arc<Log>,
        rates: TopicRates,
        flusher: Arc<Flusher>,
        role: Role,
    ) -> Result<Self, LogError> {
        let partition = Self {
            topic_id,
            topic: Arc::clone(log.topic()),
            index: log.partition(),
            log: ArcSwap::new(log),
            rates,
            role: ArcSwap::from_pointee(Role::None(NoReplica::Elsewhere(LeaderHint { leader: -1, leader_epoch: -1 }))),
            appending: RwLock::new(()),
            leader_high_watermark: AtomicI64::new(0),
            fetches: FetchWaiters::default(),
            uncredited: AtomicBool::new(false),
            commits: CommitWaiters::default(),
            deletions: DeletionWaiters::default(),
            flusher,
            flushes: CommitWaiters::default(),
            flush_queued: AtomicBool::new(false),
            flush_later: AtomicBool::new(false),
        };
        partition.set_role(role)?;
        Ok(partition)
    }

    /// Topic name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Partition number.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// Topic id.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// Which partition of the cluster it is.
    pub fn id(&self) -> PartitionId {
        PartitionId { topic: self.topic_id, partition: self.index }
    }

    /// Its topic's counters.
    pub fn rates(&self) -> &TopicRates {
        &self.rates
    }

    /// Its current log.
    pub fn log(&self) -> Arc<Log> {
        self.log.load_full()
    }

    /// As `log`, but never the old log of a move, which is closed after it was replaced.
    fn log_in_use(&self) -> Arc<Log> {
        let log = self.log();
        if log.is_offline() { self.log() } else { log }
    }

    /// Replaces the log while no append runs: `make` calls its argument with the new log, before the old one is closed. Blocks on
    /// the disk; appends wait meanwhile.
    pub(super) fn replace_log(
        &self,
        make: impl FnOnce(&dyn Fn(&Arc<Log>)) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let appending = blocking::write(&self.appending);
        let made = make(&|log| {
            // The configuration may have changed on the old one meanwhile.
            let role = self.role.load();
            if let Some(settings) = role.settings() {
                log.update_config(settings.log.clone());
            }
            // An epoch without records is in no file.
            if let Role::Leader(leader) = &**role
                && let Err(error) = log.begin_epoch(leader.assignment.leader_epoch)
            {
                tracing::error!(%error, topic = self.topic(), partition = self.index, "a moved log cannot begin its leader epoch");
            }
            self.log.store(Arc::clone(log));
        });
        drop(appending);
        made?;
        self.record_flushed(self.log.load().durable_offset());
        self.fetches.wake_all();
        Ok(())
    }

    /// The current role.
    pub fn role(&self) -> Arc<Role> {
        self.role.load_full()
    }

    /// Whether a replica is in the committed ISR.
    pub fn is_in_sync(&self, replica: i32) -> bool {
        self.role.load().is_in_sync(replica)
    }

    /// Sets a new role. New leadership begins its epoch in the log: in memory only, nothing is written here.
    pub fn set_role(&self, role: Role) -> Result<(), LogError> {
        let held = blocking::write(&self.appending);
        let current = self.role.load_full();
        let log = self.log.load();
        let mut ends = current.is_leader();
        if let Role::Leader(leader) = &role {
            match &*current {
                Role::Leader(before) if before.assignment.leader_epoch >= leader.assignment.leader_epoch => {
                    leader.continue_from(before);
                    ends = false;
                }
                _ => {
                    log.begin_epoch(leader.assignment.leader_epoch)?;
                    leader.begin_at(log.log_end_offset());
                }
            }
        }
        let role = Arc::new(role);
        self.role.store(Arc::clone(&role));
        if let Role::Leader(leader) = &*role
            && self.advance_high_watermark(&held, &log, leader)
        {
            self.commits.release_up_to(log.high_watermark());
        }
        if ends {
            // Before the next append: the pending produces belong to the leadership that ended.
            self.release_writers();
        }
        drop(held);
        self.fetches.wake_all();
        self.deletions.wake_all();
        Ok(())
    }

    /// Ends the role because the topic is deleted: pending requests read again and find that the partition does not exist.
    pub fn close(&self) {
        self.end_role(NoReplica::TopicDeleted);
    }

    /// Ends the role because this broker has no replica any more: pending requests read again and find `why`.
    pub(super) fn end_role(&self, why: NoReplica) {
        let held = blocking::write(&self.appending);
        self.role.store(Arc::new(Role::None(why)));
        self.release_writers();
        drop(held);
        self.fetches.wake_all();
        self.deletions.wake_all();
    }

    /// The leader state, if this broker leads in the client's epoch (`-1`: the client sent none).
    pub fn leader_for_epoch(&self, current_leader_epoch: i32) -> Result<Arc<Leader>, AccessError> {
        self.role.load().leader_for_epoch(current_leader_epoch).cloned()
    }

    /// Refuses a request for a replica if this broker has none.
    pub fn check_replica(&self) -> Result<(), AccessError> {
        self.role.load().epoch_of_read(ReadFrom::AnyReplica, -1).map(|_| ())
    }

    /// Appends one validated batch as leader. Does not wait for anything: see [`Partition::meets_guarantee`].
    pub fn append(
        &self,
        header: &BatchHeader,
        bytes: &Bytes,
        origin: Origin,
        all_in_sync: bool,
        now_ms: i64,
    ) -> Result<Appended, ProduceError> {
        self.append_as_leader(None, header, bytes, origin, all_in_sync, now_ms)
    }

    /// As [`Partition::append`] with `acks=all`, if this broker leads in `leader_epoch`: for what was decided on the log of that epoch.
    pub fn append_in_epoch(
        &self,
        leader_epoch: i32,
        header: &BatchHeader,
        bytes: &Bytes,
        origin: Origin,
        now_ms: i64,
    ) -> Result<Appended, ProduceError> {
        self.append_as_leader(Some(leader_epoch), header, bytes, origin, true, now_ms)
    }

    fn append_as_leader(
        &self,
        required_epoch: Option<i32>,
        header: &BatchHeader,
        bytes: &Bytes,
        origin: Origin,
        all_in_sync: bool,
        now_ms: i64,
    ) -> Result<Appended, ProduceError> {
        let size = bytes.len();
        let held = blocking::read(&self.appending);
        let role = self.role.load();
        let Role::Leader(leader) = &**role else { return Err(role.not_leading().into()) };
        if required_epoch.is_some_and(|epoch| epoch != leader.assignment.leader_epoch) {
            return Err(role.not_leading().into());
        }
        if all_in_sync && leader.is_under_min_isr() {
            return Err(ProduceError::NotEnoughReplicas {
                in_sync: leader.assignment.isr.len(),
                required: leader.min_in_sync(),
            });
        }
        let log = self.log.load();
        let epoch = leader.assignment.leader_epoch;
        let appended = log.append(AppendBatch { header, bytes }, origin, epoch, now_ms)?;
        let moved = leader.commits_at_append() && self.advance_high_watermark(&held, &log, leader);
        drop(held);
        if moved {
            self.commits.release_up_to(log.high_watermark());
        }
        if !appended.duplicate || moved {
            self.wake_fetches(&log, &appended, size, header.attributes.is_control(), moved);
        }
        Ok(appended)
    }

    /// Wakes the fetches for which an append made enough bytes readable. An append credits its own bytes; if the high watermark
    /// lags behind, its next advance wakes all consumers.
    fn wake_fetches(&self, log: &Log, appended: &Appended, size: usize, is_control: bool, moved: bool) {
        let size = if appended.duplicate { 0 } else { i64::try_from(size).unwrap_or(i64::MAX) };
        if log.high_watermark() <= appended.last_offset {
            self.uncredited.store(true, Ordering::SeqCst);
        }
        // Between the published offsets and the check for waiters: see `purgatory`.
        fence(Ordering::SeqCst);
        let committed = log.high_watermark() > appended.last_offset;
        let catches_up = committed && self.uncredited.load(Ordering::SeqCst) && self.settle_uncredited(log);
        if self.fetches.is_empty() {
            return;
        }
        let stable = || log.first_unstable_offset().is_none_or(|offset| offset > appended.base_offset);
        self.fetches.credit(Progress {
            log_end: size,
            moves_high_watermark: moved,
            high_watermark: match committed {
                true if catches_up => EVERYTHING,
                true => size,
                false => 0,
            },
            last_stable: match committed {
                // The end of a transaction may make much more readable than its marker.
                true if catches_up || is_control => EVERYTHING,
                true if stable() => size,
                _ => 0,
            },
        });
    }

    /// Wakes `waiter` when more becomes readable below `bound`. The caller must read the partition again after this call, and call
    /// [`Partition::unpark_fetch`] once.
    pub(super) fn park_fetch(&self, bound: ReadBound, waiter: &Arc<FetchWaiter>) -> Place {
        self.fetches.register(bound, waiter)
    }

    /// Ends a registration of [`Partition::park_fetch`].
    pub(super) fn unpark_fetch(&self, bound: ReadBound, place: Place) {
        self.fetches.leave(bound, place);
    }

    /// Adds this partition to `ready` whenever it moves: see [`super::watch::Watch`], which also ends the registration.
    pub(super) fn watch(&self, ready: &Arc<ReadyList>, slot: Slot, bound: ReadBound) -> Place {
        self.fetches.watch(ready, slot, bound)
    }

    pub(super) fn unwatch(&self, place: Place) {
        self.fetches.unwatch(place);
    }

    /// Fetch sessions that watch this partition.
    pub fn watching_sessions(&self) -> usize {
        self.fetches.watching()
    }

    /// Wakes requests and sessions after a change that the partition does not detect itself.
    pub(super) fn wake_fetchers(&self) {
        self.fetches.wake_all();
    }

    /// Number of pending requests: fetches, and produces.
    pub fn pending_requests(&self) -> (usize, usize) {
        (self.fetches.len(), self.commits.len() + self.flushes.len())
    }

    /// Whether the offsets for a read at `at`, or the leader, have changed since `read`.
    pub(super) fn has_moved_since(&self, at: &ReadAt, read: &PartitionRead) -> bool {
        if self.role.load().epoch_of_read(at.from, read.leader_epoch).is_err() {
            return true;
        }
        let log = self.log.load();
        readable_end(&log, at.bound) != read.up_to
            || log.high_watermark() != read.high_watermark
            || log.log_start_offset() != read.log_start_offset
    }

    /// Reads whole batches. The caller divides its byte budget over partitions; `at_least_one` allows one batch to exceed it.
    /// `None` if `access` does not wait for the disk and the data is not in memory.
    pub fn read(
        &self,
        at: &ReadAt,
        max_bytes: usize,
        at_least_one: bool,
        access: Access,
    ) -> Result<Option<PartitionRead>, FetchError> {
        let leader_epoch = self.role.load().epoch_of_read(at.from, at.current_leader_epoch)?;
        let read = match read_from(&self.log.load(), at, max_bytes, at_least_one, access) {
            // The log moved to another dir: the new log replaced it before it was closed.
            Err(FetchError::Read(ReadError::Closed)) => {
                // Or the topic was deleted meanwhile.
                self.role.load().epoch_of_read(at.from, at.current_leader_epoch)?;
                read_from(&self.log.load(), at, max_bytes, at_least_one, access)
            }
            read => read,
        };
        Ok(read?.map(|read| PartitionRead { leader_epoch, ..read }))
    }

    /// As [`Partition::read`] without records: the reader gets them elsewhere, or later.
    pub(super) fn read_offsets(&self, at: &ReadAt) -> Result<PartitionRead, FetchError> {
        let leader_epoch = self.role.load().epoch_of_read(at.from, at.current_leader_epoch)?;
        let log = self.log.load();
        let read = PartitionRead { leader_epoch, ..read_offsets(&log, at)? };
        let (log_start_offset, log_end_offset) = (read.log_start_offset, log.log_end_offset());
        if read.diverging.is_none() && !(log_start_offset..=log_end_offset).contains(&at.offset) {
            return Err(ReadError::OffsetOutOfRange { offset: at.offset, log_start_offset, log_end_offset }.into());
        }
        Ok(read)
    }

    /// The follower that a consumer in `rack` should read `offset` from instead, if this broker leads.
    pub fn preferred_read_replica(
        &self,
        rack: &str,
        offset: i64,
        is_in_rack: impl Fn(i32, &str) -> bool,
    ) -> Option<i32> {
        match &**self.role.load() {
            Role::Leader(leader) => leader.preferred_read_replica(rack, offset, is_in_rack),
            _ => None,
        }
    }

    /// Refuses an offset below the current log start.
    pub(super) fn check_log_start(&self, offset: i64) -> Result<(), ReadError> {
        let log = self.log.load();
        let log_start_offset = log.log_start_offset();
        if offset < log_start_offset {
            let log_end_offset = log.log_end_offset();
            return Err(ReadError::OffsetOutOfRange { offset, log_start_offset, log_end_offset });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
