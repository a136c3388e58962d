//! The answers to pulls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_core::controller::{
    MAX_NODES, MemberKey, Observers, PullDecision, PullPosition, PulledLog, ReceivedPull, decide_pull,
};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use esker_storage::metalog::{self, recovery_of};
use openraft::error::{Fatal, RaftError};
use openraft::raft::VoteRequest;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, Raft, ServerState};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::super::convert::{from_log_id, to_log_id};
use super::super::machine::{Published, StateMachine};
use super::super::quorum::{Leadership, QuorumView};
use super::super::snapshot_piece::read_piece;
use super::super::types::{RaftId, TypeConfig, Vote};
use super::super::wire::{RaftAppendRequest, WireError, log_id_of, vote_of, wire_id, wire_log_id, wire_vote};
use super::encoded::{EncodedEntries, Span, append_request};
use super::waiters::Waiters;
use super::wire::{RaftPullRequest, RaftPullResponse, RaftPullSnapshotRequest, RaftPullSnapshotResponse};
use crate::node::Node;

/// Pulls that wait at once: two of each node, since the connection of one before may still stand.
const MAX_WAITING: usize = 2 * MAX_NODES;
/// Pulls that are released at once. Commits and heartbeats come between two lots.
const RELEASED_AT_ONCE: usize = 8;
/// A leader that no quorum has confirmed for so long answers no pull: another may lead by now.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(500);
/// How often leadership is handed over at most because of a node with a later vote.
const HAND_OVER_EVERY: Duration = Duration::from_secs(2);

/// A broker that pulls the log from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObserverStatus {
    /// Its identity.
    pub id: RaftId,
    /// Entries that it had at its last pull.
    pub entries: u64,
    /// How long ago it pulled.
    pub pulled_ago: Duration,
    /// How long ago it last had all committed entries.
    pub caught_up_ago: Option<Duration>,
    /// It may not become a voter.
    pub broker_only: bool,
}

/// Why a pull has no answer.
#[derive(Debug, Error)]
enum PullError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the metadata log cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("too many pulls wait")]
    Busy,
    #[error("the log of the observer has a committed entry that this cluster does not have")]
    Diverged,
    #[error("the snapshot has been replaced by a newer one")]
    Replaced,
}

fn code_of(error: &PullError) -> ErrorCode {
    match error {
        PullError::Wire(_) => ErrorCode::INVALID_REQUEST,
        PullError::Io(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        PullError::Busy => ErrorCode::BROKER_NOT_AVAILABLE,
        PullError::Diverged => ErrorCode::INCONSISTENT_VOTER_SET,
        PullError::Replaced => ErrorCode::POSITION_OUT_OF_RANGE,
    }
}

/// See the module.
#[derive(Debug)]
pub(in super::super) struct PullServer {
    node: Node,
    own: RaftId,
    raft: Raft<TypeConfig, StateMachine>,
    published: Published,
    quorum: watch::Receiver<QuorumView>,
    leadership: watch::Receiver<Leadership>,
    waiters: Arc<Waiters>,
    encoded: EncodedEntries,
    observers: Mutex<Observers>,
    origin: Instant,
    handed_over: Mutex<Option<Instant>>,
}

impl PullServer {
    /// Starts what wakes waiting pulls.
    pub(in super::super) fn start(
        node: &Node,
        own: RaftId,
        raft: &Raft<TypeConfig, StateMachine>,
        published: &Published,
        (quorum, leadership): (watch::Receiver<QuorumView>, watch::Receiver<Leadership>),
    ) -> Arc<Self> {
        let waiters = Arc::<Waiters>::default();
        let released = (Arc::clone(&waiters), published.clone(), leadership.clone());
        node.spawn_control(async move { release_waiters(released.0, released.1, released.2).await });
        Arc::new(Self {
            node: node.clone(),
            own,
            raft: raft.clone(),
            published: published.clone(),
            quorum,
            leadership,
            waiters,
            encoded: EncodedEntries::default(),
            observers: Mutex::default(),
            origin: Instant::now(),
            handed_over: Mutex::new(None),
        })
    }

    /// The brokers that pulled from this node not long ago, in its present term as the leader.
    pub(in super::super) fn observers(&self) -> Vec<ObserverStatus> {
        let (now, term) = (self.origin.elapsed(), self.leadership.borrow().term);
        let observers = self.observers.lock();
        let status = |observer: esker_core::controller::Observer| ObserverStatus {
            id: RaftId { node_id: observer.key.node_id, directory: observer.key.directory.0 },
            entries: observer.entries,
            pulled_ago: now.saturating_sub(observer.pulled),
            caught_up_ago: observer.caught_up.map(|at| now.saturating_sub(at)),
            broker_only: observer.broker_only,
        };
        observers.current(now, term).map(status).collect()
    }

    /// As [`super::super::RaftServer::announcement`].
    pub(in super::super) fn announcement(&self) -> Option<RaftAppendRequest> {
        let leadership = *self.leadership.borrow();
        let committed = self.committed();
        let log = &self.published.files.log;
        let last = committed.checked_sub(1)?;
        let in_log = log.entries(last..committed).first().map(|entry| entry.id);
        let id = in_log.or_else(|| log.purged().filter(|purged| purged.index == last))?;
        append_request(&self.leading_vote(leadership)?, Some(id), Vec::new()).ok()
    }

    /// How long this node has led; zero where it does not.
    pub(in super::super) fn leads_for(&self) -> Duration {
        let leadership = *self.leadership.borrow();
        if leadership.leader == Some(self.own) { leadership.since.elapsed() } else { Duration::ZERO }
    }

    /// The index of the first entry that the log still has.
    pub(in super::super) fn first_entry(&self) -> u64 {
        self.published.files.log.purged().map_or(0, |id| id.index.saturating_add(1))
    }

    /// Entries that are applied to the image here, and so committed.
    fn committed(&self) -> u64 {
        self.published.current.load().offset()
    }

    /// The vote of this node where it leads.
    fn leading_vote(&self, leadership: Leadership) -> Option<Vote> {
        let leads = leadership.leader == Some(self.own);
        leads.then(|| Vote::new_committed(leadership.term, self.own))
    }

    /// Whether a quorum confirms that this node leads.
    fn is_confirmed(&self, leadership: Leadership) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let alone = || metrics.membership_config.membership().voter_ids().count() == 1;
        let is_new = || leadership.since.elapsed() < CONFIRMED_WITHIN;
        let acked = || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < CONFIRMED_WITHIN);
        metrics.state == ServerState::Leader && (acked() || is_new() || alone())
    }

    /// Whether the entry at a position is the one here.
    fn compare(&self, position: Option<metalog::LogId>, purged: Option<metalog::LogId>) -> Option<bool> {
        let position = position?;
        if let Some(purged) = purged.filter(|purged| purged.index >= position.index) {
            return (purged.index == position.index).then_some(purged == position);
        }
        let found = self.published.files.log.entries(position.index..=position.index);
        found.first().map(|entry| entry.id == position)
    }

    fn decide(&self, position: Option<metalog::LogId>, is_leading: bool) -> (PullDecision, u64) {
        let (committed, purged) = (self.committed(), self.published.files.log.purged());
        let first = self.first_entry();
        let entries = position.map_or(0, |id| id.index.saturating_add(1));
        let log = PulledLog { is_leading, first, committed };
        (decide_pull(log, PullPosition { entries, matches: self.compare(position, purged) }), committed)
    }

    /// A pull; the answer waits for news as long as the request says.
    pub(in super::super) async fn pull(&self, peer: RaftId, request: &RaftPullRequest) -> RaftPullResponse {
        self.answer(peer, request).await.unwrap_or_else(|error| {
            tracing::debug!(%peer, %error, "a pull of the metadata log is refused");
            RaftPullResponse { error_code: code_of(&error), ..RaftPullResponse::default() }
        })
    }

    async fn answer(&self, peer: RaftId, request: &RaftPullRequest) -> Result<RaftPullResponse, PullError> {
        let position = log_id_of(&request.committed)?.as_ref().map(to_log_id);
        let theirs = vote_of(&request.vote)?;
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or_default());
        let deadline = Instant::now() + wait;
        loop {
            let waiter = self.waiters.add(MAX_WAITING).ok_or(PullError::Busy)?;
            let is_late = Instant::now() >= deadline;
            let leadership = *self.leadership.borrow();
            let vote = self.leading_vote(leadership).filter(|_| self.is_confirmed(leadership));
            let (decision, committed) = self.decide(position, vote.is_some());
            let Some(vote) = vote.filter(|_| decision != PullDecision::NotController) else {
                let is_news = leadership.leader.is_some_and(|leader| leader != self.own)
                    && i64::try_from(leadership.term).unwrap_or(i64::MAX) > request.unreachable_term;
                if is_news || is_late {
                    return Ok(self.not_controller(leadership));
                }
                let _ = timeout_at(deadline, waiter.wait()).await;
                continue;
            };
            self.record(peer, leadership.term, (position, committed), request.broker_only);
            // A term of another recovery of the quorum is never taken up.
            if theirs > vote && recovery_of(theirs.leader_id.term) == recovery_of(vote.leader_id.term) {
                self.hand_over(peer, &theirs).await;
            }
            let until = match decision {
                PullDecision::Wait if !is_late => {
                    let _ = timeout_at(deadline, waiter.wait()).await;
                    continue;
                }
                // Also without entries the answer says which node leads.
                PullDecision::Wait | PullDecision::NotController => 0,
                PullDecision::Entries(_, until) => until,
                PullDecision::Snapshot => return Ok(self.lead(leadership, vote, None)),
                PullDecision::Diverged => return Err(PullError::Diverged),
            };
            let span = Span { vote, position, committed: until };
            let encoded = self.encoded.encode(&self.published.files.log, span)?;
            return Ok(self.lead(leadership, vote, encoded));
        }
    }

    fn record(&self, peer: RaftId, term: u64, ends: (Option<metalog::LogId>, u64), broker_only: bool) {
        let (position, committed) = ends;
        let key = MemberKey { node_id: peer.node_id, directory: Uuid(peer.directory) };
        let entries = position.map_or(0, |id| id.index.saturating_add(1));
        let pull = ReceivedPull { key, entries, committed, broker_only };
        self.observers.lock().record_pull(self.origin.elapsed(), term, pull);
    }

    /// The answer of the leader: entries, or that the observer needs the snapshot.
    fn lead(&self, leadership: Leadership, vote: Vote, append: Option<Bytes>) -> RaftPullResponse {
        RaftPullResponse {
            leader: wire_id(&self.own),
            term: i64::try_from(leadership.term).unwrap_or(i64::MAX),
            needs_snapshot: append.is_none(),
            vote: wire_vote(&vote),
            append: append.unwrap_or_default(),
            ..RaftPullResponse::default()
        }
    }

    fn not_controller(&self, leadership: Leadership) -> RaftPullResponse {
        let term = i64::try_from(leadership.term).unwrap_or(i64::MAX);
        let none = wire_id(&RaftId { node_id: -1, directory: [0; 16] });
        let known = leadership.leader.filter(|leader| *leader != self.own);
        let address = known.and_then(|leader| Some(Str::copy(&self.quorum.borrow().member(leader)?.address)));
        RaftPullResponse {
            error_code: ErrorCode::NOT_CONTROLLER,
            leader: known.as_ref().map_or(none, wire_id),
            leader_address: address.unwrap_or_default(),
            term,
            ..RaftPullResponse::default()
        }
    }

    /// A node without a vote has a later vote than this leader: it was a candidate once, and takes entries of later terms only. Another voter begins
    /// a later term, or this one, where there is no other.
    async fn hand_over(&self, peer: RaftId, theirs: &Vote) {
        let next = {
            let view = self.quorum.borrow();
            let others = view.voters().filter(|voter| voter.id != self.own);
            others.max_by_key(|voter| (voter.entries, voter.id)).map(|voter| voter.id)
        };
        let is_due = {
            let mut last = self.handed_over.lock();
            let is_due = last.is_none_or(|at| at.elapsed() >= HAND_OVER_EVERY);
            if is_due {
                *last = Some(Instant::now());
            }
            is_due
        };
        if !is_due {
            return;
        }
        let next_or_own = next.unwrap_or(self.own);
        tracing::info!(%peer, next = %next_or_own, "an observer has seen a later vote than this leader's: a later term begins");
        // The next pull tries again.
        let _ = match next {
            Some(next) => self.raft.trigger().transfer_leader(next).await,
            None => self.lead_after(theirs).await,
        };
    }

    /// The only voter takes up the later vote, which ends its term, and is elected again. It is never given for that candidate: nobody else hears
    /// of it.
    async fn lead_after(&self, theirs: &Vote) -> Result<(), Fatal<TypeConfig>> {
        let last_log_id = self.published.files.log.last_id().map(from_log_id);
        let vote = Vote::new(theirs.leader_id.term, theirs.leader_id.node_id);
        let asked = VoteRequest { vote, last_log_id, leadership_transfer: true };
        if let Err(RaftError::Fatal(ended)) = self.raft.vote(asked).await {
            return Err(ended);
        }
        self.raft.trigger().elect(false).await
    }

    /// A piece of the snapshot.
    pub(in super::super) async fn pull_snapshot(&self, request: &RaftPullSnapshotRequest) -> RaftPullSnapshotResponse {
        self.read_snapshot(request).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a piece of a snapshot is not sent");
            RaftPullSnapshotResponse { error_code: code_of(&error), ..RaftPullSnapshotResponse::default() }
        })
    }

    async fn read_snapshot(&self, request: &RaftPullSnapshotRequest) -> Result<RaftPullSnapshotResponse, PullError> {
        let wanted = log_id_of(&request.id)?.as_ref().map(to_log_id);
        let snapshot = self.published.files.snapshots.current().ok_or(PullError::Replaced)?;
        let id = snapshot.meta().last;
        if wanted.is_some() && wanted != id {
            return Err(PullError::Replaced);
        }
        let offset = u64::try_from(request.offset).map_err(|_| WireError::Invalid("a negative offset".to_owned()))?;
        let size = i64::try_from(snapshot.size()).unwrap_or(i64::MAX);
        let read = self.node.run_blocking(move || read_piece(&snapshot, offset)).await;
        let bytes = read.map_err(std::io::Error::other).flatten()?;
        let id = wire_log_id(id.map(from_log_id).as_ref());
        Ok(RaftPullSnapshotResponse { error_code: ErrorCode::NONE, id, size, bytes })
    }
}

/// Wakes waiting pulls after each commit and each change of the leader, until the quorum's tasks have ended.
async fn release_waiters(waiters: Arc<Waiters>, published: Published, mut leadership: watch::Receiver<Leadership>) {
    let mut images = published.changes;
    loop {
        let ended = tokio::select! {
            biased;
            changed = leadership.changed() => changed.is_err(),
            changed = images.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
        let end = waiters.end();
        loop {
            // The requests that were committed are answered first.
            tokio::task::yield_now().await;
            if waiters.release(end, RELEASED_AT_ONCE) == 0 {
                break;
            }
        }
    }
}
