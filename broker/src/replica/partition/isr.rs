//! The in-sync replicas of a partition that this broker leads: fetches of followers come in, proposals for the controller go out.
//!
//! A proposal changes which followers the high watermark waits for, so it is made and withdrawn while no append is under way. Must never:
//! count a fetch of a follower whose log diverges from the leader's.

use std::time::Duration;

use esker_core::replication::{FollowerFetch, IsrChange, IsrRule};
use esker_storage::Log;

use super::Partition;
use crate::blocking;
use crate::replica::error::FetchError;
use crate::replica::read::{ReadAt, ReadBound, ReadFrom, divergence};
use crate::replica::role::{Leader, Role};

/// One partition of a follower's fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaFetch {
    /// The follower and its ends.
    pub follower: FollowerFetch,
    /// The leader epoch that the follower knows.
    pub leader_epoch: i32,
    /// The epoch of its last record, -1 if it has none.
    pub last_fetched_epoch: i32,
}

/// What a follower's fetch led to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FollowerUpdate {
    /// The high watermark moved.
    pub moved: bool,
    /// The follower is out of the ISR, and has what a member must have.
    pub could_join: bool,
}

/// A change of the ISR that the controller is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrProposal {
    /// The leader epoch that it is made in.
    pub leader_epoch: i32,
    /// The partition epoch that it is based on.
    pub partition_epoch: i32,
    /// The ISR.
    pub isr: Vec<i32>,
    /// The broker epochs whose fetches were counted, in the order of the ISR; -1 where none was. A member of another incarnation may lack what
    /// the counted one had (KIP-903).
    pub epochs: Vec<i64>,
    /// It is smaller than the one that the controller knows.
    pub shrinks: bool,
}

/// Whether there is something to propose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IsrStep {
    /// Nothing to do.
    None,
    /// Look again when the metadata changes.
    Later,
    /// Ask the controller.
    Propose(IsrProposal),
}

impl Partition {
    /// Takes in a follower's fetch. It counts only if the follower's log is a prefix of this one: the end of a log that diverges says nothing
    /// of which records the follower has.
    pub fn record_fetch(&self, fetch: &ReplicaFetch) -> Result<FollowerUpdate, FetchError> {
        let held = blocking::read(&self.appending);
        let role = self.role.load();
        role.leader_for_epoch(fetch.leader_epoch)?;
        let leader = role.leader_in_epoch(fetch.leader_epoch)?;
        role.check_follower(fetch.follower.id)?;
        let log = self.log.load();
        let offset = fetch.follower.ends.log_end;
        let at = ReadAt {
            offset,
            current_leader_epoch: fetch.leader_epoch,
            last_fetched_epoch: fetch.last_fetched_epoch,
            bound: ReadBound::LogEnd,
            from: ReadFrom::Leader,
        };
        let in_range = (log.log_start_offset()..=log.log_end_offset()).contains(&offset);
        if !in_range || divergence(&log, &at)?.is_some() {
            return Ok(FollowerUpdate::default());
        }
        let recorded = leader.record_fetch(&fetch.follower, log.log_end_offset());
        if recorded {
            self.deletions.wake_all();
        }
        let moved = recorded && self.advance_and_wake(held, leader);
        let could_join = recorded && leader.could_join(fetch.follower.id, || isr_rule(&log, leader, Duration::MAX));
        Ok(FollowerUpdate { moved, could_join })
    }

    /// Whether the ISR should change; from a proposal on the high watermark waits for the members of both sets.
    pub(in crate::replica) fn propose_isr(&self, max_lag: Duration, is_eligible: impl Fn(i32, i64) -> bool) -> IsrStep {
        // A follower that is lagging or may join shows without the lock that stops appends.
        let role = self.role.load_full();
        let Role::Leader(leader) = &*role else { return IsrStep::None };
        let look = |leader: &Leader| leader.isr_change(&isr_rule(&self.log.load(), leader, max_lag), &is_eligible);
        match look(leader) {
            IsrChange::None => return IsrStep::None,
            IsrChange::Later => return IsrStep::Later,
            IsrChange::Propose(_) => {}
        }
        let _held = blocking::write(&self.appending);
        let role = self.role.load();
        let Role::Leader(leader) = &**role else { return IsrStep::None };
        match look(leader) {
            IsrChange::None => IsrStep::None,
            IsrChange::Later => IsrStep::Later,
            IsrChange::Propose(isr) => {
                leader.propose(&isr);
                let (leader_epoch, partition_epoch) =
                    (leader.assignment.leader_epoch, leader.assignment.partition_epoch);
                let epochs = isr.iter().map(|id| leader.broker_epoch_of(*id)).collect();
                let shrinks = isr.len() < leader.assignment.isr.len();
                IsrStep::Propose(IsrProposal { leader_epoch, partition_epoch, isr, epochs, shrinks })
            }
        }
    }

    /// Whether the partition is still in the state that the proposal is based on.
    pub(in crate::replica) fn is_current(&self, proposal: &IsrProposal) -> bool {
        matches!(&**self.role.load(), Role::Leader(leader) if is_based_on(leader, proposal))
    }

    /// The controller refused the proposal, or took it without a change: only the committed ISR counts. Where the metadata has moved on
    /// since, the proposal ended with that.
    pub(in crate::replica) fn withdraw_isr(&self, proposal: &IsrProposal) {
        let held = blocking::write(&self.appending);
        if let Role::Leader(leader) = &**self.role.load()
            && is_based_on(leader, proposal)
        {
            leader.withdraw_proposal();
        }
        drop(held);
        let held = blocking::read(&self.appending);
        if let Role::Leader(leader) = &**self.role.load() {
            self.advance_and_wake(held, leader);
        }
    }

    /// Whether this broker leads with other replicas.
    pub(in crate::replica) fn leads_followers(&self) -> bool {
        matches!(&**self.role.load(), Role::Leader(leader) if leader.assignment.replicas.len() > 1)
    }
}

fn is_based_on(leader: &Leader, proposal: &IsrProposal) -> bool {
    leader.assignment.leader_epoch == proposal.leader_epoch
        && leader.assignment.partition_epoch == proposal.partition_epoch
}

fn isr_rule(log: &Log, leader: &Leader, max_lag: Duration) -> IsrRule {
    // The end of every older epoch: where this one begins.
    let epoch_start = log.epoch_end_offset(leader.assignment.leader_epoch.saturating_sub(1)).end_offset;
    IsrRule {
        // Before the high watermark: it is never past a log end that was read later.
        leader_end: log.log_end_offset(),
        high_watermark: log.high_watermark(),
        epoch_start,
        log_start: log.log_start_offset(),
        counted: leader.counted,
        now_ms: leader.now_ms(),
        max_lag_ms: i64::try_from(max_lag.as_millis()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests;
