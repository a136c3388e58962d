//! What other nodes of the cluster ask: private APIs on the listeners that they share with clients.
//!
//! A connection is a node's from its hello on, in which it proves its cluster, its id and its folder. Before that it may ask who is here, and
//! for a place in the cluster; all else closes it, whatever it claims to be. Must never: believe a node id in the body of a request that is not the
//! one of the hello.

mod hello;
mod limits;
mod replica_fetch;
#[cfg(test)]
mod tests;
mod transactions;

use std::sync::{Arc, OnceLock};

use esker_core::replication::wire::ReplicaFetchRequest;
use esker_core::transaction::wire::{AddPartitionsRequest, WriteMarkersRequest};
use esker_protocol::api::ApiKey;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::FetchResponse;
use esker_protocol::primitives::Reader;
use esker_protocol::{Message, Request, encode_response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use limits::PEER_LIMITS;
pub use replica_fetch::replica_fetch;
#[cfg(test)]
pub use replica_fetch::{read_for_follower, record_ends};

use super::ROUTES;
use super::handler::{RequestContext, Staged};
use super::route::{RouteCall, stage_outcome};
use super::traced::{begin_peer_span, in_span, sample_replica_fetch};
use crate::broker::Broker;
use crate::cluster::Controller;
use crate::peer::messages::{
    ChangeVoterRequest, DescribeMembersRequest, FIRST_KEY, HeartbeatRequest, HelloDataRequest, HelloRequest,
    IdentifyRequest, IdentifyResponse, JoinClusterRequest, JoinClusterResponse, SubmitRequest,
};
use crate::peer::{LocalNode, PeerId, TracedRequest};
use crate::raft::wire::{
    RaftAppendRequest, RaftAppendResponse, RaftSnapshotRequest, RaftSnapshotResponse, RaftTransferRequest,
    RaftTransferResponse, RaftVoteRequest, RaftVoteResponse, WireVote,
};
use crate::raft::{RaftId, RaftPullRequest, RaftPullSnapshotRequest};
use crate::server::{CloseReason, Incoming, Outcome, Reply};
use crate::telemetry::{RepeatLimiter, ServedApi};
use crate::trace::Span;

/// Whether a key is one of the private APIs.
pub fn is_peer_api(key: ApiKey) -> bool {
    key.0 >= FIRST_KEY
}

/// What followers send instead of Fetch, for what counts requests; Kafka's metrics have a name for it.
pub fn fetch_of_followers() -> ServedApi {
    ServedApi { key: ReplicaFetchRequest::KEY, name: "FetchFollower", versions: ReplicaFetchRequest::VERSIONS }
}

/// See the module.
#[derive(Debug)]
pub struct PeerService {
    local: Arc<LocalNode>,
    controller: OnceLock<Arc<Controller>>,
    broker: OnceLock<Arc<Broker>>,
    /// Hellos that were refused.
    refusals: RepeatLimiter,
}

impl PeerService {
    /// What a node answers that is in no cluster yet.
    pub fn new(local: Arc<LocalNode>) -> Self {
        Self { local, controller: OnceLock::new(), broker: OnceLock::new(), refusals: RepeatLimiter::default() }
    }

    /// From here on the node is in the metadata quorum.
    pub fn set_controller(&self, controller: Arc<Controller>) {
        // It is started once.
        let _ = self.controller.set(controller);
    }

    /// From here on followers are served.
    pub fn set_broker(&self, broker: Arc<Broker>) {
        // It is started once.
        let _ = self.broker.set(broker);
    }

    /// Stage one of a request of another node.
    pub fn dispatch(&self, incoming: Incoming, body: &mut Reader) -> Outcome {
        let key = incoming.header.api_key;
        let call = Call { key, version: incoming.header.api_version, correlation: incoming.header.correlation_id };
        if key == IdentifyRequest::KEY {
            return call.answer::<IdentifyRequest>(body, |_| self.identify());
        }
        if key == HelloRequest::KEY {
            return call.answer::<HelloRequest>(body, |hello| self.greet(&incoming, &hello));
        }
        if key == HelloDataRequest::KEY {
            return call.answer::<HelloDataRequest>(body, |request| self.greet(&incoming, &request.hello));
        }
        let Some(controller) = self.controller.get().cloned() else {
            if key == JoinClusterRequest::KEY {
                return call.answer::<JoinClusterRequest>(body, |_| in_no_cluster());
            }
            return Outcome::Refused(CloseReason::UnknownApi(key));
        };
        if key == JoinClusterRequest::KEY {
            return call.answer_later::<JoinClusterRequest>(body, move |request| {
                async move { controller.place(request).await }.boxed()
            });
        }
        match incoming.connection.identity::<PeerId>().copied() {
            Some(peer) if key == ReplicaFetchRequest::KEY => self.fetch(&call, peer, incoming, body),
            Some(_) if transactions::serves(key) => self.coordinate(&call, incoming, body),
            Some(peer) if key == SubmitRequest::KEY => submit(&call, peer, controller, &incoming, body),
            Some(peer) => serve(&call, peer, controller, body),
            None => Outcome::Refused(CloseReason::NoHello),
        }
    }

    fn fetch(&self, call: &Call, peer: PeerId, incoming: Incoming, body: &mut Reader) -> Outcome {
        let request = match call.decode::<ReplicaFetchRequest>(body) {
            Ok(request) => request,
            Err(refused) => return refused,
        };
        let Some(broker) = self.broker.get().filter(|_| request.replica_id == peer.node_id) else {
            let error_code = ErrorCode::STALE_BROKER_EPOCH;
            return Outcome::Ready(call.reply(&FetchResponse { error_code, ..FetchResponse::default() }));
        };
        let trace = sample_replica_fetch(&broker.node, &incoming.connection, incoming.arrival);
        let ctx = context(broker, incoming, trace);
        let call = RouteCall::of(&ctx, call.key, call.correlation);
        stage_outcome(replica_fetch(ctx, request), call, None)
    }

    /// A request of a transaction coordinator, or one to this broker's.
    fn coordinate(&self, call: &Call, incoming: Incoming, body: &mut Reader) -> Outcome {
        if call.key == WriteMarkersRequest::KEY {
            return match call.decode::<WriteMarkersRequest>(body) {
                Ok(request) => call.stage(transactions::write_markers(self.traced(incoming, &request), request)),
                Err(refused) => refused,
            };
        }
        match call.decode::<AddPartitionsRequest>(body) {
            Ok(request) => call.stage(transactions::add_partitions(self.traced(incoming, &request), request)),
            Err(refused) => refused,
        }
    }

    /// What a handler is given beside a request of another node; `None` before this broker has its partitions.
    fn traced<R: TracedRequest>(&self, incoming: Incoming, request: &R) -> Option<RequestContext> {
        let broker = self.broker.get()?;
        let trace = begin_peer_span(&broker.node, request, &incoming.connection, incoming.arrival);
        Some(context(broker, incoming, trace))
    }

    fn identify(&self) -> IdentifyResponse {
        let membership = self.local.membership();
        IdentifyResponse {
            cluster_id: membership.map(|membership| membership.cluster_id.clone()),
            node_id: membership.map_or(-1, |membership| membership.node_id),
            directory: self.local.directory(),
            incarnation: self.local.incarnation(),
            join: self.local.join().to_vec(),
            recovery: self.controller.get().and_then(|controller| controller.raft().recovery()).map_or(-1, to_i64),
        }
    }
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn context(broker: &Arc<Broker>, incoming: Incoming, trace: Option<Arc<Span>>) -> RequestContext {
    let Incoming { header, connection, arrival } = incoming;
    RequestContext {
        broker: Arc::clone(broker),
        connection,
        client_id: None,
        api_version: header.api_version,
        arrival,
        routes: ROUTES,
        trace,
    }
}

fn in_no_cluster() -> JoinClusterResponse {
    JoinClusterResponse {
        error_code: ErrorCode::BROKER_NOT_AVAILABLE,
        error_message: Some("this node is in no cluster yet".into()),
        ..JoinClusterResponse::default()
    }
}

/// The code of a request in another node's name.
const FORGED: ErrorCode = ErrorCode::INVALID_VOTER_KEY;

/// A controller speaks for itself alone.
fn is_of(peer: PeerId, vote: &WireVote) -> bool {
    vote.candidate.node_id == peer.node_id && vote.candidate.directory == peer.directory
}

fn raft_id(peer: PeerId) -> RaftId {
    RaftId { node_id: peer.node_id, directory: peer.directory.0 }
}

/// A request of a node that has proved who it is.
fn serve(call: &Call, peer: PeerId, controller: Arc<Controller>, body: &mut Reader) -> Outcome {
    match call.key {
        RaftAppendRequest::KEY => call.answer_later::<RaftAppendRequest>(body, move |request| {
            let answer = async move {
                match is_of(peer, &request.vote) {
                    true => controller.raft().append(&request).await,
                    false => RaftAppendResponse { error_code: FORGED, ..RaftAppendResponse::default() },
                }
            };
            answer.boxed()
        }),
        RaftVoteRequest::KEY => call.answer_later::<RaftVoteRequest>(body, move |request| {
            let answer = async move {
                match is_of(peer, &request.vote) {
                    true => controller.raft().vote(&request).await,
                    false => RaftVoteResponse { error_code: FORGED, ..RaftVoteResponse::default() },
                }
            };
            answer.boxed()
        }),
        RaftSnapshotRequest::KEY => call.answer_later::<RaftSnapshotRequest>(body, move |request| {
            let answer = async move {
                match is_of(peer, &request.vote) {
                    true => controller.raft().receive_snapshot(&request).await,
                    false => RaftSnapshotResponse { error_code: FORGED, ..RaftSnapshotResponse::default() },
                }
            };
            answer.boxed()
        }),
        RaftPullRequest::KEY => call.answer_later::<RaftPullRequest>(body, move |request| {
            async move { controller.raft().pull(raft_id(peer), &request.bounded()).await }.boxed()
        }),
        RaftPullSnapshotRequest::KEY => call.answer_later::<RaftPullSnapshotRequest>(body, move |request| {
            async move { controller.raft().pull_snapshot(&request).await }.boxed()
        }),
        RaftTransferRequest::KEY => call.answer_later::<RaftTransferRequest>(body, move |request| {
            let answer = async move {
                match is_of(peer, &request.vote) {
                    true => controller.raft().transfer_leader(&request).await,
                    false => RaftTransferResponse { error_code: FORGED, ..RaftTransferResponse::default() },
                }
            };
            answer.boxed()
        }),
        HeartbeatRequest::KEY => call.answer_later::<HeartbeatRequest>(body, move |request| {
            async move { controller.heartbeat(peer, &request).await }.boxed()
        }),
        ChangeVoterRequest::KEY => call.answer_later::<ChangeVoterRequest>(body, move |request| {
            async move { controller.change_voter_for(request).await }.boxed()
        }),
        DescribeMembersRequest::KEY => {
            call.answer::<DescribeMembersRequest>(body, move |_| controller.describe_members())
        }
        key => Outcome::Refused(CloseReason::UnknownApi(key)),
    }
}

/// A request to the active controller.
fn submit(call: &Call, peer: PeerId, controller: Arc<Controller>, incoming: &Incoming, body: &mut Reader) -> Outcome {
    call.answer_later::<SubmitRequest>(body, move |request| {
        let span = begin_peer_span(controller.node(), &request, &incoming.connection, incoming.arrival);
        let failing = span.clone();
        let answer = async move {
            let answer = controller.submit_for(peer, request).await;
            if let Some(span) = failing.filter(|_| answer.message.is_some()) {
                span.set_failed();
            }
            answer
        };
        in_span(span.as_ref(), answer)
    })
}

/// A request's place in its connection.
#[derive(Debug, Clone, Copy)]
struct Call {
    key: ApiKey,
    version: i16,
    correlation: i32,
}

impl Call {
    fn decode<R: Request>(&self, body: &mut Reader) -> Result<R, Outcome> {
        if !R::VERSIONS.contains(&self.version) {
            return Err(Outcome::Refused(CloseReason::UnsupportedVersion(self.key, self.version)));
        }
        R::decode(body, self.version).map_err(|error| Outcome::Refused(CloseReason::Malformed(Some(self.key), error)))
    }

    fn reply<M: Message>(&self, response: &M) -> Reply {
        match encode_response(self.key, self.version, self.correlation, response) {
            Ok(chunks) => Reply::Frame(chunks, None),
            Err(error) => {
                tracing::error!(key = self.key.0, %error, "an answer to another node cannot be encoded");
                Reply::Close(CloseReason::Unencodable(self.key, self.version))
            }
        }
    }

    fn stage<M: Message>(&self, staged: Staged<M>) -> Outcome {
        let call = *self;
        match staged {
            Staged::Ready(response) => Outcome::Ready(call.reply(&response)),
            Staged::Later(response) => Outcome::Later(async move { call.reply(&response.await) }.boxed()),
            Staged::Parked(bytes, response) => {
                Outcome::Parked(bytes, async move { call.reply(&response.await) }.boxed())
            }
            Staged::Held(rest) => Outcome::Held(async move { call.stage(rest.await) }.boxed()),
            Staged::NoReply => Outcome::Ready(Reply::Nothing),
            Staged::Close(reason) => Outcome::Ready(Reply::Close(reason)),
        }
    }

    fn answer<R: Request>(&self, body: &mut Reader, answer: impl FnOnce(R) -> R::Response) -> Outcome {
        match self.decode::<R>(body) {
            Ok(request) => Outcome::Ready(self.reply(&answer(request))),
            Err(refused) => refused,
        }
    }

    fn answer_later<R: Request>(
        &self,
        body: &mut Reader,
        answer: impl FnOnce(R) -> BoxFuture<'static, R::Response>,
    ) -> Outcome {
        match self.decode::<R>(body) {
            Ok(request) => {
                let (call, answer) = (*self, answer(request));
                Outcome::Later(async move { call.reply(&answer.await) }.boxed())
            }
            Err(refused) => refused,
        }
    }
}
