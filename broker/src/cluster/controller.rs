//! What this node does for the others while it leads the metadata quorum. While it does not, it says who does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::wire::{decode_request, encode_reply};
use esker_core::controller::{
    AllocateNodeId, MAX_NODES, NodeConfigs, Reply, Request, SessionTimes, Sessions, UnfenceBroker, may_allocate_ids,
};
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::locations::peer_address;
use super::reservations::{Reserved, Unregistered};
use crate::controller::{Committed, ControllerClient, SubmitError, submit};
use crate::node::Node;
use crate::peer::messages::{
    HeartbeatRequest, HeartbeatResponse, IdentifyRequest, IdentifyResponse, JoinClusterRequest, JoinClusterResponse,
    PEER_VERSION, SubmitRequest, SubmitResponse,
};
use crate::peer::{LocalNode, PeerError, PeerId, ask};
use crate::raft::{Metadata, QuorumView, RaftId, RaftServer};

/// How long the quorum may take to give a node its place.
const PLACE: Duration = Duration::from_secs(10);
/// Nodes that may join at once.
const JOINING: usize = 16;
/// How long a node that joins may take to answer at its address.
const REACH: Duration = Duration::from_secs(2);
/// A leader that no quorum has confirmed for so long answers no heartbeat: another may lead by now.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(200);

/// How often sessions are looked at.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// What became of a request that another node submitted.
pub(super) mod outcome {
    /// It is decided; the answer comes with it.
    pub const DECIDED: i8 = 0;
    /// Another node is the active controller.
    pub const NOT_CONTROLLER: i8 = 1;
    /// It is not decided, or nobody knows: [`SubmitError::Unavailable`](crate::controller::SubmitError) and the like.
    pub const FAILED: i8 = 2;
}

/// See the module.
#[derive(Debug)]
pub struct Controller {
    node: Node,
    local: Arc<LocalNode>,
    address: String,
    metadata: Arc<Metadata>,
    sessions: Mutex<Sessions>,
    origin: Instant,
    /// A session has ended before its time.
    ended: Notify,
    /// Fenced brokers that send heartbeats: epoch, the controller's term, and the offset that they must apply up to.
    fenced: Mutex<BTreeMap<i32, (i64, u64, u64)>>,
    unregistered: Mutex<Unregistered>,
    /// Nodes that are given a place at this moment.
    joining: Semaphore,
    /// Held while the members of the quorum change: one change at a time.
    member_changes: tokio::sync::Mutex<()>,
}

impl Controller {
    /// Of a node that other nodes reach at `address`.
    pub fn new(node: &Node, local: &Arc<LocalNode>, address: &str, metadata: &Arc<Metadata>) -> Arc<Self> {
        let times = SessionTimes { timeout: node.config().broker_session_timeout, tick: TICK };
        Arc::new(Self {
            node: node.clone(),
            local: Arc::clone(local),
            address: address.to_owned(),
            metadata: Arc::clone(metadata),
            sessions: Mutex::new(Sessions::new(times, Duration::ZERO)),
            origin: Instant::now(),
            ended: Notify::new(),
            fenced: Mutex::default(),
            unregistered: Mutex::default(),
            joining: Semaphore::new(JOINING),
            member_changes: tokio::sync::Mutex::default(),
        })
    }

    /// What other controllers ask.
    pub fn raft(&self) -> &RaftServer {
        self.metadata.server()
    }

    /// The metadata.
    pub(super) fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    /// Its time, randomness and threads.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Held while the members of the quorum change.
    pub(super) fn member_changes(&self) -> &tokio::sync::Mutex<()> {
        &self.member_changes
    }

    /// This node.
    pub fn local(&self) -> &Arc<LocalNode> {
        &self.local
    }

    /// Time as the sessions count it.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The sessions, for a moment.
    pub(super) fn sessions<R>(&self, look: impl FnOnce(&mut Sessions) -> R) -> R {
        look(&mut self.sessions.lock())
    }

    /// A broker is known to be gone: its session ends now.
    pub(super) fn end_session(&self, node_id: i32, epoch: i64) {
        self.sessions(|sessions| sessions.end(node_id, epoch));
        self.ended.notify_one();
    }

    /// A broker refuses connections: its session ends now, unless that has proved wrong of it before.
    pub(super) fn end_refused_session(&self, node_id: i32, epoch: i64) -> bool {
        let ended = self.sessions(|sessions| sessions.end_refused(node_id, epoch));
        self.ended.notify_one();
        ended
    }

    /// Waits until a session ends before its time.
    pub(super) async fn session_ended(&self) {
        self.ended.notified().await;
    }

    /// The configs of this node, for decisions that depend on some node's.
    pub fn configs(&self) -> NodeConfigs {
        NodeConfigs { node_id: self.node.id(), statics: Arc::clone(&self.node.config().statics) }
    }

    /// Decides a request here; refused unless this node is the active controller.
    pub async fn decide(&self, mut request: Request, deadline: Instant) -> Result<Committed<Reply>, SubmitError> {
        let joins = match &request {
            Request::JoinBroker(join) => Some(join.join.registration.node_id),
            _ => None,
        };
        let now = self.now();
        request.set_alive(|node_id| self.sessions(|sessions| sessions.is_alive(now, node_id)));
        let committed = self.metadata.submit(request, deadline).await?;
        if let (Some(node_id), Reply::JoinBroker(Ok(epoch))) = (joins, &committed.reply) {
            let now = self.now();
            self.sessions(|sessions| sessions.heartbeat(now, node_id, *epoch));
        }
        Ok(committed)
    }

    /// A request that another node sends to the active controller.
    pub async fn submit_for(&self, peer: PeerId, request: SubmitRequest) -> SubmitResponse {
        let view = self.view();
        let controller = view.leader.map_or(-1, |leader| leader.node_id);
        let failed = |outcome: i8, message: &dyn std::fmt::Display| SubmitResponse {
            outcome,
            message: Some(Str::from(message.to_string())),
            controller,
            ..SubmitResponse::default()
        };
        let decoded = match decode_request(request.request) {
            Ok(request) => request,
            Err(error) => return failed(outcome::FAILED, &error),
        };
        if !decoded.may_be_forwarded() || decoded.made_by().is_some_and(|node_id| node_id != peer.node_id) {
            let message = format!("{} is no request that node {} may submit", decoded.name(), peer.node_id);
            return failed(outcome::FAILED, &message);
        }
        let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
        match self.decide(decoded, Instant::now() + patience).await {
            Ok(Committed { reply, offset, changed }) => match encode_reply(&reply) {
                Ok(reply) => SubmitResponse {
                    controller,
                    offset: i64::try_from(offset).unwrap_or(i64::MAX),
                    changed,
                    reply,
                    ..SubmitResponse::default()
                },
                Err(error) => failed(outcome::FAILED, &error),
            },
            Err(error @ SubmitError::NotController(_)) => failed(outcome::NOT_CONTROLLER, &error),
            Err(error) => failed(outcome::FAILED, &error),
        }
    }

    /// The quorum, as this node knows it at the moment.
    pub(super) fn view(&self) -> QuorumView {
        self.metadata.quorum().borrow().clone()
    }

    /// A broker says that it is alive. One that has caught up is unfenced.
    pub async fn heartbeat(&self, peer: PeerId, request: &HeartbeatRequest) -> HeartbeatResponse {
        let view = self.view();
        let answer = HeartbeatResponse {
            controller: view.leader.map_or(-1, |leader| leader.node_id),
            offset: i64::try_from(self.metadata.image().offset()).unwrap_or(i64::MAX),
            ..HeartbeatResponse::default()
        };
        if !view.is_leading() || !self.metadata.leads_within(CONFIRMED_WITHIN) {
            return HeartbeatResponse { error_code: ErrorCode::NOT_CONTROLLER, ..answer };
        }
        let image = self.metadata.image();
        let registered = image.broker(request.node_id).filter(|broker| {
            request.node_id == peer.node_id && broker.epoch == request.epoch && broker.incarnation == peer.incarnation
        });
        let Some(broker) = registered else {
            return HeartbeatResponse { error_code: ErrorCode::STALE_BROKER_EPOCH, ..answer };
        };
        let now = self.now();
        if !self.sessions(|sessions| sessions.heartbeat(now, request.node_id, request.epoch)) {
            // Its session has expired: it is being fenced.
            return HeartbeatResponse { fenced: true, ..answer };
        }
        let mut fenced = broker.fenced;
        if !fenced {
            self.forget_fenced(request.node_id);
        }
        let applied = u64::try_from(request.applied).unwrap_or_default();
        if fenced && !broker.in_controlled_shutdown && applied >= self.unfenced_from(request, &view, &image) {
            fenced = !self.unfence(request, applied).await;
        }
        HeartbeatResponse { fenced, ..answer }
    }

    /// How far a fenced broker must have applied the log before it is unfenced: as far as it reached when its first heartbeat since then came.
    /// The broker then knows which partitions it does not lead any more.
    fn unfenced_from(&self, request: &HeartbeatRequest, view: &QuorumView, image: &MetadataImage) -> u64 {
        let mut fenced = self.fenced.lock();
        let current = (request.epoch, view.term, image.offset());
        let known = fenced.entry(request.node_id).or_insert(current);
        if (known.0, known.1) != (current.0, current.1) {
            *known = current;
        }
        known.2
    }

    /// What was noted of a fenced broker is of no use any more: it is unfenced, or fenced anew.
    pub(super) fn forget_fenced(&self, node_id: i32) {
        self.fenced.lock().remove(&node_id);
    }

    /// Whether the metadata knows the node: as a member of the quorum, by its reserved id, or as a broker of before there were reservations. A node
    /// that has no metadata yet knows nobody.
    pub fn knows(&self, node_id: i32, directory: Uuid) -> bool {
        let (view, image) = (self.view(), self.metadata.image());
        let is_registered = || image.broker(node_id).is_some_and(|broker| broker.log_dirs.contains(&directory));
        match image.reservation(node_id) {
            Some(owner) if owner == directory => return true,
            Some(_) => {}
            None if is_registered() => return true,
            None => {}
        }
        let is_empty = view.members.len() <= 1 && !view.is_leading() && image.brokers().next().is_none();
        is_empty || view.member(RaftId { node_id, directory: directory.0 }).is_some()
    }

    async fn unfence(&self, request: &HeartbeatRequest, applied: u64) -> bool {
        let ask = UnfenceBroker { node_id: request.node_id, epoch: request.epoch, applied, configs: self.configs() };
        let deadline = Instant::now() + self.node.config().broker_session_timeout;
        match submit(self.metadata.as_ref(), ask, deadline).await {
            Ok(Committed { reply: Ok(unfenced), .. }) => {
                if unfenced {
                    self.forget_fenced(request.node_id);
                }
                unfenced
            }
            Ok(Committed { reply: Err(refusal), .. }) => {
                tracing::debug!(node = request.node_id, why = %refusal.message, "a broker stays fenced");
                false
            }
            Err(error) => {
                tracing::debug!(node = request.node_id, %error, "a broker stays fenced");
                false
            }
        }
    }

    /// A node that is in no cluster asks for its place in this one.
    pub async fn place(&self, request: JoinClusterRequest) -> JoinClusterResponse {
        let view = self.view();
        // The place may need the votes of the very node that asks for it.
        tokio::join!(self.decide_place(&request), self.note_moved(&request, &view)).0
    }

    async fn decide_place(&self, request: &JoinClusterRequest) -> JoinClusterResponse {
        let view = self.view();
        let refused = |error_code: ErrorCode, message: String| JoinClusterResponse {
            error_code,
            error_message: Some(Str::from(message)),
            controller: view.leader_address().map(Str::copy),
            ..JoinClusterResponse::default()
        };
        if !view.is_leading() {
            let why = match view.leader {
                Some(leader) => format!("node {} is the active controller", leader.node_id),
                None => "the metadata quorum has no leader".to_owned(),
            };
            return refused(ErrorCode::NOT_CONTROLLER, why);
        }
        if !may_allocate_ids(&self.metadata.image(), self.node.id()) {
            return refused(ErrorCode::NOT_CONTROLLER, "the cluster is about to begin".to_owned());
        }
        let deadline = Instant::now() + PLACE;
        // Anything that can connect can ask: few are served at once.
        let Ok(Ok(_turn)) = timeout_at(deadline, self.joining.acquire()).await else {
            return refused(ErrorCode::NOT_CONTROLLER, "too many nodes join at once".to_owned());
        };
        if let Err((code, message)) = self.check_join(request, &view).await {
            return refused(code, message);
        }
        let wanted = (request.node_id >= 0).then_some(request.node_id);
        let pulling = self.metadata.observers().into_iter().filter(|observer| observer.entries > 0);
        let pulling = pulling.map(|observer| observer.id).collect();
        let abandoned = self.unregistered.lock().abandoned(&self.metadata.image(), (&view, &pulling), Instant::now());
        let allocate = AllocateNodeId { wanted, directory: request.directory, abandoned: abandoned.clone() };
        let node_id = match submit(self.metadata.as_ref(), allocate, deadline).await {
            Ok(Committed { reply: Ok(node_id), .. }) => node_id,
            Ok(Committed { reply: Err(refusal), .. }) => return refused(refusal.code, refusal.message.to_string()),
            Err(error) => return refused(ErrorCode::NOT_CONTROLLER, error.to_string()),
        };
        self.remove_released(abandoned, &view, deadline).await;
        if !request.address.is_empty()
            && let Err(message) = self.seat(node_id, request, deadline).await
        {
            return refused(ErrorCode::NOT_CONTROLLER, message);
        }
        JoinClusterResponse {
            cluster_id: self.cluster_id(),
            node_id,
            offset: i64::try_from(self.metadata.image().offset()).unwrap_or(i64::MAX),
            ..JoinClusterResponse::default()
        }
    }

    fn cluster_id(&self) -> Str {
        self.local.membership().map(|membership| membership.cluster_id.clone()).unwrap_or_default()
    }

    /// Whether a node may join: it speaks this version, there is room, and it is where it says to be.
    async fn check_join(&self, request: &JoinClusterRequest, view: &QuorumView) -> Result<(), (ErrorCode, String)> {
        if request.max_version < PEER_VERSION {
            let message = format!(
                "the node speaks versions up to {} of the protocol between nodes, and node {} of this cluster version {PEER_VERSION}: update the node",
                request.max_version,
                self.node.id()
            );
            return Err((ErrorCode::UNSUPPORTED_VERSION, message));
        }
        let known = view.members.iter().find(|member| member.id.directory == request.directory.0);
        let address = known.map(|member| member.address.to_string()).or_else(|| self.registered_address(request));
        if view.members.len() >= MAX_NODES && known.is_none() {
            let message = format!(
                "{MAX_NODES} nodes follow the metadata of the cluster, and no more may: unregister the brokers that are gone for good"
            );
            return Err((ErrorCode::POLICY_VIOLATION, message));
        }
        let moves = address.as_ref().is_none_or(|address| **address != *request.address);
        if !moves || request.address.is_empty() {
            return Ok(());
        }
        let before = address.filter(|address| !address.is_empty()).map(Str::from);
        let (there, before) = tokio::join!(self.check_reachable(request), async {
            let address = before?;
            Some((self.identify(&address).await.ok()?, address))
        });
        let there = there.map_err(|message| (ErrorCode::NETWORK_EXCEPTION, message))?;
        match before {
            Some((before, address)) if self.is_other_process(&before, &there) => {
                let message = format!(
                    "node {} with the metadata folder {} runs at {address}, and a copy of its folder at {}: two processes with one identity would vote twice. Stop one of them",
                    before.node_id, before.directory, request.address
                );
                Err((ErrorCode::DUPLICATE_BROKER_REGISTRATION, message))
            }
            _ => Ok(()),
        }
    }

    /// Who answers at an address.
    async fn identify(&self, address: &Str) -> Result<IdentifyResponse, PeerError> {
        let question = IdentifyRequest { directory: self.local.directory() };
        ask(&self.node, address, &question, Instant::now() + REACH).await
    }

    /// Whether both answers are of one member of this cluster, and of two processes.
    fn is_other_process(&self, one: &IdentifyResponse, other: &IdentifyResponse) -> bool {
        let is_same_node = (one.node_id, one.directory) == (other.node_id, other.directory);
        is_same_node && one.cluster_id == Some(self.cluster_id()) && one.incarnation != other.incarnation
    }

    /// Another member of the quorum that is elsewhere than it is looked for is called there from now on: while too many members are away the log cannot
    /// change, and it is this very member that may be missing. A copy of its folder does not get its place while the member itself answers.
    async fn note_moved(&self, request: &JoinClusterRequest, view: &QuorumView) {
        let (node_id, directory, address) = (request.node_id, request.directory, &request.address);
        let id = RaftId { node_id, directory: directory.0 };
        let Some(member) = view.member(id).filter(|_| view.own != Some(id) && !address.is_empty()) else { return };
        let known = self.local.reach(node_id, directory, &member.address);
        // Anything that can connect can ask: few are served at once.
        let Some(_turn) = self.joining.try_acquire().ok().filter(|_| known != *address) else { return };
        let (there, before) = tokio::join!(self.identify(address), self.identify(&known));
        let is_it = |answer: &IdentifyResponse| {
            (answer.node_id, answer.directory) == (node_id, directory) && answer.cluster_id == Some(self.cluster_id())
        };
        let Some(there) = there.ok().filter(is_it) else { return };
        if before.is_ok_and(|before| self.is_other_process(&before, &there)) {
            return;
        }
        self.local.note_moved(node_id, directory, &member.address, address);
    }

    /// The address in the registration of the node that joins, if its broker was registered before.
    fn registered_address(&self, request: &JoinClusterRequest) -> Option<String> {
        let image = self.metadata.image();
        let is_own = image.reservation(request.node_id) == Some(request.directory);
        image.broker(request.node_id).filter(|_| is_own).map(|broker| peer_address(&broker.listeners))
    }

    /// Checks that the node which says to be at an address is there: other brokers would look for it in vain.
    async fn check_reachable(&self, request: &JoinClusterRequest) -> Result<IdentifyResponse, String> {
        let (address, own) = (&request.address, self.node.id());
        let why = match self.identify(address).await {
            Ok(answer) if answer.directory == request.directory => return Ok(answer),
            Ok(answer) => {
                format!("node {} with the metadata folder {} answers there", answer.node_id, answer.directory)
            }
            Err(error) => error.to_string(),
        };
        Err(format!(
            "node {own}, the active controller, does not find node {} with the metadata folder {} at {address}, where it says to be: {why}. Set advertised.listeners to an address that the other nodes reach",
            request.node_id, request.directory
        ))
    }

    /// Nodes whose reservations have ended leave the quorum.
    async fn remove_released(&self, abandoned: Vec<Reserved>, view: &QuorumView, deadline: Instant) {
        let image = self.metadata.image();
        // Another change is under way: they leave with a later join.
        let Ok(_changing) = self.member_changes.try_lock() else { return };
        for (node_id, directory) in abandoned {
            let id = RaftId { node_id, directory: directory.0 };
            let is_member = view.member(id).is_some_and(|member| !member.votes);
            if !is_member || image.reservation(node_id) == Some(directory) {
                continue;
            }
            match self.metadata.remove_learner(id, deadline).await {
                Ok(()) => tracing::info!(node = node_id, "a node that never registered has left the metadata quorum"),
                Err(error) => {
                    tracing::warn!(node = node_id, %error, "a node that never registered stays in the metadata quorum")
                }
            }
        }
    }

    /// The node may follow the metadata log from here on. It pulls the log, unless it is a member of the quorum, whose address is recorded then, or
    /// of an earlier build: that one becomes a member.
    async fn seat(&self, node_id: i32, request: &JoinClusterRequest, deadline: Instant) -> Result<(), String> {
        let view = self.view();
        let is_unknown = |own: &RaftId| view.member(*own).is_some_and(|member| member.address.is_empty());
        // A cluster of one does not know where it is itself.
        let own = view.own.filter(is_unknown);
        let id = RaftId { node_id, directory: request.directory.0 };
        let becomes_member = view.member(id).is_some() || !request.pulls;
        if own.is_none() && !becomes_member {
            return Ok(());
        }
        let changing = timeout_at(deadline, self.member_changes.lock()).await;
        let _changing = changing.map_err(|_| "the members of the metadata quorum are being changed".to_owned())?;
        if let Some(own) = own {
            self.metadata.add_member(own, &self.address, deadline).await.map_err(|error| error.to_string())?;
        }
        if becomes_member {
            self.metadata.add_member(id, &request.address, deadline).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
