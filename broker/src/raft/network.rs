//! How controllers reach each other: openraft's calls as requests over a [`PeerLink`].
//!
//! openraft bounds no call: each has a deadline here, and a connection whose answer is late is closed. The hello of a connection proves that
//! the other side is the controller that is meant, folder included. Must never: wait without a deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::Request;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;
use esker_storage::metalog::SnapshotFile;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, OptionalSend};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::quorum::QuorumView;
use super::snapshot_piece::read_piece;
use super::types::{RaftId, Snapshot, TypeConfig, Vote};
use super::wire::{
    RaftSnapshotRequest, RaftTransferRequest, WireError, appended_of, transferred_of, vote_of, voted_of, wire_append,
    wire_id, wire_log_id, wire_vote, wire_vote_request,
};
use crate::node::Node;
use crate::peer::{Lane, LocalNode, PeerError, PeerLink};
use crate::task::spawn;

/// The longest wait for an answer that needs no more than a sync of the disk. A controller that takes longer is as good as gone; its answer
/// is waited for nonetheless, so that a slow disk does not cost the connection.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How long the receiver may take to write one piece, and to install the whole.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);

/// By target, and whether it is for data.
type Links = BTreeMap<(RaftId, bool), Arc<PeerLink>>;

/// Makes links to other controllers.
#[derive(Debug, Clone)]
pub struct Network {
    node: Node,
    local: Arc<LocalNode>,
    /// Connections outlive openraft's clients, which it makes anew for each round of votes.
    links: Arc<Mutex<Links>>,
    quorum: Arc<OnceLock<watch::Receiver<QuorumView>>>,
}

impl Network {
    /// Of this node.
    pub fn new(node: &Node, local: &Arc<LocalNode>) -> Self {
        Self { node: node.clone(), local: Arc::clone(local), links: Arc::default(), quorum: Arc::default() }
    }

    /// From here on members are called where the log has them now. openraft passes an address only when it begins to replicate: a leader would
    /// call a member that has moved at its former address.
    pub fn follow(&self, quorum: watch::Receiver<QuorumView>) {
        // It is started once.
        let _ = self.quorum.set(quorum);
    }

    /// Where the log has a controller now, if it has it.
    fn logged(&self, target: RaftId) -> Option<Arc<str>> {
        let view = self.quorum.get()?.borrow();
        view.member(target).map(|member| Arc::clone(&member.address)).filter(|address| !address.is_empty())
    }

    /// The link to a controller; openraft has it at `address`.
    fn link(&self, target: RaftId, address: &str, lane: Lane) -> Arc<PeerLink> {
        let id = (target.node_id, Uuid(target.directory));
        let logged = self.logged(target);
        let address = self.local.reach(id.0, id.1, logged.as_deref().unwrap_or(address));
        let mut links = self.links.lock();
        let key = (target, lane == Lane::Data);
        if let Some(known) = links.get(&key).filter(|known| known.address() == address.as_str()) {
            return Arc::clone(known);
        }
        let link = Arc::new(PeerLink::new(&self.node, &self.local, id, &address, lane));
        links.insert(key, Arc::clone(&link));
        link
    }
}

/// A way to one controller. It is looked for with each call: the controller may move.
#[derive(Debug)]
pub struct Peer {
    network: Network,
    target: RaftId,
    address: String,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: RaftId, at: &BasicNode) -> Peer {
        Peer { network: self.clone(), target, address: at.addr.clone() }
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> Unreachable<TypeConfig> {
    Unreachable::new(error)
}

fn rpc_error(error: PeerError) -> RPCError<TypeConfig> {
    match error {
        PeerError::Lost(_) => RPCError::Network(NetworkError::new(&error)),
        // openraft waits before it tries again.
        error => RPCError::Unreachable(unreachable(&error)),
    }
}

fn wire_error(error: WireError) -> RPCError<TypeConfig> {
    RPCError::Unreachable(unreachable(&error))
}

/// The receiver could not answer: its raft is not started, or has stopped.
fn refused(code: ErrorCode) -> Result<(), RPCError<TypeConfig>> {
    if code.is_error() {
        return Err(RPCError::Unreachable(Unreachable::new(&AnyError::error(format!("it answers with {code}")))));
    }
    Ok(())
}

fn deadline(option: &RPCOption) -> Instant {
    Instant::now() + option.soft_ttl().max(PATIENCE)
}

impl Peer {
    fn link(&self, lane: Lane) -> Arc<PeerLink> {
        self.network.link(self.target, &self.address, lane)
    }

    /// Sends a request. openraft drops calls that take longer than it likes: that must drop the answer alone, and neither a connection that is being
    /// made nor the deadline by which a dead one is noticed.
    async fn call<R: Request + Sync>(
        &self,
        lane: Lane,
        request: R,
        deadline: Instant,
    ) -> Result<R::Response, RPCError<TypeConfig>> {
        let (link, local, target) = (self.link(lane), Arc::clone(&self.network.local), self.target);
        let called = spawn(async move {
            let answer = link.call(&request, deadline).await;
            // A connection that was lost says nothing of where the node is.
            if !matches!(answer, Ok(_) | Err(PeerError::Lost(_))) {
                local.forget_moved(target.node_id, Uuid(target.directory), link.address());
            }
            answer
        });
        called.await.map_err(|error| RPCError::Unreachable(unreachable(&error)))?.map_err(rpc_error)
    }

    async fn ask(
        &self,
        request: &VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.call(Lane::Control, wire_vote_request(request, pre_vote), deadline(option)).await?;
        refused(answer.error_code)?;
        voted_of(&answer).map_err(wire_error)
    }

    async fn send_snapshot(&self, vote: &Vote, snapshot: SnapshotFile) -> Result<Vote, RPCError<TypeConfig>> {
        let transfer = i64::try_from(self.network.node.random_u64() >> 1).unwrap_or_default();
        let mut offset = 0_u64;
        loop {
            let bytes = self.read_piece(&snapshot, offset).await?;
            let done = bytes.is_empty();
            let at = i64::try_from(offset).unwrap_or(i64::MAX);
            offset = offset.saturating_add(bytes.len() as u64);
            let request = RaftSnapshotRequest { vote: wire_vote(vote), transfer, offset: at, bytes, done };
            let answer = self.call(Lane::Data, request, Instant::now() + SNAPSHOT_PATIENCE).await?;
            refused(answer.error_code)?;
            let theirs = vote_of(&answer.vote).map_err(wire_error)?;
            if done || theirs != *vote {
                return Ok(theirs);
            }
        }
    }

    async fn read_piece(&self, snapshot: &SnapshotFile, offset: u64) -> Result<Bytes, RPCError<TypeConfig>> {
        let file = snapshot.clone();
        let read = move || read_piece(&file, offset);
        let read = self.network.node.run_blocking(read).await.map_err(std::io::Error::other).flatten();
        read.map_err(|error| RPCError::Unreachable(unreachable(&error)))
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire_append(request).map_err(wire_error)?;
        let answer = self.call(Lane::Control, request, deadline(&option)).await?;
        refused(answer.error_code)?;
        appended_of(&answer).map_err(wire_error)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&request, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&request, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(&vote, snapshot.snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let wire = RaftTransferRequest {
            vote: wire_vote(request.from_leader()),
            to: wire_id(request.to_node_id()),
            last: wire_log_id(request.last_log_id()),
        };
        let answer = self.call(Lane::Control, wire, deadline(&option)).await?;
        refused(answer.error_code)?;
        transferred_of(&answer, &request).map_err(wire_error)
    }
}
