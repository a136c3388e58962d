//! What a fetcher knows of the partitions that it fetches: their positions, which of them pause, and what the leader's session has.
//!
//! A request names the partitions whose position is another one than the session has; the cost of a request is that of what moved. A
//! partition that pauses leaves the session: an error of one partition would otherwise be each answer's. Must never: do I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use esker_core::metadata::PartitionId;
use esker_core::replication::wire::{ForgottenPartitions, ReplicaFetchPartition, ReplicaFetchTopic};
use esker_protocol::primitives::Uuid;
use tokio::time::Instant;

use crate::replica::partition::Partition;
use crate::replica::role::Role;

/// The first pause after an error.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Bytes that partitions which catch up bring with one answer, all together, beside others.
const CATCH_UP: i32 = 1 << 20;
/// The least that one of them asks for.
const CATCH_UP_EACH: i32 = 64 << 10;

/// How far a partition's log reaches, as the request to the leader reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub leader_epoch: i32,
    pub offset: i64,
    /// -1 where only the log end counts.
    pub flushed: i64,
    pub last_epoch: i32,
    /// As far as it is durable: the leader acknowledges deletions by it.
    pub log_start: i64,
}

/// Whether a partition is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Fetching,
    Paused(Instant),
    /// What it brought is being flushed: see [`FollowedPartitions::take_catching_up`].
    Flushing,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Followed {
    pub partition: Arc<Partition>,
    pub leader_epoch: i32,
    /// What the session has; `None`: the partition is not in it.
    pub sent: Option<Position>,
    /// The request that named this position. Answers to earlier ones are to earlier positions.
    named_in: u64,
    standing: Standing,
    next_pause: Duration,
}

impl Followed {
    /// Its position now.
    pub(super) fn position(&self) -> Position {
        let log = self.partition.log();
        let role = self.partition.role();
        let flushes = matches!(&*role, Role::Follower(follower) if follower.settings.flush_before_ack);
        let offset = log.log_end_offset();
        Position {
            leader_epoch: self.leader_epoch,
            offset,
            flushed: if flushes { log.durable_offset() } else { -1 },
            // Of the last record: an epoch in which this broker led and wrote nothing is in no other log.
            last_epoch: log.epoch_at(offset.saturating_sub(1)).unwrap_or(-1),
            log_start: log.saved_start_offset(),
        }
    }

    /// Whether records have to be flushed before the next fetch.
    pub(super) fn must_flush(&self) -> bool {
        let position = self.position();
        (0..position.offset).contains(&position.flushed) && !self.partition.log().is_offline()
    }

    /// Whether the log start has to be made durable before the leader may know it.
    fn has_unsaved_start(&self) -> bool {
        let log = self.partition.log();
        log.saved_start_offset() < log.log_start_offset() && !log.is_offline()
    }
}

/// The partitions that one request names.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub topics: Vec<ReplicaFetchTopic>,
    pub forgotten: Vec<ForgottenPartitions>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct FollowedPartitions {
    by_id: BTreeMap<PartitionId, Followed>,
    /// Partitions whose position may have changed since the last request.
    changed: BTreeSet<PartitionId>,
    paused: BTreeSet<(Instant, PartitionId)>,
    /// Partitions whose last answer was an error.
    failing: BTreeSet<PartitionId>,
    /// Partitions whose log start is not durable.
    unsaved: BTreeSet<PartitionId>,
    /// Partitions to be taken out of the session.
    forgotten: BTreeSet<PartitionId>,
    /// Requests so far, and answers to them in their order.
    requests: u64,
    answers: u64,
}

impl FollowedPartitions {
    /// Follows a partition in a leader epoch, from here on.
    pub(super) fn add_partition(&mut self, partition: Arc<Partition>, leader_epoch: i32) {
        let id = partition.id();
        let (sent, named_in) = self.by_id.get(&id).map_or((None, 0), |followed| (followed.sent, followed.named_in));
        self.unpause(id);
        let (standing, next_pause) = (Standing::Fetching, FIRST_PAUSE);
        self.by_id.insert(id, Followed { partition, leader_epoch, sent, named_in, standing, next_pause });
        self.failing.remove(&id);
        self.note_change(id);
    }

    /// The position of a partition may be another one than the session has.
    fn note_change(&mut self, id: PartitionId) {
        let Some(followed) = self.by_id.get(&id) else { return };
        if followed.has_unsaved_start() {
            self.unsaved.insert(id);
        }
        if followed.standing == Standing::Fetching {
            self.changed.insert(id);
        }
    }

    /// Follows it no more.
    pub(super) fn remove_partition(&mut self, id: PartitionId) {
        self.unpause(id);
        self.changed.remove(&id);
        self.unsaved.remove(&id);
        self.failing.remove(&id);
        if self.by_id.remove(&id).is_some_and(|followed| followed.sent.is_some()) {
            self.forgotten.insert(id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The next answer is looked at from here on.
    pub(super) fn begin_answer(&mut self) {
        self.answers += 1;
    }

    /// The partition, if the answer that is looked at is to where its log ends now.
    pub(super) fn awaited(&mut self, id: PartitionId) -> Option<(Arc<Partition>, i32)> {
        let followed = self.by_id.get(&id)?;
        let sent = followed.sent?;
        let is_current = followed.named_in <= self.answers
            && sent.leader_epoch == followed.leader_epoch
            && sent.offset == followed.partition.log().log_end_offset();
        is_current.then(|| (Arc::clone(&followed.partition), followed.leader_epoch))
    }

    /// The partition was fetched, or cut: its position may be another one.
    pub(super) fn note_progress(&mut self, id: PartitionId) {
        if let Some(followed) = self.by_id.get_mut(&id) {
            followed.next_pause = FIRST_PAUSE;
            self.failing.remove(&id);
            self.note_change(id);
        }
    }

    /// The partitions whose log starts have to be made durable. The caller calls [`FollowedPartitions::note_saved`] with them.
    pub(super) fn take_unsaved(&mut self) -> Vec<Arc<Partition>> {
        let taken = std::mem::take(&mut self.unsaved);
        taken.iter().filter_map(|id| Some(Arc::clone(&self.by_id.get(id)?.partition))).collect()
    }

    /// An attempt to make their log starts durable has ended: the next request reports those that are, the others are tried again.
    pub(super) fn note_saved(&mut self, partitions: &[Arc<Partition>]) {
        partitions.iter().for_each(|partition| self.note_change(partition.id()));
    }

    /// How many partitions had an error as their last answer.
    pub(super) fn failing(&self) -> usize {
        self.failing.len()
    }

    /// The partition is not fetched for a while; for longer with each error in a row. True for the first of them.
    pub(super) fn pause(&mut self, id: PartitionId, now: Instant, longest: Duration) -> bool {
        let Some(followed) = self.by_id.get_mut(&id) else { return false };
        let is_first = followed.next_pause == FIRST_PAUSE;
        let until = now + followed.next_pause.min(longest.max(FIRST_PAUSE));
        followed.next_pause = (followed.next_pause * 2).min(longest.max(FIRST_PAUSE));
        self.stop_fetching(id, Standing::Paused(until));
        self.paused.insert((until, id));
        self.failing.insert(id);
        is_first
    }

    /// Partitions whose replica on broker `own` is throttled and not in sync are not fetched before `until`.
    pub(super) fn hold_back(&mut self, own: i32, until: Instant) {
        let is_held = |followed: &Followed| {
            let role = followed.partition.role();
            role.is_throttled_as_follower(followed.partition.index()) && !role.is_in_sync(own)
        };
        let held = self.changed.iter().filter(|id| self.by_id.get(id).is_some_and(is_held));
        for id in held.copied().collect::<Vec<_>>() {
            self.stop_fetching(id, Standing::Paused(until));
            self.paused.insert((until, id));
        }
    }

    /// Partitions that broker `own` is not in sync with, and whose records have to be flushed before they are reported: the producers of others
    /// must not wait for this flush. They are not fetched until the caller calls [`FollowedPartitions::note_flushed`] with them.
    pub(super) fn take_catching_up(&mut self, own: i32) -> Vec<Arc<Partition>> {
        let is_lagging = |followed: &&Followed| !followed.partition.role().is_in_sync(own) && followed.must_flush();
        let lagging = self.changed.iter().filter_map(|id| self.by_id.get(id)).filter(is_lagging);
        let taken: Vec<_> = lagging.map(|followed| Arc::clone(&followed.partition)).collect();
        taken.iter().for_each(|partition| self.stop_fetching(partition.id(), Standing::Flushing));
        taken
    }

    /// An attempt to flush them has ended: they are fetched again.
    pub(super) fn note_flushed(&mut self, partitions: &[Arc<Partition>]) {
        for id in partitions.iter().map(|partition| partition.id()) {
            if let Some(followed) = self.by_id.get_mut(&id).filter(|followed| followed.standing == Standing::Flushing) {
                followed.standing = Standing::Fetching;
                self.changed.insert(id);
            }
        }
    }

    fn stop_fetching(&mut self, id: PartitionId, standing: Standing) {
        self.unpause(id);
        self.changed.remove(&id);
        let Some(followed) = self.by_id.get_mut(&id) else { return };
        followed.standing = standing;
        if followed.sent.take().is_some() {
            self.forgotten.insert(id);
        }
    }

    fn unpause(&mut self, id: PartitionId) {
        if let Some(Standing::Paused(until)) = self.by_id.get(&id).map(|followed| followed.standing) {
            self.paused.remove(&(until, id));
        }
    }

    /// When the first pause ends.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.paused.first().map(|(until, _)| *until)
    }

    /// Ends the pauses that are over at `now`; all of them without a time.
    pub(super) fn end_pauses(&mut self, now: Option<Instant>) {
        while let Some((until, id)) = self.paused.first().copied()
            && now.is_none_or(|now| until <= now)
        {
            self.paused.pop_first();
            if let Some(followed) = self.by_id.get_mut(&id) {
                followed.standing = Standing::Fetching;
                self.changed.insert(id);
            }
        }
    }

    /// The session is gone: the next request names everything.
    pub(super) fn forget_session(&mut self) {
        self.forgotten.clear();
        self.answers = self.requests;
        for (id, followed) in &mut self.by_id {
            followed.sent = None;
            if followed.standing == Standing::Fetching {
                self.changed.insert(*id);
            }
        }
    }

    /// Partitions that have to be flushed before the next request reports them.
    pub(super) fn unflushed(&self) -> Vec<Arc<Partition>> {
        let changed = self.changed.iter().filter_map(|id| self.by_id.get(id));
        changed.filter(|followed| followed.must_flush()).map(|followed| Arc::clone(&followed.partition)).collect()
    }

    /// Whether an incremental request would name anything; with `Some(own)` what broker `own` is in sync with, or anything that is left.
    pub(super) fn has_news(&mut self, in_sync: Option<i32>) -> bool {
        let by_id = &self.by_id;
        self.changed.retain(|id| {
            let followed = by_id.get(id);
            followed.is_some_and(|followed| followed.sent != Some(followed.position()) || followed.must_flush())
        });
        let counts = |id: &PartitionId| {
            in_sync.is_none_or(|own| by_id.get(id).is_some_and(|followed| followed.partition.role().is_in_sync(own)))
        };
        !self.forgotten.is_empty() || self.changed.iter().any(counts)
    }

    /// Whether there is a partition in the session, or one that would enter it.
    pub(super) fn is_fetching(&self) -> bool {
        !self.changed.is_empty() || self.by_id.values().any(|followed| followed.standing == Standing::Fetching)
    }

    /// How many bytes a partition may bring that broker `own` is not in sync with. What catches up shares the answers with what producers wait
    /// for: beside that, all of it together brings little at a time.
    fn catch_up_bytes(&self, own: i32, partition_max_bytes: i32) -> i32 {
        let is_lagging = |followed: &&Followed| !followed.partition.role().is_in_sync(own);
        let lagging = self.changed.iter().filter_map(|id| self.by_id.get(id)).filter(is_lagging).count();
        let share = CATCH_UP / i32::try_from(lagging.max(1)).unwrap_or(i32::MAX);
        share.max(CATCH_UP_EACH).min(partition_max_bytes)
    }

    /// The partitions that the next request names; the session has their positions from here on. With `Some(own)` those that broker `own` is not
    /// in sync with bring little.
    pub(super) fn name_changed(&mut self, beside: Option<i32>, partition_max_bytes: i32) -> Named {
        let mut named = Named::default();
        self.requests += 1;
        let catch_up_bytes = beside.map(|own| (own, self.catch_up_bytes(own, partition_max_bytes)));
        for id in std::mem::take(&mut self.changed) {
            let Some(followed) = self.by_id.get_mut(&id) else { continue };
            let position = followed.position();
            // It may be followed again since it was taken out.
            self.forgotten.remove(&id);
            // A session that begins names all partitions, also those that are not flushed yet: their flush is news for the next request.
            if followed.must_flush() {
                self.changed.insert(id);
            }
            if followed.sent == Some(position) {
                continue;
            }
            followed.sent = Some(position);
            followed.named_in = self.requests;
            let partition = ReplicaFetchPartition {
                partition: id.partition,
                current_leader_epoch: position.leader_epoch,
                fetch_offset: position.offset,
                flushed_offset: position.flushed,
                last_fetched_epoch: position.last_epoch,
                log_start_offset: position.log_start,
                partition_max_bytes: match catch_up_bytes {
                    Some((own, bytes)) if !followed.partition.role().is_in_sync(own) => bytes,
                    _ => partition_max_bytes,
                },
            };
            match named.topics.last_mut() {
                Some(topic) if topic.topic_id == id.topic => topic.partitions.push(partition),
                _ => named.topics.push(ReplicaFetchTopic { topic_id: id.topic, partitions: vec![partition] }),
            }
        }
        let mut forgotten: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for id in std::mem::take(&mut self.forgotten) {
            forgotten.entry(id.topic).or_default().push(id.partition);
        }
        let forgotten = forgotten.into_iter();
        named.forgotten =
            forgotten.map(|(topic_id, partitions)| ForgottenPartitions { topic_id, partitions }).collect();
        named
    }
}

#[cfg(test)]
mod tests;
