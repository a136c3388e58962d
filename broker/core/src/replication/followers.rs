//! What a leader knows of its followers: how far their logs reach, and which of them are in sync.
//!
//! Two in-sync sets (Kafka's `PartitionState`). The committed ISR is what the controller knows: `min.insync.replicas` is checked against it.
//! The maximal ISR adds the members of a change that is proposed and not answered: the controller may already have taken it. The high
//! watermark waits for every member of the maximal ISR, so that whichever of the two sets the next leader is chosen from, it has every
//! committed record. Must never: drop a member of the maximal ISR before the controller's answer.

use super::deletion::{FollowerStart, low_watermark};
use super::ends::{CountedEnd, ReplicaEnds};
use super::high_watermark::{CommitRule, high_watermark};
use super::isr::{FetchTimes, IsrChange, IsrRule};
use super::read_replica::InSyncFollower;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Follower {
    id: i32,
    /// Its log start offset; -1 if it is not known.
    log_start: i64,
    ends: ReplicaEnds,
    committed: bool,
    maximal: bool,
    times: FetchTimes,
    /// Of the broker that fetched last; -1 if none did.
    broker_epoch: i64,
}

/// A follower's fetch, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerFetch {
    /// The follower.
    pub id: i32,
    /// Its broker epoch (KIP-903).
    pub broker_epoch: i64,
    /// Its log start offset.
    pub log_start: i64,
    /// How far its log reaches.
    pub ends: ReplicaEnds,
}

/// The followers of one partition, in one leader epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followers {
    members: Vec<Follower>,
    /// Members of the committed ISR, the leader included.
    in_sync: usize,
    /// A change of the ISR is proposed and not answered.
    is_pending: bool,
}

impl Followers {
    /// The followers of `leader`, of which nothing is known, with the ISR that the controller knows.
    pub fn new(leader: i32, replicas: &[i32], isr: &[i32]) -> Self {
        let mut members: Vec<Follower> = Vec::with_capacity(replicas.len());
        // A member of the ISR that is no replica counts as one: the high watermark must not pass it.
        for &id in replicas.iter().chain(isr) {
            if id != leader && members.iter().all(|member| member.id != id) {
                let in_sync = isr.contains(&id);
                let times = FetchTimes::new(in_sync);
                let ends = ReplicaEnds::UNKNOWN;
                let (committed, maximal) = (in_sync, in_sync);
                members.push(Follower { id, log_start: -1, ends, committed, maximal, times, broker_epoch: -1 });
            }
        }
        Self { members, in_sync: isr.len(), is_pending: false }
    }

    /// Takes over what was known `before`, in the same leader epoch, at `now_ms`. A proposed change of the ISR stays proposed unless the committed
    /// ISR is another one now.
    pub fn continue_from(&mut self, before: &Self, now_ms: i64) {
        let same_isr = self.in_sync == before.in_sync && self.ids(|f| f.committed).eq(before.ids(|f| f.committed));
        for member in &mut self.members {
            if let Some(known) = before.members.iter().find(|known| known.id == member.id) {
                (member.log_start, member.ends) = (known.log_start, known.ends);
                member.maximal |= same_isr && known.maximal;
                member.times = known.times;
                member.broker_epoch = known.broker_epoch;
                if member.committed && !known.committed {
                    // It joins now, and has the full time to be caught up.
                    member.times.note_caught_up(now_ms);
                }
            }
        }
        self.is_pending = same_isr && before.is_pending;
    }

    /// Takes in a follower's ends as its fetch reports them. False, and nothing changes, if the broker is no follower, or if its log
    /// reaches past the leader's own: such a log diverges and is about to be truncated.
    pub fn record_ends(&mut self, id: i32, ends: ReplicaEnds, leader_log_end: i64) -> bool {
        let member = self.members.iter_mut().find(|member| member.id == id);
        match member.filter(|_| ends.log_end <= leader_log_end) {
            Some(member) => {
                // A log has nothing on disk past its end.
                member.ends = ReplicaEnds { flushed: ends.flushed.min(ends.log_end), ..ends };
                true
            }
            None => false,
        }
    }

    /// Takes in a follower's fetch at `now_ms`. False as for [`Followers::record_ends`].
    pub fn record_fetch(
        &mut self,
        fetch: &FollowerFetch,
        counted: CountedEnd,
        leader_log_end: i64,
        now_ms: i64,
    ) -> bool {
        // A request that was on its way while the broker registered anew.
        let is_late = |member: &Follower| member.id == fetch.id && member.broker_epoch > fetch.broker_epoch;
        if self.members.iter().any(is_late) || !self.record_ends(fetch.id, fetch.ends, leader_log_end) {
            return false;
        }
        if let Some(member) = self.members.iter_mut().find(|member| member.id == fetch.id) {
            member.times.record(member.ends.counted(counted), leader_log_end, now_ms);
            (member.log_start, member.broker_epoch) = (fetch.log_start, fetch.broker_epoch);
        }
        true
    }

    /// Whether the follower is out of the maximal ISR and could join it, if its broker is eligible.
    pub fn could_join(&self, id: i32, rule: &IsrRule) -> bool {
        let member = self.members.iter().find(|member| member.id == id);
        let may_join = |member: &Follower| rule.may_join(member.ends.counted(rule.counted), member.log_start);
        member.is_some_and(|member| !member.maximal && may_join(member))
    }

    /// What to do about the committed ISR `isr`. `is_eligible` says of a broker, and the broker epoch of its last fetch, whether it may be in
    /// sync.
    pub fn isr_change(&mut self, isr: &[i32], rule: &IsrRule, is_eligible: impl Fn(i32, i64) -> bool) -> IsrChange {
        let (mut changed, mut is_blocked) = (false, false);
        let mut proposed = isr.to_vec();
        for member in &mut self.members {
            let end = member.ends.counted(rule.counted);
            if end >= rule.leader_end {
                member.times.note_caught_up(rule.now_ms);
            }
            if member.committed {
                if member.times.is_lagging(rule.now_ms, rule.max_lag_ms) {
                    proposed.retain(|id| *id != member.id);
                    changed = true;
                }
            } else if rule.may_join(end, member.log_start) {
                if is_eligible(member.id, member.broker_epoch) {
                    proposed.push(member.id);
                    changed = true;
                } else {
                    is_blocked = true;
                }
            }
        }
        match (changed, self.is_pending || is_blocked) {
            (true, _) if self.is_pending => IsrChange::Later,
            (true, _) => IsrChange::Propose(proposed),
            (false, true) => IsrChange::Later,
            (false, false) => IsrChange::None,
        }
    }

    /// A change of the ISR is on its way to the controller: the high watermark waits for the members of both sets.
    pub fn propose(&mut self, isr: &[i32]) {
        for member in &mut self.members {
            member.maximal = member.committed || isr.contains(&member.id);
        }
        self.is_pending = true;
    }

    /// The controller refused the proposed change: only the committed ISR counts.
    pub fn withdraw_proposal(&mut self) {
        for member in &mut self.members {
            member.maximal = member.committed;
        }
        self.is_pending = false;
    }

    /// No follower holds the high watermark: it follows the leader's own log.
    pub fn is_leader_alone(&self) -> bool {
        self.ids(|member| member.maximal).next().is_none()
    }

    /// The broker epoch of a follower's last fetch, -1 if it has not fetched.
    pub fn broker_epoch_of(&self, id: i32) -> i64 {
        self.members.iter().find(|member| member.id == id).map_or(-1, |member| member.broker_epoch)
    }

    /// The followers in the committed ISR.
    pub fn in_sync(&self) -> impl Iterator<Item = InSyncFollower> {
        self.members.iter().filter(|member| member.committed).map(|member| InSyncFollower {
            id: member.id,
            log_start: member.log_start,
            log_end: member.ends.log_end,
            caught_up_ms: member.times.caught_up_ms(),
        })
    }

    /// How far the follower is behind that lacks most, in records and in ms, at `now_ms`: zeros where none lacks anything. A follower that was
    /// never caught up in this leadership is behind since its start.
    pub fn worst_lag(&self, leader_log_end: i64, now_ms: i64) -> (i64, i64) {
        let behind = self.members.iter().filter(|member| member.ends.log_end < leader_log_end);
        behind.fold((0, 0), |(records, ms), member| {
            let lacks = leader_log_end - member.ends.log_end.max(0);
            (records.max(lacks), ms.max(now_ms.saturating_sub(member.times.caught_up_ms().max(0))))
        })
    }

    /// What is known of one follower.
    pub fn ends_of(&self, id: i32) -> Option<ReplicaEnds> {
        self.members.iter().find(|member| member.id == id).map(|member| member.ends)
    }

    /// The high watermark that follows from `current` and the leader's own ends.
    pub fn high_watermark(&self, current: i64, leader: ReplicaEnds, counted: CountedEnd, min_in_sync: usize) -> i64 {
        let rule = CommitRule { current, leader, counted, in_sync: self.in_sync, min_in_sync };
        high_watermark(rule, self.members.iter().filter(|member| member.maximal).map(|member| member.ends))
    }

    /// The low watermark that follows from the leader's own log start; see [`low_watermark`].
    pub fn low_watermark(&self, leader_start: i64, is_alive: impl Fn(i32) -> bool) -> i64 {
        let start = |member: &Follower| FollowerStart {
            log_start: member.log_start,
            is_alive: is_alive(member.id),
            is_in_sync: member.maximal,
        };
        low_watermark(leader_start, self.members.iter().map(start))
    }

    fn ids(&self, of: impl Fn(&Follower) -> bool) -> impl Iterator<Item = i32> {
        self.members.iter().filter(move |member| of(member)).map(|member| member.id)
    }
}

#[cfg(test)]
mod isr_tests;
#[cfg(test)]
mod tests;
