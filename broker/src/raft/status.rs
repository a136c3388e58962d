//! The state of the metadata quorum in numbers, for metrics.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::metadata::Metadata;
use super::pull::ObserverStatus;

/// See the module. Entries are counted from 1: a log of three entries ends at 3, as the image's offset does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// The term.
    pub term: u64,
    /// Node id of the leader, as far as this node knows.
    pub leader: Option<i32>,
    /// Whether this node leads.
    pub is_leading: bool,
    /// Whether this node votes.
    pub votes: bool,
    /// Entries in the log of this node.
    pub entries: u64,
    /// Entries that are committed, as far as this node knows.
    pub committed: u64,
    /// Entries that are applied to the image.
    pub applied: u64,
    /// Nodes that vote.
    pub voters: usize,
    /// Brokers that follow the log without a vote.
    pub observers: usize,
    /// The members are being changed.
    pub changing: bool,
    /// How often another node than before was seen to lead, or the same one in another term.
    pub leader_changes: u64,
    /// Of the leader alone: entries that each other voter lacks, by node id.
    pub lags: Vec<(i32, u64)>,
    /// Of the leader alone: entries that each observer lacked at its last pull, by node id.
    pub observer_lags: Vec<(i32, u64)>,
}

impl Metadata {
    /// The state now.
    pub fn raft_status(&self) -> RaftStatus {
        let view = self.quorum().borrow().clone();
        let count = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
        let (committed, applied) = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<super::types::LogId>| id.as_ref().map(|id| id.index);
            (count(index(&metrics.local_committed)), count(index(&metrics.last_applied)))
        };
        let voters = view.voters().count();
        let voting: BTreeSet<i32> = view.voters().map(|voter| voter.id.node_id).collect();
        let members = view.members.iter().map(|member| member.id.node_id);
        let brokers = self.image().brokers().map(|broker| broker.node_id).collect::<BTreeSet<i32>>();
        let followers: BTreeSet<i32> = members.chain(brokers).filter(|node_id| !voting.contains(node_id)).collect();
        let observers = if view.is_leading() { self.observers() } else { Vec::new() };
        let is_observer = |observer: &&ObserverStatus| !voting.contains(&observer.id.node_id);
        let others = view.voters().filter(|voter| view.is_leading() && Some(voter.id) != view.own);
        let lag = |entries: Option<u64>| view.entries.saturating_sub(entries.unwrap_or_default());
        RaftStatus {
            term: view.term,
            leader: view.leader.map(|leader| leader.node_id),
            is_leading: view.is_leading(),
            votes: view.own_votes(),
            entries: view.entries,
            committed,
            applied,
            voters,
            observers: followers.len(),
            changing: view.changing,
            leader_changes: self.leader_changes().load(Ordering::Relaxed),
            lags: others.map(|voter| (voter.id.node_id, lag(voter.entries))).collect(),
            observer_lags: observers
                .iter()
                .filter(is_observer)
                .map(|observer| (observer.id.node_id, lag(Some(observer.entries))))
                .collect(),
        }
    }
}
