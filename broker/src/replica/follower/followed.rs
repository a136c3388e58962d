//! What a fetcher knows of the partitions that it fetches: their positions, which of them pause, and what the leader's session has.
//!
//! A request names the partitions whose position is another one than the session has; the cost of a request is that of what moved. A
//! partition that pauses leaves the session: an error of one partition would otherwise be each answer's. Must never: do I/O.

mod throttled;

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
    /// It is far behind, and producers wait for others: see `throttled`.
    Waiting,
    /// What it brought is being flushed.
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
    /// The leader's high watermark, as the last answer gave it; -1 before one.
    leader_end: i64,
    /// It was far behind, and has not been flushed since.
    was_far: bool,
    standing: Standing,
    next_pause: Duration,
}

impl Followed {
    /// Its position now.
    pub(super) fn position(&self) -> Position {
        let log = self.partition.log();
        let offset = log.log_end_offset();
        Position {
            leader_epoch: self.leader_epoch,
            offset,
            flushed: if counts_flushed(&self.partition) { log.durable_offset() } else { -1 },
            // Of the last record: an epoch in which this broker led and wrote nothing is in no other log.
            last_epoch: log.epoch_at(offset.saturating_sub(1)).unwrap_or(-1),
            log_start: log.saved_start_offset(),
        }
    }

    fn must_flush(&self) -> bool {
        must_flush(&self.partition)
    }

    /// Whether the log start has to be made durable before the leader may know it.
    fn has_unsaved_start(&self) -> bool {
        let log = self.partition.log();
        log.saved_start_offset() < log.log_start_offset() && !log.is_offline()
    }
}

fn counts_flushed(partition: &Partition) -> bool {
    matches!(&*partition.role(), Role::Follower(follower) if follower.settings.flush_before_ack)
}

/// Whether records have to be flushed before the next fetch.
pub(super) fn must_flush(partition: &Partition) -> bool {
    let log = partition.log();
    counts_flushed(partition) && log.durable_offset() < log.log_end_offset() && !log.is_offline()
}

/// What catches up shares this broker with producers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    /// This broker.
    pub own: i32,
    /// What all partitions that catch up may bring with an answer.
    pub bytes: i32,
    /// None of them may be named before.
    pub pause_end: Option<Instant>,
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
    /// Those that are throttled while producers wait for others; most often none.
    catching_up: BTreeSet<PartitionId>,
    /// Those that wait until they may catch up, and those that do while producers wait for others.
    waiting: BTreeSet<PartitionId>,
    admitted: BTreeMap<PartitionId, Instant>,
    /// The last that was admitted.
    last_admitted: Option<PartitionId>,
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
        let (standing, next_pause, leader_end) = (Standing::Fetching, FIRST_PAUSE, -1);
        self.by_id.insert(
            id,
            Followed { partition, leader_epoch, sent, named_in, leader_end, was_far: false, standing, next_pause },
        );
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
        self.catching_up.remove(&id);
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

    /// The leader's high watermark in an answer to `from`; returns by how much its log grew since the last one, if this replica was far behind.
    pub(super) fn note_leader_end(&mut self, id: PartitionId, from: i64, leader_end: i64) -> Option<i64> {
        let followed = self.by_id.get_mut(&id)?;
        let before = std::mem::replace(&mut followed.leader_end, leader_end);
        (before > from).then(|| leader_end.saturating_sub(before).max(0))
    }

    /// Another session may be another leader's: where its logs end is not known.
    pub(super) fn forget_leader_ends(&mut self) {
        self.by_id.values_mut().for_each(|followed| followed.leader_end = -1);
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

    /// Partitions whose replica on broker `own` is throttled and not in sync are not fetched before `until`. Whether there are any.
    pub(super) fn hold_back(&mut self, own: i32, until: Instant) -> bool {
        let is_held = |followed: &Followed| {
            let role = followed.partition.role();
            role.is_throttled_as_follower(followed.partition.index()) && !role.is_in_sync(own)
        };
        let held = self.changed.iter().filter(|id| self.by_id.get(id).is_some_and(is_held));
        let held: Vec<_> = held.copied().collect();
        for id in &held {
            self.stop_fetching(*id, Standing::Paused(until));
            self.paused.insert((until, *id));
        }
        !held.is_empty()
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
        self.waiting.remove(&id);
        self.admitted.remove(&id);
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
        let counted = self.changed.iter().filter(|id| !self.admitted.contains_key(id));
        let changed = counted.filter_map(|id| self.by_id.get(id));
        changed.filter(|followed| followed.must_flush()).map(|followed| Arc::clone(&followed.partition)).collect()
    }

    /// Whether an incremental request would name anything.
    pub(super) fn has_news(&mut self) -> bool {
        let (by_id, admitted) = (&self.by_id, &self.admitted);
        self.changed.retain(|id| {
            let must_flush = |followed: &Followed| followed.must_flush() && !admitted.contains_key(id);
            let followed = by_id.get(id);
            followed.is_some_and(|followed| followed.sent != Some(followed.position()) || must_flush(followed))
        });
        !self.changed.is_empty() || !self.forgotten.is_empty()
    }

    /// Whether there is a partition in the session, or one that would enter it.
    pub(super) fn is_fetching(&self) -> bool {
        !self.changed.is_empty() || self.by_id.values().any(|followed| followed.standing == Standing::Fetching)
    }

    /// The partitions that the next request names; the session has their positions from here on.
    pub(super) fn name_changed(&mut self, beside: Option<&Beside>, partition_max_bytes: i32) -> Named {
        let mut named = Named::default();
        self.requests += 1;
        for id in std::mem::take(&mut self.changed) {
            let Some(followed) = self.by_id.get(&id) else { continue };
            let partition_max_bytes = self.bytes_for(followed, beside, partition_max_bytes);
            let Some(followed) = self.by_id.get_mut(&id) else { continue };
            let position = followed.position();
            // It may be followed again since it was taken out.
            self.forgotten.remove(&id);
            // A session that begins names all partitions, also those that are not flushed yet: their flush is news for the next request.
            if followed.must_flush() && !self.admitted.contains_key(&id) {
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
                partition_max_bytes,
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
