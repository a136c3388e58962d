//! The quorum as the rest of the broker sees it: which node leads, which nodes are members and where.
//!
//! A node that does not vote must not be elected either: openraft binds leadership to no vote, so elections are allowed to voters only. Brokers that
//! are no members pull the log ([`super::pull`]); a view does not have them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{Raft, RaftMetrics};
use tokio::sync::watch;
use tokio::time::Instant;

use super::machine::StateMachine;
use super::types::{LogId, RaftId, TypeConfig};
use crate::telemetry::QuorumMetrics;

/// A member of the quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub id: RaftId,
    /// Where it is, `host:port`; empty if it never said so.
    pub address: Arc<str>,
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

    /// Whether this node is the only member. Other brokers may pull the log from it.
    pub fn is_only_member(&self) -> bool {
        matches!(self.members.as_slice(), [only] if Some(only.id) == self.own)
    }

    /// Whether this node leads, and no other could.
    pub fn is_alone(&self) -> bool {
        self.is_leading() && self.is_only_member()
    }

    /// Whether this node votes.
    pub fn own_votes(&self) -> bool {
        self.voters().any(|voter| Some(voter.id) == self.own)
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
        Some(&*member.address).filter(|address| !address.is_empty())
    }

    /// Whether another node leads than in an earlier view, or the same one in another term.
    pub fn has_other_leader(&self, before: &Self) -> bool {
        self.leader.is_some() && (self.leader != before.leader || self.term != before.term)
    }
}

/// Which node leads, as far as this one knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leadership {
    /// The leader.
    pub leader: Option<RaftId>,
    /// The term.
    pub term: u64,
    /// When this node learned it.
    pub since: Instant,
}

impl Leadership {
    /// Nothing is known yet.
    pub(super) fn unknown() -> Self {
        Self { leader: None, term: 0, since: Instant::now() }
    }
}

/// Waits until this node leads; false once the quorum's tasks have ended.
pub async fn wait_to_lead(quorum: &mut watch::Receiver<QuorumView>) -> bool {
    let leads = quorum.wait_for(QuorumView::is_leading).await.is_ok();
    // The last view stays after its sender has gone.
    leads && quorum.has_changed().is_ok()
}

/// The members as the log names them last, kept until it names others: addresses are not copied with each change of the metrics.
#[derive(Default)]
struct MemberTable {
    at: Option<LogId>,
    members: Vec<Member>,
}

impl MemberTable {
    fn update(&mut self, metrics: &RaftMetrics<TypeConfig>) {
        let (at, membership) = (metrics.membership_config.log_id(), metrics.membership_config.membership());
        // Members without a place in the log are none.
        if self.at == *at && at.is_some() {
            return;
        }
        let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
        let member = |(id, node): (&RaftId, &openraft::BasicNode)| Member {
            id: *id,
            address: Arc::from(node.addr.as_str()),
            votes: voters.contains(id),
            entries: None,
        };
        *self = Self { at: *at, members: membership.nodes().map(member).collect() };
    }

    fn view(&mut self, own: RaftId, metrics: &RaftMetrics<TypeConfig>) -> QuorumView {
        self.update(metrics);
        let entries = |id: &RaftId| {
            let progress = metrics.replication.as_ref()?.get(id)?;
            Some(progress.as_ref().map_or(0, |last| last.index + 1))
        };
        let members = self.members.iter().map(|member| Member { entries: entries(&member.id), ..member.clone() });
        QuorumView {
            own: Some(own),
            leader: metrics.current_leader,
            term: metrics.current_term,
            members: members.collect(),
            changing: metrics.membership_config.membership().get_joint_config().len() > 1,
            entries: metrics.last_log_index.map_or(0, |index| index + 1),
        }
    }
}

/// What is published and counted while the quorum is followed.
pub(super) struct Observed {
    pub(super) views: watch::Sender<QuorumView>,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) leader_changes: Arc<AtomicU64>,
    pub(super) metrics: Arc<QuorumMetrics>,
}

/// Publishes the quorum as it changes, and allows elections to this node while it votes. A leader without other members needs no ticks: nobody
/// waits for its heartbeats, and nobody else can be elected. An idle broker alone does not wake a hundred times a second for them.
pub(super) async fn follow_quorum(raft: Raft<TypeConfig, StateMachine>, own: RaftId, observed: Observed) {
    let mut metrics = raft.metrics();
    let mut table = MemberTable::default();
    let (mut elects, mut ticking) = (false, true);
    let mut last_leader = None;
    let mut leaderless_since = None;
    loop {
        let view = table.view(own, &metrics.borrow_watched());
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
        observed.leadership.send_if_modified(|last| {
            let modified = (last.leader, last.term) != (view.leader, view.term);
            if modified {
                *last = Leadership { leader: view.leader, term: view.term, since: Instant::now() };
            }
            modified
        });
        let votes = view.own_votes();
        if votes != elects {
            raft.runtime_config().elect(votes);
            elects = votes;
        }
        let ticks = !view.is_alone();
        if ticks != ticking {
            raft.runtime_config().tick(ticks);
            ticking = ticks;
        }
        observed.views.send_if_modified(|last| {
            let modified = *last != view;
            *last = view;
            modified
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
