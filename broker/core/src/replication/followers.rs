//! What a leader knows of its followers: how far their logs reach, and which of them are in sync.
//!
//! Two in-sync sets (Kafka's `PartitionState`). The committed ISR is what the controller knows: `min.insync.replicas` is checked against it.
//! The maximal ISR adds the members of a change that is proposed and not answered: the controller may already have taken it. The high
//! watermark waits for every member of the maximal ISR, so that whichever of the two sets the next leader is chosen from, it has every
//! committed record. Must never: drop a member of the maximal ISR before the controller's answer.

use super::ends::{CountedEnd, ReplicaEnds};
use super::high_watermark::{CommitRule, high_watermark};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Follower {
    id: i32,
    ends: ReplicaEnds,
    committed: bool,
    maximal: bool,
}

/// The followers of one partition, in one leader epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followers {
    members: Vec<Follower>,
    /// Members of the committed ISR, the leader included.
    in_sync: usize,
}

impl Followers {
    /// The followers of `leader`, of which nothing is known, with the ISR that the controller knows.
    pub fn new(leader: i32, replicas: &[i32], isr: &[i32]) -> Self {
        let mut members: Vec<Follower> = Vec::with_capacity(replicas.len());
        // A member of the ISR that is no replica counts as one: the high watermark must not pass it.
        for &id in replicas.iter().chain(isr) {
            if id != leader && members.iter().all(|member| member.id != id) {
                let in_sync = isr.contains(&id);
                members.push(Follower { id, ends: ReplicaEnds::UNKNOWN, committed: in_sync, maximal: in_sync });
            }
        }
        Self { members, in_sync: isr.len() }
    }

    /// Takes over what was known `before`, in the same leader epoch. A proposed change of the ISR stays proposed unless the committed
    /// ISR is another one now.
    pub fn continue_from(&mut self, before: &Self) {
        let same_isr = self.in_sync == before.in_sync && self.ids(|f| f.committed).eq(before.ids(|f| f.committed));
        for member in &mut self.members {
            if let Some(known) = before.members.iter().find(|known| known.id == member.id) {
                member.ends = known.ends;
                member.maximal |= same_isr && known.maximal;
            }
        }
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

    /// A change of the ISR is on its way to the controller: the high watermark waits for the members of both sets.
    pub fn propose(&mut self, isr: &[i32]) {
        for member in &mut self.members {
            member.maximal = member.committed || isr.contains(&member.id);
        }
    }

    /// The controller refused the proposed change: only the committed ISR counts.
    pub fn withdraw_proposal(&mut self) {
        for member in &mut self.members {
            member.maximal = member.committed;
        }
    }

    /// No follower holds the high watermark: it follows the leader's own log.
    pub fn is_leader_alone(&self) -> bool {
        self.ids(|member| member.maximal).next().is_none()
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

    fn ids(&self, of: impl Fn(&Follower) -> bool) -> impl Iterator<Item = i32> {
        self.members.iter().filter(move |member| of(member)).map(|member| member.id)
    }
}

#[cfg(test)]
mod tests;
