//! Changes of the quorum's members, on the node that leads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, ChangeMembers, Instant as _, ServerState};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::metadata::Metadata;
use super::types::{LogId, RaftId};

/// How long a voter may take to lead that was asked to.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Why the members are not changed.
#[derive(Debug, Clone, Error)]
pub enum MembershipError {
    /// Another node leads, if one does.
    #[error("another node leads the metadata quorum")]
    NotLeader(Option<RaftId>),
    /// The quorum refused.
    #[error("the metadata quorum refuses the change: {0}")]
    Refused(String),
    /// It takes too long. The change may still come.
    #[error("the change of the metadata quorum is not in force in time; it may come later")]
    TimedOut,
}

/// Changes of the members, on the node that leads.
impl Metadata {
    /// Makes a node a member without a vote, or records the new address of a member.
    pub async fn add_member(&self, id: RaftId, address: &str, deadline: Instant) -> Result<(), MembershipError> {
        let view = self.quorum().borrow().clone();
        if view.member(id).is_some_and(|member| *member.address == *address) {
            return Ok(());
        }
        let nodes = BTreeMap::from([(id, BasicNode { addr: address.to_owned() })]);
        let known = view.member(id).is_some();
        let change = if known { ChangeMembers::SetNodes(nodes) } else { ChangeMembers::AddNodes(nodes) };
        self.change_members(change, deadline).await
    }

    /// Makes nodes members without a vote: the leader sends them the log.
    pub async fn add_learners(
        &self,
        nodes: BTreeMap<RaftId, String>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        let nodes = nodes.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        self.change_members(ChangeMembers::AddNodes(nodes), deadline).await
    }

    /// Gives members that have the log a vote.
    pub async fn add_voters(&self, ids: BTreeSet<RaftId>, deadline: Instant) -> Result<(), MembershipError> {
        self.change_members(ChangeMembers::AddVoterIds(ids), deadline).await
    }

    /// Takes a voter's vote. The node stays a member until it is known to pull the log.
    pub async fn remove_voter(&self, id: RaftId, deadline: Instant) -> Result<(), MembershipError> {
        self.change_members(ChangeMembers::RemoveVoters(BTreeSet::from([id])), deadline).await
    }

    /// Gives the vote of one member to another, in one change.
    pub async fn replace_voter(&self, from: RaftId, to: RaftId, deadline: Instant) -> Result<(), MembershipError> {
        let added = ChangeMembers::AddVoterIds(BTreeSet::from([to]));
        let removed = ChangeMembers::RemoveVoters(BTreeSet::from([from]));
        self.change_members(ChangeMembers::Batch(vec![added, removed]), deadline).await
    }

    /// Removes a member that does not vote.
    pub async fn remove_learner(&self, id: RaftId, deadline: Instant) -> Result<(), MembershipError> {
        self.change_members(ChangeMembers::RemoveNodes(BTreeSet::from([id])), deadline).await
    }

    async fn change_members(
        &self,
        change: ChangeMembers<RaftId, BasicNode>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        // A voter that loses its vote stays a member until it is removed.
        let changed = timeout_at(deadline, self.raft().change_membership(change, true)).await;
        match changed.map_err(|_| MembershipError::TimedOut)? {
            Ok(changed) => {
                // The next change is decided on the members as this one leaves them.
                let mut quorum = self.quorum();
                let is_published = quorum.wait_for(|view| view.entries > changed.log_id.index);
                let published = timeout_at(deadline, is_published).await;
                published.map(drop).map_err(|_| MembershipError::TimedOut)
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(MembershipError::NotLeader(forward.leader_id))
            }
            Err(error) => Err(MembershipError::Refused(error.to_string())),
        }
    }

    /// Hands leadership to another voter, the one with the longest log; true if another node leads by `deadline`. Tries again where that one does
    /// not take it.
    pub async fn hand_over(&self, deadline: Instant) -> bool {
        let mut quorum = self.quorum();
        while Instant::now() < deadline {
            let view = quorum.borrow().clone();
            if !view.is_leading() {
                return true;
            }
            let others = view.voters().filter(|voter| Some(voter.id) != view.own);
            let Some(next) = others.max_by_key(|voter| (voter.entries, voter.id)).map(|voter| voter.id) else {
                return false;
            };
            if self.raft().trigger().transfer_leader(next).await.is_err() {
                return false;
            }
            let moved = quorum.wait_for(|view| view.leader.is_some() && !view.is_leading());
            match timeout_at(deadline.min(Instant::now() + HAND_OVER), moved).await {
                Ok(moved) => return moved.is_ok(),
                Err(_) => tracing::debug!(%next, "a voter does not take over the metadata quorum"),
            }
        }
        false
    }

    /// Whether this node leads and has applied an entry of its own term: the image has all that was committed before, and no change of the
    /// members by an earlier leader is open.
    pub fn has_applied_own_term(&self) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let own_term = |id: &LogId| id.committed_leader_id().term == metrics.current_term;
        metrics.state == ServerState::Leader && metrics.last_applied.as_ref().is_some_and(own_term)
    }

    /// How long ago each other member last answered this leader; nothing on a node that does not lead.
    pub fn last_contacts(&self) -> BTreeMap<RaftId, Duration> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let contacts = metrics.heartbeat.iter().flatten();
        contacts.filter_map(|(id, at)| Some((*id, at.as_ref()?.elapsed()))).collect()
    }

    /// How long this node has led; zero on one that does not.
    pub fn leads_for(&self) -> Duration {
        self.server().pulls().leads_for()
    }

    /// Whether a quorum has confirmed within `time` that this node leads, and the image here has all that was committed before it did: a leader
    /// that was just elected would take brokers for unknown.
    pub fn leads_within(&self, time: Duration) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return false;
        }
        let own_term = |id: &LogId| id.committed_leader_id().term == metrics.current_term;
        if !metrics.last_applied.as_ref().is_some_and(own_term) {
            return false;
        }
        let alone = metrics.membership_config.membership().voter_ids().count() == 1;
        alone || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < time)
    }
}
