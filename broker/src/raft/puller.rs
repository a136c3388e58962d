//! The side of an observer: this node pulls the committed metadata log while it is no voter, and takes the entries in as if the leader had sent them.
//!
//! The leader is asked; where it does not answer, or does not lead any more, the voters in turn, each of which waits until it knows the next leader;
//! and where no voter answers at the address that this node's log has, the nodes of the `--join` list. A voter pulls, too, once no leader has sent
//! it anything for a while: its vote may have been taken while it was away. Pulled entries are committed, so it does no harm that the leader sends
//! the same entries. Must never: wait without a deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::Message;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Reader, Uuid};
use futures_util::future::join_all;
use openraft::Raft;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::machine::StateMachine;
use super::metadata::Metadata;
use super::pull::{
    MAX_PULL_WAIT, RaftPullRequest, RaftPullResponse, RaftPullSnapshotRequest, RaftPullSnapshotResponse,
};
use super::quorum::QuorumView;
use super::server::RaftServer;
use super::types::{LogId, RaftId, TypeConfig};
use super::wire::{
    RaftAppendRequest, RaftSnapshotRequest, WireError, WireVote, id_of, log_id_of, wire_log_id, wire_vote,
};
use crate::node::Node;
use crate::peer::messages::IdentifyRequest;
use crate::peer::{Lane, LocalNode, PeerError, PeerLink, ask};
use crate::telemetry::RepeatLimiter;

/// How long an answer may take beyond the wait that the request allows.
const PATIENCE: Duration = Duration::from_millis(1000);
/// A voter that has received nothing from a leader for so long pulls.
const SILENT: Duration = Duration::from_millis(1000);
/// After all nodes that may know the leader were asked in vain.
const AGAIN: Duration = Duration::from_millis(100);
/// After entries that were not taken in.
const REFUSED: Duration = Duration::from_millis(20);
/// How long a node of the `--join` list may take to say which one it is.
const IDENTIFY: Duration = Duration::from_millis(500);
/// How long a piece of a snapshot may take.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);

/// Why a pull brought nothing.
#[derive(Debug, Error)]
enum PullFailure {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the receiver answers {0}")]
    Code(ErrorCode),
    #[error("the leader has another history than the metadata log of this node")]
    Diverged,
    #[error("the metadata log of this node does not take the entries ({0})")]
    Refused(String),
}

/// A node that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    id: RaftId,
    address: String,
    /// The term in which it is believed to lead; `None` for a node that may know the leader.
    leads: Option<u64>,
}

/// What to do next.
enum Next {
    /// The view must change first.
    Wait,
    /// A leader sends to this node, or did a moment ago.
    Pause(Duration),
    Pull,
}

/// See the module.
pub(super) struct Puller {
    node: Node,
    local: Arc<LocalNode>,
    raft: Raft<TypeConfig, StateMachine>,
    server: Arc<RaftServer>,
    quorum: watch::Receiver<QuorumView>,
    links: BTreeMap<RaftId, Arc<PeerLink>>,
    /// A leader that an answer named.
    hint: Option<Target>,
    /// The leader that did not answer, and its term.
    unreachable: Option<(RaftId, u64)>,
    /// The leader whose connection ended, and its term: a new connection is tried once.
    lost: Option<(RaftId, u64)>,
    /// Nodes that were asked in vain since the last answer of a leader.
    tried: usize,
    /// Up to where pulled entries were taken in.
    position: Option<LogId>,
    /// The start, for a voter that no leader has sent anything yet.
    started: Instant,
    refusals: RepeatLimiter,
}

/// Pulls until the quorum's tasks have ended.
pub(super) async fn run_puller(mut puller: Puller) {
    loop {
        let view = puller.quorum.borrow_and_update().clone();
        match puller.next(&view) {
            Next::Wait => {
                if puller.quorum.changed().await.is_err() {
                    return;
                }
            }
            Next::Pause(pause) => {
                if let Ok(Err(_)) = timeout(pause, puller.quorum.changed()).await {
                    return;
                }
            }
            Next::Pull => {
                if puller.pull(&view).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The quorum's tasks have ended.
struct Ended;

impl Puller {
    pub(super) fn new(node: &Node, local: &Arc<LocalNode>, metadata: &Metadata) -> Self {
        Self {
            node: node.clone(),
            local: Arc::clone(local),
            raft: metadata.raft().clone(),
            server: Arc::clone(metadata.server()),
            quorum: metadata.quorum(),
            links: BTreeMap::new(),
            hint: None,
            unreachable: None,
            lost: None,
            tried: 0,
            position: None,
            started: Instant::now(),
            refusals: RepeatLimiter::default(),
        }
    }

    fn next(&self, view: &QuorumView) -> Next {
        if view.own.is_none() || view.is_leading() || view.is_only_member() {
            return Next::Wait;
        }
        if !view.own_votes() {
            return Next::Pull;
        }
        let silent = self.server.silent_for().unwrap_or_else(|| self.started.elapsed());
        match SILENT.checked_sub(silent).filter(|left| !left.is_zero()) {
            Some(left) => Next::Pause(left),
            None => Next::Pull,
        }
    }

    /// The node to ask next: the leader, as long as it answers; then another voter in turn.
    fn target(&self, view: &QuorumView) -> Option<Target> {
        let is_reachable = |target: &Target| self.unreachable != target.leads.map(|term| (target.id, term));
        let leader = view.leader.filter(|leader| Some(*leader) != view.own);
        let known = leader.zip(view.leader_address()).map(|(id, address)| Target {
            id,
            address: address.to_owned(),
            leads: Some(view.term),
        });
        // Without a known leader the term is only that of this node's vote, which may be later than any leader's.
        let is_news = |hint: &Target| view.leader.is_none() || hint.leads.is_some_and(|term| term >= view.term);
        let hint = self.hint.clone().filter(is_news);
        if let Some(leader) = hint.or(known).filter(is_reachable) {
            return Some(leader);
        }
        let is_other = |id: RaftId| Some(id) != view.own && self.unreachable.is_none_or(|(gone, _)| gone != id);
        let others: Vec<_> = view.voters().filter(|voter| is_other(voter.id) && !voter.address.is_empty()).collect();
        let voter = others.get(self.tried)?;
        Some(Target { id: voter.id, address: voter.address.to_string(), leads: None })
    }

    /// Asks one node, and takes in what it answers.
    async fn pull(&mut self, view: &QuorumView) -> Result<(), Ended> {
        let Some(target) = self.target(view) else { return self.begin_again().await };
        let request = self.request();
        let link = self.link(&target);
        let mut quorum = self.quorum.clone();
        let deadline = Instant::now() + MAX_PULL_WAIT + PATIENCE;
        let answered = tokio::select! {
            biased;
            // A leader that was elected has announced itself.
            changed = quorum.wait_for(|now| now.has_other_leader(view)) => {
                self.tried = 0;
                return changed.map(drop).map_err(|_| Ended);
            }
            answered = link.poll(&request, deadline) => answered,
        };
        let taken = match answered {
            Ok(answer) if answer.error_code == ErrorCode::NOT_CONTROLLER => {
                self.take_hint(&target, &answer);
                return Ok(());
            }
            Ok(answer) => self.take_in(&target, &answer).await,
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(()) => {
                (self.tried, self.unreachable, self.lost) = (0, None, None);
                Ok(())
            }
            Err(failure) => self.record_failure(&target, &failure).await,
        }
    }

    fn request(&mut self) -> RaftPullRequest {
        let (committed, vote) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.local_committed, metrics.vote)
        };
        self.position = self.position.max(committed);
        RaftPullRequest {
            vote: wire_vote(&vote),
            committed: wire_log_id(self.position.as_ref()),
            unreachable_term: self.unreachable.map_or(-1, |(_, term)| i64::try_from(term).unwrap_or(i64::MAX)),
            max_wait_ms: i32::try_from(MAX_PULL_WAIT.as_millis()).unwrap_or(i32::MAX),
            broker_only: !self.node.config().may_vote,
        }
    }

    fn link(&mut self, target: &Target) -> Arc<PeerLink> {
        if let Some(known) = self.links.get(&target.id).filter(|known| known.address() == target.address) {
            return Arc::clone(known);
        }
        let link = Arc::new(self.open_link(target, Lane::Control));
        self.links.insert(target.id, Arc::clone(&link));
        link
    }

    fn open_link(&self, target: &Target, lane: Lane) -> PeerLink {
        let id = (target.id.node_id, Uuid(target.id.directory));
        PeerLink::new(&self.node, &self.local, id, &target.address, lane)
    }

    /// The node does not lead; it may have named the leader.
    fn take_hint(&mut self, asked: &Target, answer: &RaftPullResponse) {
        if let Some(term) = asked.leads {
            self.unreachable = Some((asked.id, term));
        }
        let own = self.quorum.borrow().own;
        let named = Some(id_of(&answer.leader)).filter(|leader| leader.node_id >= 0 && Some(*leader) != own);
        let named = named.filter(|_| !answer.leader_address.is_empty());
        let term = u64::try_from(answer.term).unwrap_or_default();
        match named.filter(|leader| self.unreachable != Some((*leader, term))) {
            Some(id) => {
                self.hint = Some(Target { id, address: answer.leader_address.to_string(), leads: Some(term) });
                self.tried = 0;
            }
            None if asked.leads.is_none() => self.tried = self.tried.saturating_add(1),
            None => {}
        }
    }

    async fn take_in(&mut self, target: &Target, answer: &RaftPullResponse) -> Result<(), PullFailure> {
        match answer.error_code {
            ErrorCode::NONE => {}
            ErrorCode::INCONSISTENT_VOTER_SET => return Err(PullFailure::Diverged),
            code => return Err(PullFailure::Code(code)),
        }
        if answer.needs_snapshot {
            return self.pull_snapshot(target, &answer.vote).await;
        }
        let request = RaftAppendRequest::decode(&mut Reader::new(answer.append.clone()), 0).map_err(WireError::from)?;
        let appended = self.server.append_pulled(&request).await;
        match (appended.error_code, appended.outcome) {
            (ErrorCode::NONE, 0 | 1) => {
                self.position = self.position.max(log_id_of(&request.committed)?);
                Ok(())
            }
            (ErrorCode::NONE, outcome) => Err(PullFailure::Refused(format!("outcome {outcome}"))),
            (ErrorCode::INCONSISTENT_VOTER_SET, _) => Err(PullFailure::Diverged),
            (code, _) => Err(PullFailure::Refused(code.to_string())),
        }
    }

    /// Gets the leader's snapshot in pieces, and installs it.
    async fn pull_snapshot(&mut self, target: &Target, vote: &WireVote) -> Result<(), PullFailure> {
        tracing::info!(node = target.id.node_id, "this node needs the snapshot of the metadata");
        // Pieces are large: they must not delay the next pull.
        let link = self.open_link(target, Lane::Data);
        let transfer = i64::try_from(self.node.random_u64() >> 1).unwrap_or_default();
        let (mut id, mut offset) = (wire_log_id(None), 0_i64);
        loop {
            let request = RaftPullSnapshotRequest { id: id.clone(), offset };
            let answer: RaftPullSnapshotResponse = link.call(&request, Instant::now() + PIECE_PATIENCE).await?;
            if answer.error_code.is_error() {
                return Err(PullFailure::Code(answer.error_code));
            }
            id = answer.id;
            let done = answer.bytes.is_empty();
            let piece = RaftSnapshotRequest { vote: vote.clone(), transfer, offset, done, bytes: answer.bytes.clone() };
            offset = offset.saturating_add(i64::try_from(answer.bytes.len()).unwrap_or(i64::MAX));
            let taken = self.server.receive_snapshot(&piece).await;
            if taken.error_code.is_error() {
                return Err(PullFailure::Refused(taken.error_code.to_string()));
            }
            if done {
                self.position = self.position.max(log_id_of(&id)?);
                return Ok(());
            }
        }
    }

    async fn record_failure(&mut self, target: &Target, failure: &PullFailure) -> Result<(), Ended> {
        tracing::debug!(node = target.id.node_id, error = %failure, "the metadata log cannot be pulled");
        let needs_operator = matches!(failure, PullFailure::Diverged | PullFailure::Peer(PeerError::Refused { .. }));
        if needs_operator && let Some(left_out) = self.refusals.admit(&failure.to_string(), Instant::now()) {
            tracing::warn!(
                node = target.id.node_id,
                error = %failure,
                left_out = left_out.field(),
                "this node does not get the metadata log. If the quorum was recovered on another node, or this node was unregistered, restart it with \
                 --join and the address of the node that leads"
            );
        }
        let leads = target.leads.map(|term| (target.id, term));
        match failure {
            PullFailure::Refused(_) | PullFailure::Wire(_) => {}
            // A process that has died refuses the next connection at once.
            PullFailure::Peer(PeerError::Lost(_)) if leads.is_some() && self.lost != leads => self.lost = leads,
            _ => match target.leads {
                Some(term) => self.unreachable = Some((target.id, term)),
                None => self.tried = self.tried.saturating_add(1),
            },
        }
        let refused = matches!(failure, PullFailure::Refused(_) | PullFailure::Wire(_) | PullFailure::Code(_));
        if refused { self.pause(REFUSED).await } else { Ok(()) }
    }

    async fn pause(&mut self, time: Duration) -> Result<(), Ended> {
        match timeout(time, self.quorum.changed()).await {
            Ok(Err(_)) => Err(Ended),
            _ => Ok(()),
        }
    }

    /// No known node has named a leader that answers: the nodes of the `--join` list may be voters at other addresses. Then from the start.
    async fn begin_again(&mut self) -> Result<(), Ended> {
        let known = self.hint.take();
        (self.tried, self.unreachable) = (0, None);
        let local = Arc::clone(&self.local);
        let asked = local.join().iter().map(|address| {
            let (node, question) = (self.node.clone(), IdentifyRequest { directory: local.directory() });
            async move { (address.clone(), ask(&node, address, &question, Instant::now() + IDENTIFY).await) }
        });
        let own = local.membership().map(|membership| membership.cluster_id.clone());
        for (address, answer) in join_all(asked).await {
            let Ok(answer) = answer else { continue };
            let is_other = answer.node_id >= 0 && answer.directory != local.directory();
            if !is_other || answer.cluster_id != own {
                continue;
            }
            let id = RaftId { node_id: answer.node_id, directory: answer.directory.0 };
            let target = Target { id, address: address.to_string(), leads: None };
            if self.ask_for_leader(&target).await && self.hint != known {
                return Ok(());
            }
        }
        self.pause(AGAIN).await
    }

    /// Asks a node for the leader only; true if it names one.
    async fn ask_for_leader(&mut self, target: &Target) -> bool {
        let request = RaftPullRequest { max_wait_ms: 0, ..self.request() };
        let link = self.link(target);
        match link.poll(&request, Instant::now() + PATIENCE).await {
            Ok(answer) if answer.error_code == ErrorCode::NOT_CONTROLLER => {
                self.take_hint(target, &answer);
                self.hint.is_some()
            }
            // It leads itself.
            Ok(answer) if !answer.error_code.is_error() => {
                let leads = u64::try_from(answer.term).ok();
                self.hint = Some(Target { leads, ..target.clone() });
                true
            }
            _ => false,
        }
    }
}
