//! The quorum as the rest of the broker sees it: who leads, who is a member and where; and how its members change.
//!
//! A node that does not vote must not be elected either: openraft binds leadership to no vote, so elections are allowed to voters only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, ChangeMembers, Instant as _, Raft, RaftMetrics, ServerState};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::machine::StateMachine;
use super::metadata::Metadata;
use super::types::{RaftId, TypeConfig};

/// A member of the quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub id: RaftId,
    /// Where it is, `host:port`; empty if it never said so.
    pub address: String,
    /// It votes.
    pub votes: bool,
    /// How many entries it has, as far as the leader knows; the leader alone knows it.
    pub entries: Option<u64>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuorumView {
    /// This node.
    pub own: Option<RaftId>,
    /// The leader, as far as this node knows.
    pub leader: Option<RaftId>,
    /// The term.
    pub term: u64,
    /// All members.
    pub members: Vec<Member>,
    /// The members are being changed.
    pub changing: bool,
    /// Entries in the log of this node.
    pub entries: u64,
}

impl QuorumView {
    /// Whether this node leads.
    pub fn is_leading(&self) -> bool {
        self.own.is_some() && self.own == self.leader
    }

    /// Whether this node leads, and there is no other.
    pub fn is_alone(&self) -> bool {
        self.is_leading() && self.members.len() == 1
    }

    /// The voters.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.votes)
    }

    /// One member.
    pub fn member(&self, node_id: i32) -> Option<&Member> {
        self.members.iter().find(|member| member.id.node_id == node_id)
    }

    /// Where the leader is.
    pub fn leader_address(&self) -> Option<&str> {
        let leader = self.leader?;
        let member = self.members.iter().find(|member| member.id == leader)?;
        Some(member.address.as_str()).filter(|address| !address.is_empty())
    }
}

/// Waits until this node leads; false once the quorum's tasks have ended.
pub async fn wait_to_lead(quorum: &mut watch::Receiver<QuorumView>) -> bool {
    let leads = quorum.wait_for(QuorumView::is_leading).await.is_ok();
    // The last view stays after its sender has gone.
    leads && quorum.has_changed().is_ok()
}

fn view_of(own: RaftId, metrics: &RaftMetrics<TypeConfig>) -> QuorumView {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
    let entries = |id: &RaftId| {
        let progress = metrics.replication.as_ref()?.get(id)?;
        Some(progress.as_ref().map_or(0, |last| last.index + 1))
    };
    let member = |(id, at): (&RaftId, &BasicNode)| Member {
        id: *id,
        address: at.addr.clone(),
        votes: voters.contains(id),
        entries: entries(id),
    };
    QuorumView {
        own: Some(own),
        leader: metrics.current_leader,
        term: metrics.current_term,
        members: membership.nodes().map(member).collect(),
        changing: membership.get_joint_config().len() > 1,
        entries: metrics.last_log_index.map_or(0, |index| index + 1),
    }
}

/// Publishes the quorum as it changes, and allows elections to this node while it votes.
pub(super) async fn follow_quorum(raft: Raft<TypeConfig, StateMachine>, own: RaftId, views: watch::Sender<QuorumView>) {
    let mut metrics = raft.metrics();
    let mut elects = false;
    loop {
        let view = view_of(own, &metrics.borrow_watched());
        let votes = view.voters().any(|voter| voter.id == own);
        if votes != elects {
            raft.runtime_config().elect(votes);
            elects = votes;
        }
        views.send_if_modified(|last| {
            let modified = *last != view;
            *last = view;
            modified
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

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
    /// Has a node follow the log without a vote, or records its new address.
    pub async fn add_member(&self, id: RaftId, address: &str, deadline: Instant) -> Result<(), MembershipError> {
        let view = self.quorum().borrow().clone();
        if view.members.iter().any(|member| member.id == id && member.address == address) {
            return Ok(());
        }
        let nodes = BTreeMap::from([(id, BasicNode { addr: address.to_owned() })]);
        let known = view.members.iter().any(|member| member.id == id);
        let change = if known { ChangeMembers::SetNodes(nodes) } else { ChangeMembers::AddNodes(nodes) };
        self.change_members(change, deadline).await
    }

    /// Gives nodes that follow the log a vote.
    pub async fn add_voters(&self, ids: BTreeSet<RaftId>, deadline: Instant) -> Result<(), MembershipError> {
        self.change_members(ChangeMembers::AddVoterIds(ids), deadline).await
    }

    /// Takes a node's vote, and the node out of the quorum.
    pub async fn remove_member(&self, id: RaftId, deadline: Instant) -> Result<(), MembershipError> {
        let ids = BTreeSet::from([id]);
        let votes = self.quorum().borrow().voters().any(|voter| voter.id == id);
        if votes {
            self.change_members(ChangeMembers::RemoveVoters(ids.clone()), deadline).await?;
        }
        self.change_members(ChangeMembers::RemoveNodes(ids), deadline).await
    }

    async fn change_members(
        &self,
        change: ChangeMembers<RaftId, BasicNode>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        // A voter that loses its vote stays a member until it is removed.
        let changed = timeout_at(deadline, self.raft().change_membership(change, true)).await;
        match changed.map_err(|_| MembershipError::TimedOut)? {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(MembershipError::NotLeader(forward.leader_id))
            }
            Err(error) => Err(MembershipError::Refused(error.to_string())),
        }
    }

    /// Hands leadership to another voter, the one with the longest log; true if another node leads by `deadline`.
    pub async fn hand_over(&self, deadline: Instant) -> bool {
        let mut quorum = self.quorum();
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
        timeout_at(deadline, moved).await.is_ok_and(|moved| moved.is_ok())
    }

    /// Whether a quorum has confirmed within `time` that this node leads.
    pub fn has_quorum_within(&self, time: Duration) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return false;
        }
        let alone = metrics.membership_config.membership().voter_ids().count() == 1;
        alone || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < time)
    }
}
