//! The role of this broker in a partition, as the metadata image gives it.
//!
//! A value that is replaced as a whole; only the leader's state of its followers changes in place. Must never: decide leadership.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use esker_core::replication::{
    CommitRule, CountedEnd, FollowerFetch, Followers, IsrChange, IsrRule, ReplicaEnds, high_watermark,
    preferred_read_replica,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::{AccessError, LeaderHint};
use super::read::ReadFrom;
use super::settings::TopicSettings;

/// The assignment of a partition in the metadata image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Node id of the leader, -1 for none.
    pub leader: i32,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// Replicas, in order of preference.
    pub replicas: Vec<i32>,
    /// The committed ISR: the replicas in sync that the controller knows.
    pub isr: Vec<i32>,
    /// Rises with each change of the partition: what a change of the ISR is compared with.
    pub partition_epoch: i32,
}

impl Assignment {
    fn hint(&self) -> LeaderHint {
        LeaderHint { leader: self.leader, leader_epoch: self.leader_epoch }
    }
}

/// The role of this broker in a partition; replaced whole when the image or the topic's config changes.
#[derive(Debug, Clone)]
pub enum Role {
    /// This broker is the leader and accepts appends.
    Leader(Arc<Leader>),
    /// Another broker leads, or none does.
    Follower(Follower),
    /// This broker has no replica any more: requests that still hold the partition are refused.
    None(NoReplica),
}

/// Why this broker has no replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReplica {
    /// The topic is deleted.
    TopicDeleted,
    /// The partition is on other brokers, or cannot be served here.
    Elsewhere(LeaderHint),
}

/// A replica that does not lead.
#[derive(Debug, Clone)]
pub struct Follower {
    /// From the image.
    pub assignment: Assignment,
    /// The topic's configuration, resolved.
    pub settings: Arc<TopicSettings>,
}

/// A replica that leads, in one leader epoch.
#[derive(Debug)]
pub struct Leader {
    /// From the image.
    pub assignment: Assignment,
    /// The topic's configuration, resolved.
    pub settings: Arc<TopicSettings>,
    pub(super) counted: CountedEnd,
    followers: Mutex<Followers>,
    /// When the leadership began.
    began: Mutex<Instant>,
    /// No follower is in the maximal ISR. Changes only while no append is under way.
    is_alone: AtomicBool,
    /// Log end offset when the leader epoch began.
    epoch_start: AtomicI64,
}

impl Role {
    /// The role of broker `node_id` in a partition that has a replica on it.
    pub fn of(node_id: i32, assignment: Assignment, settings: Arc<TopicSettings>) -> Self {
        if assignment.leader == node_id {
            Self::Leader(Arc::new(Leader::new(assignment, settings)))
        } else {
            Self::Follower(Follower { assignment, settings })
        }
    }

    /// Whether this broker takes appends.
    pub fn is_leader(&self) -> bool {
        matches!(self, Self::Leader(_))
    }

    /// The leader epoch, if this broker leads.
    pub fn leading_epoch(&self) -> Option<i32> {
        match self {
            Self::Leader(leader) => Some(leader.assignment.leader_epoch),
            _ => None,
        }
    }

    /// The assignment in the image; `None` for a partition without a replica here.
    pub fn assignment(&self) -> Option<&Assignment> {
        match self {
            Self::Leader(leader) => Some(&leader.assignment),
            Self::Follower(follower) => Some(&follower.assignment),
            Self::None(_) => None,
        }
    }

    /// Whether the leader's replication quota counts what followers of partition `index` read here.
    pub fn is_throttled_as_leader(&self, index: i32) -> bool {
        matches!(self, Self::Leader(leader) if leader.settings.throttled_as_leader.contains(index))
    }

    /// Whether the follower's replication quota counts what is fetched for partition `index`.
    pub fn is_throttled_as_follower(&self, index: i32) -> bool {
        matches!(self, Self::Follower(follower) if follower.settings.throttled_as_follower.contains(index))
    }

    /// Whether a replica is in the committed ISR.
    pub fn is_in_sync(&self, replica: i32) -> bool {
        self.assignment().is_some_and(|assignment| assignment.isr.contains(&replica))
    }

    /// Whether the ISR of `next` lacks a member that this one's has, in the same leadership.
    pub(super) fn loses_member(&self, next: &Self) -> bool {
        let same = next.is_leader() && self.leading_epoch() == next.leading_epoch();
        let members = self.assignment().map_or(&[][..], |assignment| &assignment.isr);
        same && members.iter().any(|member| !next.is_in_sync(*member))
    }

    /// Whether the replica of broker `own` catches up while enough others are in sync: no producer waits for it.
    pub(super) fn is_catching_up(&self, own: i32) -> bool {
        let Self::Follower(follower) = self else { return false };
        !self.is_in_sync(own) && follower.assignment.isr.len() >= min_in_sync(&follower.settings, &follower.assignment)
    }

    /// The topic's configuration; `None` for a partition without a replica here.
    pub fn settings(&self) -> Option<&Arc<TopicSettings>> {
        match self {
            Self::Leader(leader) => Some(&leader.settings),
            Self::Follower(follower) => Some(&follower.settings),
            Self::None(_) => None,
        }
    }

    /// The current leader, if a client with this `leader_epoch` knows it (`-1`: the client sent none).
    fn check_epoch(&self, leader_epoch: i32) -> Result<LeaderHint, AccessError> {
        let current = match self {
            Self::Leader(leader) => leader.assignment.hint(),
            Self::Follower(follower) => follower.assignment.hint(),
            Self::None(_) => return Err(self.not_leading()),
        };
        if leader_epoch >= 0 && leader_epoch < current.leader_epoch {
            return Err(AccessError::FencedLeaderEpoch { requested: leader_epoch, current });
        }
        if leader_epoch > current.leader_epoch {
            return Err(AccessError::UnknownLeaderEpoch { requested: leader_epoch, current });
        }
        Ok(current)
    }

    /// The leader state, for a client with this `leader_epoch` (`-1`: the client sent none).
    pub(super) fn leader_for_epoch(&self, leader_epoch: i32) -> Result<&Arc<Leader>, AccessError> {
        self.check_epoch(leader_epoch)?;
        match self {
            Self::Leader(leader) => Ok(leader),
            _ => Err(self.not_leading()),
        }
    }

    /// The leader epoch of a replica that serves a read for a client with this `leader_epoch`.
    pub(super) fn epoch_of_read(&self, from: ReadFrom, leader_epoch: i32) -> Result<i32, AccessError> {
        match from {
            ReadFrom::Leader => Ok(self.leader_for_epoch(leader_epoch)?.assignment.leader_epoch),
            ReadFrom::AnyReplica => Ok(self.check_epoch(leader_epoch)?.leader_epoch),
        }
    }

    /// The leader state, if this broker still leads in `leader_epoch`.
    pub(super) fn leader_in_epoch(&self, leader_epoch: i32) -> Result<&Arc<Leader>, AccessError> {
        match self {
            Self::Leader(leader) if leader.assignment.leader_epoch == leader_epoch => Ok(leader),
            _ => Err(self.not_leading()),
        }
    }

    /// Refuses a broker that is no follower of this partition: only a follower may read past the high watermark.
    pub fn check_follower(&self, broker: i32) -> Result<(), AccessError> {
        match self.assignment() {
            Some(assignment) if broker != assignment.leader && assignment.replicas.contains(&broker) => Ok(()),
            _ => Err(self.not_leading()),
        }
    }

    /// Why this broker refuses a request for the leader; for a request from an earlier epoch, the current leader.
    pub(super) fn not_leading(&self) -> AccessError {
        match self {
            Self::Leader(leader) => AccessError::NotLeader(leader.assignment.hint()),
            Self::Follower(follower) => AccessError::NotLeader(follower.assignment.hint()),
            Self::None(NoReplica::Elsewhere(hint)) => AccessError::NotLeader(*hint),
            Self::None(NoReplica::TopicDeleted) => AccessError::UnknownPartition,
        }
    }
}

impl Leader {
    /// A leader without any state of its followers yet.
    pub fn new(assignment: Assignment, settings: Arc<TopicSettings>) -> Self {
        let followers = Followers::new(assignment.leader, &assignment.replicas, &assignment.isr);
        let is_alone = AtomicBool::new(followers.is_leader_alone());
        let followers = Mutex::new(followers);
        let counted = if settings.flush_before_ack { CountedEnd::Flushed } else { CountedEnd::LogEnd };
        let (began, epoch_start) = (Mutex::new(Instant::now()), AtomicI64::new(0));
        Self { assignment, settings, counted, followers, began, is_alone, epoch_start }
    }

    /// Takes over the state of followers from the previous role of the same epoch. Called while no append runs.
    pub(super) fn continue_from(&self, before: &Self) {
        *self.began.lock() = *before.began.lock();
        let known = before.followers.lock();
        let mut followers = self.followers.lock();
        followers.continue_from(&known, self.now_ms());
        if self.assignment.partition_epoch != before.assignment.partition_epoch {
            // A proposal is compared with the partition epoch: it is in this state, or will be refused.
            followers.withdraw_proposal();
        }
        self.is_alone.store(followers.is_leader_alone(), Ordering::Relaxed);
        self.begin_at(before.epoch_start());
    }

    /// The leader epoch begins at this log end offset. Before the role is published.
    pub(super) fn begin_at(&self, log_end: i64) {
        self.epoch_start.store(log_end, Ordering::Relaxed);
    }

    /// Log end offset when the leader epoch began.
    pub fn epoch_start(&self) -> i64 {
        self.epoch_start.load(Ordering::Relaxed)
    }

    /// Records a follower's offsets; see [`Followers::record_ends`].
    pub(super) fn record_ends(&self, follower: i32, ends: ReplicaEnds, log_end: i64) -> bool {
        self.followers.lock().record_ends(follower, ends, log_end)
    }

    /// How far the follower is behind that lacks most; see [`Followers::worst_lag`].
    pub fn worst_lag(&self, log_end: i64) -> (i64, i64) {
        let now_ms = self.now_ms();
        self.followers.lock().worst_lag(log_end, now_ms)
    }

    /// Milliseconds since the leadership began.
    pub(super) fn now_ms(&self) -> i64 {
        i64::try_from(self.began.lock().elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Takes in a follower's fetch; see [`Followers::record_fetch`].
    pub(super) fn record_fetch(&self, fetch: &FollowerFetch, log_end: i64) -> bool {
        let now_ms = self.now_ms();
        self.followers.lock().record_fetch(fetch, self.counted, log_end, now_ms)
    }

    /// The follower that a consumer in `rack` should read `offset` from; see [`preferred_read_replica`].
    pub(super) fn preferred_read_replica(
        &self,
        rack: &str,
        offset: i64,
        is_in_rack: impl Fn(i32, &str) -> bool,
    ) -> Option<i32> {
        let followers = self.followers.lock();
        preferred_read_replica(rack, self.assignment.leader, offset, followers.in_sync(), is_in_rack)
    }

    /// Whether a follower could join the ISR. `rule` is called where the follower is no member.
    pub(super) fn could_join(&self, follower: i32, rule: impl FnOnce() -> IsrRule) -> bool {
        !self.assignment.isr.contains(&follower) && {
            let rule = rule();
            self.followers.lock().could_join(follower, &rule)
        }
    }

    /// What to do about the ISR; see [`Followers::isr_change`].
    pub(super) fn isr_change(&self, rule: &IsrRule, is_eligible: impl Fn(i32, i64) -> bool) -> IsrChange {
        self.followers.lock().isr_change(&self.assignment.isr, rule, is_eligible)
    }

    /// The broker epoch of a follower whose fetches are counted, -1 if none was.
    pub(super) fn broker_epoch_of(&self, follower: i32) -> i64 {
        self.followers.lock().broker_epoch_of(follower)
    }

    /// A change of the ISR is proposed. While no append is under way.
    pub(super) fn propose(&self, isr: &[i32]) {
        let mut followers = self.followers.lock();
        followers.propose(isr);
        self.is_alone.store(followers.is_leader_alone(), Ordering::Relaxed);
    }

    /// The proposed change is refused. While no append is under way.
    pub(super) fn withdraw_proposal(&self) {
        let mut followers = self.followers.lock();
        followers.withdraw_proposal();
        self.is_alone.store(followers.is_leader_alone(), Ordering::Relaxed);
    }

    /// Whether an append alone may move the high watermark: no follower has to fetch first, and no flush has to end.
    pub(super) fn commits_at_append(&self) -> bool {
        !self.counts_flushed() && self.is_alone.load(Ordering::Relaxed)
    }

    /// Whether a flush may move the high watermark.
    pub(super) fn counts_flushed(&self) -> bool {
        self.counted == CountedEnd::Flushed
    }

    /// The new high watermark from `current` and the leader's own offsets. Takes no lock where the leader is alone.
    pub(super) fn high_watermark(&self, current: i64, own: ReplicaEnds) -> i64 {
        let min_in_sync = self.min_in_sync();
        if self.is_alone.load(Ordering::Relaxed) {
            let in_sync = self.assignment.isr.len();
            let rule = CommitRule { current, leader: own, counted: self.counted, in_sync, min_in_sync };
            return high_watermark(rule, []);
        }
        self.followers.lock().high_watermark(current, own, self.counted, min_in_sync)
    }

    /// The low watermark from the leader's own log start; see [`Followers::low_watermark`].
    pub(super) fn low_watermark(&self, own_start: i64, is_alive: impl Fn(i32) -> bool) -> i64 {
        self.followers.lock().low_watermark(own_start, is_alive)
    }

    /// `min.insync.replicas`, capped at the number of replicas.
    pub fn min_in_sync(&self) -> usize {
        min_in_sync(&self.settings, &self.assignment)
    }

    /// Whether too few replicas are in sync for `acks=all`.
    pub(super) fn is_under_min_isr(&self) -> bool {
        self.assignment.isr.len() < self.min_in_sync()
    }
}

/// In-sync replicas that a write needs: no more than there are replicas.
fn min_in_sync(settings: &TopicSettings, assignment: &Assignment) -> usize {
    settings.min_insync_replicas.min(assignment.replicas.len().max(1))
}
