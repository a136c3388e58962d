//! One thin file an API: authorise, ask the domain, answer.
//!
//! A handler names its request type and the versions that it serves. One list of handlers ([`ROUTES`]) gives dispatch
//! *and* the ApiVersions answer, so the two cannot disagree: what is not in the list is not advertised.

mod acls;
mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod alter_replica_log_dirs;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
pub(crate) mod create_topics;
mod delegation_tokens;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod end_txn;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
mod produce;
mod reassignments;
mod sasl;
mod scram_credentials;
mod sync_group;
mod transactions;
mod txn_offset_commit;
mod update_features;
mod write_txn_markers;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use esker_protocol::api::ApiKey;
use esker_protocol::primitives::{Reader, Str};
use esker_protocol::schema::Schema;
use esker_protocol::{Message, Request, RequestHeader, encode_response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::broker::{Broker, Endpoint};
use crate::server::{ConnectionInfo, Reply};
use crate::telemetry::{Metrics, ServedApi};

pub use crate::server::CloseReason;

/// What a handler is given beside its request.
#[derive(Clone)]
pub struct RequestContext {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Where the request came in.
    pub connection: Arc<ConnectionInfo>,
    /// The client's name for itself.
    pub client_id: Option<Str>,
    /// The version of the request.
    pub api_version: i16,
    /// When it had been read whole.
    pub received: Instant,
}

impl RequestContext {
    /// Where clients of this connection's listener reach a broker.
    pub fn endpoint_of(&self, node_id: i32) -> Option<Endpoint> {
        self.broker.endpoint_of(node_id, &self.connection.listener)
    }
}

/// What stage one of a handler leaves.
pub enum Staged<R> {
    /// The answer.
    Ready(R),
    /// The answer will come; meanwhile later requests of the connection begin.
    Later(BoxFuture<'static, R>),
    /// Stage one goes on after a wait: until it is over no later request of the connection begins.
    Held(BoxFuture<'static, Staged<R>>),
    /// The client expects no answer.
    NoReply,
    /// The connection ends.
    Close(CloseReason),
}

impl<R> Staged<R> {
    /// Begins `answer` now, so that what it does before its first wait happens in request order; the rest goes on later.
    pub fn start(answer: impl Future<Output = R> + Send + 'static) -> Self {
        let mut answer = answer.boxed();
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(response) => Self::Ready(response),
            Poll::Pending => Self::Later(answer),
        }
    }
}

/// One API.
pub trait Handler {
    /// Its request.
    type Request: Request;
    /// The versions that are served, all of them whole.
    const VERSIONS: RangeInclusive<i16>;
    /// Stage one: runs in request order on the connection's task and must not block. Whatever must keep the order (an
    /// append) happens here.
    fn handle(ctx: RequestContext, request: Self::Request) -> Staged<<Self::Request as Request>::Response>;
}

/// What dispatch leaves: as [`Staged`], encoded.
pub enum Outcome {
    /// Done.
    Ready(Reply),
    /// The answer will come.
    Later(BoxFuture<'static, Reply>),
    /// What comes of it is seen later, and no other request begins before.
    Held(BoxFuture<'static, Outcome>),
    /// The request is none that can be answered.
    Refused(CloseReason),
}

/// One row of the list of handlers.
pub struct Route {
    /// The API.
    pub key: ApiKey,
    /// First version served.
    pub min_version: i16,
    /// Last version served.
    pub max_version: i16,
    /// What its answer looks like.
    pub response: &'static Schema,
    run: fn(RequestContext, i32, &mut Reader) -> Outcome,
}

macro_rules! routes {
    ($($handler:ty,)*) => {
        /// Every API that is served.
        pub static ROUTES: &[Route] = &[$(Route {
            key: <<$handler as Handler>::Request as Request>::KEY,
            min_version: *<$handler as Handler>::VERSIONS.start(),
            max_version: *<$handler as Handler>::VERSIONS.end(),
            response: <<<$handler as Handler>::Request as Request>::Response as Message>::SCHEMA,
            run: run::<$handler>,
        },)*];
    };
}

routes! {
    produce::Produce,
    fetch::Fetch,
    list_offsets::ListOffsets,
    metadata::Metadata,
    offset_commit::OffsetCommit,
    offset_fetch::OffsetFetch,
    find_coordinator::FindCoordinator,
    join_group::JoinGroup,
    heartbeat::Heartbeat,
    leave_group::LeaveGroup,
    sync_group::SyncGroup,
    groups::DescribeGroups,
    groups::ListGroups,
    api_versions::ApiVersions,
    create_topics::CreateTopics,
    delete_topics::DeleteTopics,
    delete_records::DeleteRecords,
    init_producer_id::InitProducerId,
    offset_for_leader_epoch::OffsetForLeaderEpoch,
    add_partitions_to_txn::AddPartitionsToTxn,
    add_offsets_to_txn::AddOffsetsToTxn,
    end_txn::EndTxn,
    write_txn_markers::WriteTxnMarkers,
    txn_offset_commit::TxnOffsetCommit,
    describe_configs::DescribeConfigs,
    alter_configs::AlterConfigs,
    alter_replica_log_dirs::AlterReplicaLogDirs,
    describe_log_dirs::DescribeLogDirs,
    create_partitions::CreatePartitions,
    groups::DeleteGroups,
    offset_delete::OffsetDelete,
    elect_leaders::ElectLeaders,
    alter_configs::IncrementalAlterConfigs,
    reassignments::AlterPartitionReassignments,
    reassignments::ListPartitionReassignments,
    describe_quorum::DescribeQuorum,
    update_features::UpdateFeatures,
    describe_cluster::DescribeCluster,
    describe_producers::DescribeProducers,
    consumer_group_heartbeat::ConsumerGroupHeartbeat,
    consumer_group_describe::ConsumerGroupDescribe,
    transactions::DescribeTransactions,
    transactions::ListTransactions,
    list_config_resources::ListConfigResources,
    describe_topic_partitions::DescribeTopicPartitions,
    sasl::SaslHandshake,
    sasl::SaslAuthenticate,
    acls::DescribeAcls,
    acls::CreateAcls,
    acls::DeleteAcls,
    delegation_tokens::CreateDelegationToken,
    delegation_tokens::RenewDelegationToken,
    delegation_tokens::ExpireDelegationToken,
    delegation_tokens::DescribeDelegationToken,
    scram_credentials::DescribeUserScramCredentials,
    scram_credentials::AlterUserScramCredentials,
}

/// Every API that is served, for what counts requests.
pub fn served_apis() -> impl Iterator<Item = ServedApi> {
    ROUTES.iter().map(|route| ServedApi { key: route.key, versions: route.min_version..=route.max_version })
}

/// Runs stage one of whatever handler the header names.
pub fn dispatch(ctx: RequestContext, header: &RequestHeader, body: &mut Reader) -> Outcome {
    let Some(route) = ROUTES.iter().find(|route| route.key == header.api_key) else {
        return Outcome::Refused(CloseReason::UnknownApi(header.api_key));
    };
    if !(route.min_version..=route.max_version).contains(&header.api_version) {
        if header.api_key == ApiKey::API_VERSIONS {
            return api_versions::answer_unsupported(&ctx, header.correlation_id);
        }
        return Outcome::Refused(CloseReason::UnsupportedVersion(header.api_key, header.api_version));
    }
    (route.run)(ctx, header.correlation_id, body)
}

fn run<H: Handler>(ctx: RequestContext, correlation_id: i32, body: &mut Reader) -> Outcome
where
    <H::Request as Request>::Response: Send,
{
    let (version, received, metrics) = (ctx.api_version, ctx.received, Arc::clone(&ctx.broker.metrics));
    let key = <H::Request as Request>::KEY;
    let request = match H::Request::decode(body, version) {
        Ok(request) => request,
        Err(error) => return Outcome::Refused(CloseReason::Malformed(Some(key), error)),
    };
    let encode = move |metrics: &Metrics, response: &<H::Request as Request>::Response| {
        reply(metrics, key, version, correlation_id, received, response)
    };
    outcome::<H>(H::handle(ctx, request), metrics, version, received, encode)
}

fn outcome<H: Handler>(
    staged: Staged<<H::Request as Request>::Response>,
    metrics: Arc<Metrics>,
    version: i16,
    received: Instant,
    encode: impl Fn(&Metrics, &<H::Request as Request>::Response) -> Reply + Send + Sync + 'static,
) -> Outcome
where
    <H::Request as Request>::Response: Send,
{
    match staged {
        Staged::Ready(response) => Outcome::Ready(encode(&metrics, &response)),
        Staged::Later(response) => Outcome::Later(async move { encode(&metrics, &response.await) }.boxed()),
        Staged::Held(rest) => {
            let rest = async move { outcome::<H>(rest.await, metrics, version, received, encode) };
            Outcome::Held(rest.boxed())
        }
        Staged::NoReply => {
            metrics.requests.answered(<H::Request as Request>::KEY, version, received.elapsed(), &[]);
            Outcome::Ready(Reply::Nothing)
        }
        Staged::Close(reason) => Outcome::Ready(Reply::Close(reason)),
    }
}

fn reply<M: Message>(
    metrics: &Metrics,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    received: Instant,
    response: &M,
) -> Reply {
    match encode_response(key, version, correlation_id, response) {
        Ok(chunks) => {
            metrics.requests.answered(key, version, received.elapsed(), chunks.errors());
            Reply::Frame(chunks)
        }
        Err(error) => {
            tracing::error!(%key, version, %error, "an answer cannot be encoded");
            Reply::Close(CloseReason::Unencodable(key, version))
        }
    }
}

#[cfg(test)]
mod tests;
