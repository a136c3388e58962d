//! What other controllers, and observers, ask of this one.
//!
//! One snapshot is received at a time: a new transfer ends the one before. Must never: take a request of a node that has not proved its
//! identity (the caller sees to it).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_storage::metalog::{MetadataFiles, SnapshotReceiver, recovery_of};
use openraft::Raft;
use openraft::raft::TransferLeaderRequest;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::convert::from_snapshot;
use super::machine::StateMachine;
use super::pull::{PullServer, RaftPullRequest, RaftPullResponse, RaftPullSnapshotRequest, RaftPullSnapshotResponse};
use super::types::{RaftId, TypeConfig};
use super::wire::{
    RaftAppendRequest, RaftAppendResponse, RaftSnapshotRequest, RaftSnapshotResponse, RaftTransferRequest,
    RaftTransferResponse, RaftVoteRequest, RaftVoteResponse, WireError, WireVote, append_of, id_of, log_id_of, vote_of,
    vote_request_of, wire_appended, wire_transferred, wire_vote, wire_voted,
};
use crate::node::Node;

/// See the module.
#[derive(Debug)]
pub struct RaftServer {
    node: Node,
    raft: Raft<TypeConfig, StateMachine>,
    files: MetadataFiles,
    receiving: Mutex<Option<Receiving>>,
    pulls: Arc<PullServer>,
    /// When a leader last sent something here.
    heard: parking_lot::Mutex<Option<Instant>>,
    /// The log says once that a node of another recovery was refused.
    has_warned: AtomicBool,
}

/// A snapshot that is on its way here.
#[derive(Debug)]
struct Receiving {
    transfer: i64,
    end: i64,
    file: SnapshotReceiver,
}

/// Why a request has no answer.
#[derive(Debug, Error)]
enum ServeError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the metadata quorum has stopped: {0}")]
    Raft(String),
    #[error("a snapshot cannot be received: {0}")]
    Io(#[from] std::io::Error),
    #[error("a piece of a snapshot does not follow the one before")]
    Gap,
    #[error(
        "the metadata quorum was recovered {theirs} times according to the sender, and {own} times according to the log of this node. If the log of \
         this node is the older one, restart it with --join and the address of the node that leads: it takes that node's log then"
    )]
    Recovered { own: u64, theirs: u64 },
}

/// The code in the answer; the sender tries again.
fn code_of(error: &ServeError) -> ErrorCode {
    match error {
        ServeError::Wire(_) => ErrorCode::INVALID_REQUEST,
        ServeError::Raft(_) => ErrorCode::BROKER_NOT_AVAILABLE,
        ServeError::Io(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        ServeError::Gap => ErrorCode::POSITION_OUT_OF_RANGE,
        ServeError::Recovered { .. } => ErrorCode::INCONSISTENT_VOTER_SET,
    }
}

fn raft_error(error: &impl std::fmt::Display) -> ServeError {
    ServeError::Raft(error.to_string())
}

impl RaftServer {
    pub(super) fn new(
        node: &Node,
        raft: Raft<TypeConfig, StateMachine>,
        files: MetadataFiles,
        pulls: Arc<PullServer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            node: node.clone(),
            raft,
            files,
            receiving: Mutex::new(None),
            pulls,
            heard: parking_lot::Mutex::new(None),
            has_warned: AtomicBool::new(false),
        })
    }

    /// How often the quorum was recovered by hand, according to the log of this node; `None` for an empty log. The vote says so: the entries
    /// of a member that catches up begin with those of before.
    pub fn recovery(&self) -> Option<u64> {
        self.files.log.last_id()?;
        self.files.log.vote().map(|vote| recovery_of(vote.term))
    }

    /// Refuses a request by a node whose log is of another recovery of the quorum: entries that one of both has applied are not in the log of
    /// the other, and raft does not undo them. No answer either, so that no term of one recovery gets into the other.
    fn check_recovery(&self, vote: &WireVote) -> Result<(), ServeError> {
        let theirs = recovery_of(vote_of(vote)?.leader_id.term);
        match self.recovery().filter(|own| *own != theirs) {
            None => Ok(()),
            Some(own) => {
                let error = ServeError::Recovered { own, theirs };
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(node = vote.candidate.node_id, %error, "a node of another recovery of the quorum is refused");
                }
                Err(error)
            }
        }
    }

    /// The answers to observers.
    pub(super) fn pulls(&self) -> &PullServer {
        &self.pulls
    }

    /// An observer pulls the log. The answer waits as long as the request says: [`RaftPullRequest::bounded`] is for those of other nodes.
    pub async fn pull(&self, peer: RaftId, request: &RaftPullRequest) -> RaftPullResponse {
        self.pulls.pull(peer, request).await
    }

    /// An observer pulls a piece of the snapshot.
    pub async fn pull_snapshot(&self, request: &RaftPullSnapshotRequest) -> RaftPullSnapshotResponse {
        self.pulls.pull_snapshot(request).await
    }

    /// What a node that was elected sends to observers, so that they pull from it: an AppendEntries without entries. `None` where another node
    /// leads.
    pub fn announcement(&self) -> Option<RaftAppendRequest> {
        self.pulls.announcement()
    }

    /// How long ago a leader sent something here.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.heard.lock().map(|at| at.elapsed())
    }

    /// AppendEntries.
    pub async fn append(&self, request: &RaftAppendRequest) -> RaftAppendResponse {
        *self.heard.lock() = Some(Instant::now());
        self.append_pulled(request).await
    }

    /// Entries that this node pulled: the same as if the leader had sent them.
    pub(super) async fn append_pulled(&self, request: &RaftAppendRequest) -> RaftAppendResponse {
        let appended = async {
            self.check_recovery(&request.vote)?;
            let request = append_of(request)?;
            self.raft.append_entries(request).await.map_err(|error| raft_error(&error))
        };
        match appended.await {
            Ok(answer) => wire_appended(&answer),
            Err(error) => {
                tracing::debug!(%error, "entries of the metadata log are refused");
                RaftAppendResponse { error_code: code_of(&error), ..RaftAppendResponse::default() }
            }
        }
    }

    /// RequestVote, and the question before it.
    pub async fn vote(&self, request: &RaftVoteRequest) -> RaftVoteResponse {
        let voted = async {
            self.check_recovery(&request.vote)?;
            let asked = vote_request_of(request)?;
            let voted = match request.pre_vote {
                true => self.raft.pre_vote(asked).await,
                false => self.raft.vote(asked).await,
            };
            voted.map_err(|error| raft_error(&error))
        };
        match voted.await {
            Ok(answer) => wire_voted(&answer),
            Err(error) => RaftVoteResponse { error_code: code_of(&error), ..RaftVoteResponse::default() },
        }
    }

    /// The leader hands over to this node.
    pub async fn transfer_leader(&self, request: &RaftTransferRequest) -> RaftTransferResponse {
        let taken = async {
            self.check_recovery(&request.vote)?;
            let (vote, last) = (vote_of(&request.vote)?, log_id_of(&request.last)?);
            let request = TransferLeaderRequest::new(vote, id_of(&request.to), last);
            self.raft.handle_transfer_leader(request).await.map_err(|error| raft_error(&error))
        };
        match taken.await {
            Ok(answer) => wire_transferred(&answer),
            Err(error) => RaftTransferResponse { error_code: code_of(&error), ..RaftTransferResponse::default() },
        }
    }

    /// A piece of a snapshot.
    pub async fn receive_snapshot(&self, request: &RaftSnapshotRequest) -> RaftSnapshotResponse {
        match self.take_piece(request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "a snapshot of the metadata is refused; its sender begins again");
                *self.receiving.lock().await = None;
                RaftSnapshotResponse { error_code: code_of(&error), ..RaftSnapshotResponse::default() }
            }
        }
    }

    async fn take_piece(&self, request: &RaftSnapshotRequest) -> Result<RaftSnapshotResponse, ServeError> {
        self.check_recovery(&request.vote)?;
        let vote = vote_of(&request.vote)?;
        let mut receiving = self.receiving.lock().await;
        let mut current = match receiving.take().filter(|current| current.transfer == request.transfer) {
            Some(current) => current,
            None => {
                let snapshots = Arc::clone(&self.files.snapshots);
                let file = self.blocking(move || snapshots.receive()).await?;
                Receiving { transfer: request.transfer, end: 0, file }
            }
        };
        if current.end != request.offset {
            return Err(ServeError::Gap);
        }
        if !request.done {
            let bytes = request.bytes.clone();
            current.end = current.end.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            current = self.blocking(move || current.file.write(&bytes).map(|()| current)).await?;
            *receiving = Some(current);
            return Ok(RaftSnapshotResponse { vote: wire_vote(&vote), ..RaftSnapshotResponse::default() });
        }
        let file = self.blocking(move || current.file.finish().map_err(std::io::Error::from)).await?;
        let snapshot = from_snapshot(file)?;
        let installed = self.raft.install_full_snapshot(vote, snapshot).await.map_err(|error| raft_error(&error))?;
        Ok(RaftSnapshotResponse { vote: wire_vote(&installed.vote), ..RaftSnapshotResponse::default() })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        self.node.run_blocking(work).await.map_err(std::io::Error::other)?
    }
}
