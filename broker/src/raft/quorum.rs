//! The quorum as the rest of the broker sees it: who leads, who is a member and where; and how its members change.
//!
//! A node that does not vote must not be elected either: openraft binds leadership to no vote, so elections are allowed to voters only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, Raft, RaftMetrics};
use tokio::sync::watch;
use tokio::time::Instant;

use super::machine::StateMachine;
use super::types::{RaftId, TypeConfig};
use crate::telemetry::QuorumMetrics;

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
    pub fn member(&self, id: RaftId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The members with one node id: more than one after the node lost its disk.
    pub fn members_of(&self, node_id: i32) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.id.node_id == node_id)
    }

    /// Where the leader is.
    pub fn leader_address(&self) -> Option<&str> {
        let member = self.member(self.leader?)?;
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

/// What is counted while the quorum is followed.
pub(super) struct Observed {
    pub(super) leader_changes: Arc<AtomicU64>,
    pub(super) metrics: Arc<QuorumMetrics>,
}

/// Publishes the quorum as it changes, and allows elections to this node while it votes.
pub(super) async fn follow_quorum(
    raft: Raft<TypeConfig, StateMachine>,
    own: RaftId,
    views: watch::Sender<QuorumView>,
    observed: Observed,
) {
    let mut metrics = raft.metrics();
    let mut elects = false;
    let mut last_leader = None;
    let mut leaderless_since = None;
    loop {
        let view = view_of(own, &metrics.borrow_watched());
        let leader = view.leader.map(|leader| (leader, view.term));
        if leader.is_some() && leader != last_leader {
            last_leader = leader;
            observed.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        match (leader, leaderless_since) {
            (None, None) => leaderless_since = Some(Instant::now()),
            (Some(_), Some(since)) => {
                leaderless_since = None;
                observed.metrics.record_election(Instant::now().saturating_duration_since(since));
            }
            _ => {}
        }
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
