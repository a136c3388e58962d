//! The members of the cluster change. A broker is unregistered, its disk is emptied, and it joins again. Voters of the metadata quorum are removed
//! and added. The requests are those of Kafka's tools.
//!
//! An emptied disk is the loss of one replica of everything, which `min.insync.replicas=2` and a quorum of three survive. Therefore a disk is emptied
//! only while all replicas are in sync and the quorum has all its voters.

use std::sync::Arc;
use std::time::Duration;

use esker_broker::raft::QuorumView;
use esker_broker::raft::wire::{RaftVoteRequest, WireLogId, WireVote, WireVoter};
use esker_protocol::Request;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_raft_voter::AddRaftVoterRequest;
use esker_protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use esker_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use esker_protocol::primitives::Uuid;
use tokio::time::sleep;

use super::Nemesis;
use super::second::LATER_VOTE;
use crate::cluster::client::Client;
use crate::cluster::invariants::healing;
use crate::cluster::net::nodes;
use crate::cluster::node::Crash;
use crate::cluster::world::brokers;

/// A node that votes no more.
const GONE: i32 = 77;
/// How long a change is tried.
const PATIENCE_MS: i64 = 4000;

fn node_id_of(node: usize) -> i32 {
    node as i32 + 1
}

impl Nemesis {
    fn quorum(&self) -> Option<QuorumView> {
        brokers(&self.members)
            .iter()
            .map(|broker| broker.metadata.quorum().borrow().clone())
            .find(QuorumView::is_leading)
    }

    /// All replicas are in sync, three nodes or more vote, and there are no other members.
    fn is_complete(&self) -> bool {
        let votes = |view: &QuorumView| view.voters().count() >= 3 && view.members.iter().all(|member| member.votes);
        healing::missing(&brokers(&self.members)).is_none() && self.quorum().is_some_and(|view| votes(&view))
    }

    async fn await_complete(&self) -> bool {
        let deadline = self.lab.ms() + PATIENCE_MS;
        while !self.is_complete() && self.lab.ms() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        self.is_complete()
    }

    /// Sends a request to any node except `but`, until `is_done` accepts the answer; false if time is over.
    async fn command<R: Request>(
        &mut self,
        but: Option<usize>,
        request: &R,
        what: &str,
        is_done: impl Fn(&R::Response) -> (bool, ErrorCode),
    ) -> bool {
        let (mut client, deadline) = (Client::new(&self.lab, "nemesis"), self.lab.ms() + PATIENCE_MS);
        while self.lab.ms() < deadline {
            let nodes: Vec<usize> = (0..nodes()).filter(|node| Some(*node) != but).collect();
            let node = nodes[self.rng.below(nodes.len())];
            if let Some(answer) = client.ask(node, 0, request, what).await {
                let (done, code) = is_done(&answer);
                client.note(&format!("{what} {code:?}"));
                if done {
                    return true;
                }
            }
            self.pass(5, 60).await;
        }
        false
    }

    /// A broker is killed and unregistered, its disk is emptied, and it joins again under its id.
    pub(super) async fn replace_disk(&mut self) {
        if !self.await_complete().await {
            return;
        }
        let node = self.rng.below(nodes());
        self.lab.note(&format!("nemesis: node {node} is to lose its disk"));
        self.with(node, |member, net| member.crash(net, Crash::Kill));
        self.pass(1, 900).await;
        let request = UnregisterBrokerRequest { broker_id: node_id_of(node) };
        let is_done = |code: ErrorCode| (code == ErrorCode::NONE || code == ErrorCode::BROKER_ID_NOT_REGISTERED, code);
        let what = format!("UnregisterBroker {}", request.broker_id);
        if self.command(Some(node), &request, &what, |answer| is_done(answer.error_code)).await {
            self.count("emptied disk", &node.to_string());
            self.with(node, |member, _| member.empty_disk());
        }
        self.start(node);
        if self.rng.chance(40) {
            self.crash_beside().await;
        }
        self.await_complete().await;
    }

    /// Any node is killed while members change.
    async fn crash_beside(&mut self) {
        self.pass(1, 400).await;
        let node = self.rng.below(nodes());
        self.count("crash beside a change of members", &node.to_string());
        self.with(node, |member, net| member.crash(net, Crash::Kill));
        self.pass(1, 400).await;
        self.start(node);
    }

    /// A node without a vote has a later vote than the leader, as one that was a candidate while it was cut off, and was removed meanwhile: it takes
    /// entries of later terms only, and the leader has to see to such a term.
    pub(super) async fn give_later_vote(&mut self) {
        let known = brokers(&self.members);
        let is_observer = |view: &QuorumView| !view.members.is_empty() && !view.own_votes();
        let found = known.iter().find(|broker| is_observer(&broker.metadata.quorum().borrow()));
        let Some(observer) = found.map(|broker| Arc::clone(&broker.metadata)) else { return };
        let view = observer.quorum().borrow().clone();
        // A candidate that is gone since: no node leads in a term before one in which it was a candidate.
        let candidate = WireVoter { node_id: GONE, directory: Uuid([0x55; 16]) };
        let term = view.term as i64 + self.rng.between(1, 2);
        let last = WireLogId { term, leader: candidate.clone(), index: i64::MAX };
        let vote = WireVote { term, candidate, committed: false };
        let asked = RaftVoteRequest { vote, last, transfer: true, pre_vote: false };
        if observer.server().vote(&asked).await.granted {
            self.count(LATER_VOTE, &format!("term {term}"));
        }
    }

    /// A voter is removed, and added again.
    pub(super) async fn change_voters(&mut self) {
        if !self.await_complete().await {
            return;
        }
        let node = self.rng.below(nodes());
        let Some(directory) = self.image().and_then(|image| image.reservation(node_id_of(node))) else { return };
        let remove =
            RemoveRaftVoterRequest { cluster_id: None, voter_id: node_id_of(node), voter_directory_id: directory };
        let is_gone = |code: ErrorCode| (code == ErrorCode::NONE || code == ErrorCode::VOTER_NOT_FOUND, code);
        let what = format!("RemoveRaftVoter {}", remove.voter_id);
        if self.command(None, &remove, &what, |answer| is_gone(answer.error_code)).await {
            self.count("voter removed", &node.to_string());
        }
        match self.rng.below(3) {
            0 => self.crash_beside().await,
            1 => self.strike().await,
            _ => self.pass(1, 800).await,
        }
        let add = AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms: 1500,
            voter_id: node_id_of(node),
            voter_directory_id: directory,
            listeners: Vec::new(),
            ..AddRaftVoterRequest::default()
        };
        let is_there = |code: ErrorCode| (code == ErrorCode::NONE || code == ErrorCode::DUPLICATE_VOTER, code);
        let what = format!("AddRaftVoter {}", add.voter_id);
        if self.command(None, &add, &what, |answer| is_there(answer.error_code)).await {
            self.count("voter added", &node.to_string());
        }
    }
}
