//! One thin file an API: authorize, call the domain, answer.
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
pub(crate) mod delete_records;
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
pub(crate) mod handler;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_offsets;
mod loggers;
mod metadata;
mod node;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
pub mod peer;
mod produce;
mod raft_voters;
mod reassignments;
mod route;
mod sasl;
mod scram_credentials;
mod sync_group;
mod telemetry;
mod timeout;
mod traced;
mod transactions;
mod txn_offset_commit;
mod unregister_broker;
mod update_features;
mod write_txn_markers;

use std::sync::Arc;

use esker_protocol::api::ApiKey;
use esker_protocol::primitives::Reader;

use crate::broker::Broker;
use crate::server::{CloseReason, Incoming, Outcome, Service};
use crate::telemetry::ServedApi;
pub use node::NodeService;
pub use peer::{PEER_LIMITS, PeerService, fetch_of_followers};

use handler::{RequestContext, Route};
use route::{RouteTable, route_of};

macro_rules! routes {
    ($($handler:ty,)*) => {
        /// Every API that is served.
        pub static ROUTES: &[Route] = &[$(route_of::<$handler>(),)*];
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
    unregister_broker::UnregisterBroker,
    consumer_group_heartbeat::ConsumerGroupHeartbeat,
    consumer_group_describe::ConsumerGroupDescribe,
    transactions::DescribeTransactions,
    transactions::ListTransactions,
    telemetry::GetTelemetrySubscriptions,
    telemetry::PushTelemetry,
    list_config_resources::ListConfigResources,
    describe_topic_partitions::DescribeTopicPartitions,
    raft_voters::AddRaftVoter,
    raft_voters::RemoveRaftVoter,
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

/// Every API that is served to clients, for what counts requests.
pub fn served_apis() -> impl Iterator<Item = ServedApi> {
    ROUTES.iter().map(|route| ServedApi {
        key: route.key,
        name: route.key.name(),
        versions: route.min_version..=route.max_version,
    })
}

/// What clients are served: Kafka's protocol on the broker's listeners.
#[derive(Debug)]
pub struct ClientService {
    broker: Arc<Broker>,
    table: RouteTable,
}

impl ClientService {
    /// The service of a broker.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker, table: RouteTable::new(ROUTES) }
    }
}

impl Service for ClientService {
    fn dispatch(&self, incoming: Incoming, body: &mut Reader) -> Outcome {
        let Incoming { header, connection, arrival } = incoming;
        let Some(route) = self.table.get(header.api_key) else {
            return Outcome::Refused(CloseReason::UnknownApi(header.api_key));
        };
        let trace = traced::sample_request(&self.broker, &header, &connection, arrival);
        let ctx = RequestContext {
            broker: Arc::clone(&self.broker),
            connection,
            client_id: header.client_id,
            api_version: header.api_version,
            arrival,
            routes: ROUTES,
            trace,
        };
        if !(route.min_version..=route.max_version).contains(&header.api_version) {
            if header.api_key == ApiKey::API_VERSIONS {
                return api_versions::answer_unsupported(&ctx, header.correlation_id);
            }
            return Outcome::Refused(CloseReason::UnsupportedVersion(header.api_key, header.api_version));
        }
        (route.run)(ctx, header.correlation_id, body)
    }
}

#[cfg(test)]
mod tests;
