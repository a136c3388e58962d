//! Requests: for every API and version, valid bytes made from the schema, whole and damaged.

use bytes::Bytes;
use esker_protocol::Request;
use esker_protocol::api::ApiKey;
use esker_protocol::messages::*;
use esker_protocol::primitives::{Reader, Writer};
use esker_protocol::schema::{Field, Kind, Schema};
use esker_protocol::{Message, RequestHeader};

use crate::mutate::{Random, mutate};
use crate::{fuzz, peak};

/// What a decoded request may hold for each byte of its frame: the largest struct that an empty element becomes.
const PER_BYTE: usize = 128;
const ROOM: usize = 64 << 10;

/// Writes random fields by their schema.
struct Generator<'a> {
    random: &'a mut Random,
    version: i16,
    flexible: bool,
}

impl Generator<'_> {
    fn body(&mut self, w: &mut Writer, schema: &Schema, depth: usize) {
        let (version, mut tagged) = (self.version, Vec::new());
        for field in schema.fields.iter().filter(|field| field.versions.contains(version)) {
            if field.tagged.contains(self.version) {
                if self.random.chance(2) {
                    tagged.push(field);
                }
            } else {
                self.value(w, &field.kind, self.nullable(field), depth);
            }
        }
        if self.flexible {
            tagged.sort_by_key(|field| field.tag);
            w.put_uvarint(tagged.len() as u32);
            for field in tagged {
                let mut inner = Writer::new();
                self.value(&mut inner, &field.kind, self.nullable(field), depth);
                w.put_uvarint(field.tag.unwrap());
                w.put_uvarint(inner.len() as u32);
                w.put_writer(inner);
            }
        }
    }

    fn nullable(&self, field: &Field) -> bool {
        field.nullable.contains(self.version)
    }

    fn length(&mut self, w: &mut Writer, length: Option<usize>, wide: bool) {
        match (length, self.flexible) {
            (None, true) => w.put_uvarint(0),
            (Some(length), true) => w.put_uvarint(length as u32 + 1),
            (length, false) if wide => w.put_i32(length.map_or(-1, |n| n as i32)),
            (length, false) => w.put_i16(length.map_or(-1, |n| n as i16)),
        }
    }

    fn value(&mut self, w: &mut Writer, kind: &Kind, nullable: bool, depth: usize) {
        let null = nullable && self.random.chance(4);
        let number = self.random.next();
        match kind {
            Kind::Bool => w.put_i8((number & 1) as i8),
            Kind::Int8 => w.put_i8(number as i8),
            Kind::Int16 | Kind::Uint16 => w.put_i16(number as i16),
            Kind::Int32 | Kind::Uint32 => w.put_i32(number as i32),
            Kind::Int64 => w.put_i64(number as i64),
            Kind::Float64 => w.put_f64(number as f64),
            Kind::Uuid => w.put_slice(&self.random.bytes(16)),
            Kind::String | Kind::Bytes => {
                let length = self.random.below(12);
                self.length(w, (!null).then_some(length), matches!(kind, Kind::Bytes));
                if !null {
                    w.put_slice(&vec![b'a' + (number % 26) as u8; length]);
                }
            }
            Kind::Array(of) => {
                let count = self.random.below([4, 3, 2, 1][depth.min(3)] + 1);
                self.length(w, (!null).then_some(count), true);
                for _ in 0..if null { 0 } else { count } {
                    self.value(w, of, false, depth + 1);
                }
            }
            Kind::Struct(schema) => {
                if nullable {
                    w.put_i8(if null { -1 } else { 1 });
                }
                if !(nullable && null) {
                    self.body(w, schema, depth + 1);
                }
            }
        }
    }
}

fn generate<R: Message>(random: &mut Random, version: i16) -> Bytes {
    let flexible = R::SCHEMA.flexible.contains(version);
    let mut w = Writer::new();
    Generator { random, version, flexible }.body(&mut w, R::SCHEMA, 0);
    w.finish().into_bytes()
}

fn decode<R: Message>(bytes: Bytes, version: i16) -> Option<R> {
    let mut r = Reader::new(bytes);
    R::decode(&mut r, version).ok()
}

fn encode<R: Message>(message: &R, version: i16) -> Bytes {
    let mut w = Writer::new();
    message.encode(&mut w, version).unwrap();
    w.finish().into_bytes()
}

fn one<M: Message>(random: &mut Random, version: i16) {
    let name = M::SCHEMA.name;
    let valid = generate::<M>(random, version);
    let message = decode::<M>(valid.clone(), version);
    let message = message.unwrap_or_else(|| panic!("{name} v{version}: its own bytes are refused: {valid:x?}"));
    let again = decode::<M>(encode(&message, version), version).unwrap();
    // Through bytes, since a NaN is not equal to itself.
    assert_eq!(encode(&again, version), encode(&message, version), "{name} v{version}");
    for _ in 0..4 {
        let damaged = mutate(random, &valid);
        let length = damaged.len();
        let held = peak(|| {
            if let Some(message) = decode::<M>(damaged, version) {
                let _ = message.encode(&mut Writer::new(), version);
            }
        });
        assert!(held <= ROOM + PER_BYTE * length, "{name} v{version}: {length} bytes of input held {held} bytes");
    }
}

fn request_and_response<R: Request>(random: &mut Random) {
    let version = *R::VERSIONS.start() + random.below(R::VERSIONS.count()) as i16;
    one::<R>(random, version);
    one::<R::Response>(random, version);
}

macro_rules! requests {
    ($($module:ident::$name:ident,)*) => { [$(request_and_response::<$module::$name>,)*] };
}

const REQUESTS: &[fn(&mut Random)] = &requests![
    add_offsets_to_txn::AddOffsetsToTxnRequest,
    add_partitions_to_txn::AddPartitionsToTxnRequest,
    add_raft_voter::AddRaftVoterRequest,
    allocate_producer_ids::AllocateProducerIdsRequest,
    alter_client_quotas::AlterClientQuotasRequest,
    alter_configs::AlterConfigsRequest,
    alter_partition::AlterPartitionRequest,
    alter_partition_reassignments::AlterPartitionReassignmentsRequest,
    alter_replica_log_dirs::AlterReplicaLogDirsRequest,
    alter_share_group_offsets::AlterShareGroupOffsetsRequest,
    alter_user_scram_credentials::AlterUserScramCredentialsRequest,
    api_versions::ApiVersionsRequest,
    assign_replicas_to_dirs::AssignReplicasToDirsRequest,
    begin_quorum_epoch::BeginQuorumEpochRequest,
    broker_heartbeat::BrokerHeartbeatRequest,
    broker_registration::BrokerRegistrationRequest,
    consumer_group_describe::ConsumerGroupDescribeRequest,
    consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
    controller_registration::ControllerRegistrationRequest,
    create_acls::CreateAclsRequest,
    create_delegation_token::CreateDelegationTokenRequest,
    create_partitions::CreatePartitionsRequest,
    create_topics::CreateTopicsRequest,
    delete_acls::DeleteAclsRequest,
    delete_groups::DeleteGroupsRequest,
    delete_records::DeleteRecordsRequest,
    delete_share_group_offsets::DeleteShareGroupOffsetsRequest,
    delete_share_group_state::DeleteShareGroupStateRequest,
    delete_topics::DeleteTopicsRequest,
    describe_acls::DescribeAclsRequest,
    describe_client_quotas::DescribeClientQuotasRequest,
    describe_cluster::DescribeClusterRequest,
    describe_configs::DescribeConfigsRequest,
    describe_delegation_token::DescribeDelegationTokenRequest,
    describe_groups::DescribeGroupsRequest,
    describe_log_dirs::DescribeLogDirsRequest,
    describe_producers::DescribeProducersRequest,
    describe_quorum::DescribeQuorumRequest,
    describe_share_group_offsets::DescribeShareGroupOffsetsRequest,
    describe_topic_partitions::DescribeTopicPartitionsRequest,
    describe_transactions::DescribeTransactionsRequest,
    describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
    elect_leaders::ElectLeadersRequest,
    end_quorum_epoch::EndQuorumEpochRequest,
    end_txn::EndTxnRequest,
    envelope::EnvelopeRequest,
    expire_delegation_token::ExpireDelegationTokenRequest,
    fetch::FetchRequest,
    fetch_snapshot::FetchSnapshotRequest,
    find_coordinator::FindCoordinatorRequest,
    get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest,
    heartbeat::HeartbeatRequest,
    incremental_alter_configs::IncrementalAlterConfigsRequest,
    init_producer_id::InitProducerIdRequest,
    initialize_share_group_state::InitializeShareGroupStateRequest,
    join_group::JoinGroupRequest,
    leave_group::LeaveGroupRequest,
    list_config_resources::ListConfigResourcesRequest,
    list_groups::ListGroupsRequest,
    list_offsets::ListOffsetsRequest,
    list_partition_reassignments::ListPartitionReassignmentsRequest,
    list_transactions::ListTransactionsRequest,
    metadata::MetadataRequest,
    offset_commit::OffsetCommitRequest,
    offset_delete::OffsetDeleteRequest,
    offset_fetch::OffsetFetchRequest,
    offset_for_leader_epoch::OffsetForLeaderEpochRequest,
    produce::ProduceRequest,
    push_telemetry::PushTelemetryRequest,
    read_share_group_state::ReadShareGroupStateRequest,
    read_share_group_state_summary::ReadShareGroupStateSummaryRequest,
    remove_raft_voter::RemoveRaftVoterRequest,
    renew_delegation_token::RenewDelegationTokenRequest,
    sasl_authenticate::SaslAuthenticateRequest,
    sasl_handshake::SaslHandshakeRequest,
    share_acknowledge::ShareAcknowledgeRequest,
    share_fetch::ShareFetchRequest,
    share_group_describe::ShareGroupDescribeRequest,
    share_group_heartbeat::ShareGroupHeartbeatRequest,
    streams_group_describe::StreamsGroupDescribeRequest,
    streams_group_heartbeat::StreamsGroupHeartbeatRequest,
    streams_group_topology_description_update::StreamsGroupTopologyDescriptionUpdateRequest,
    sync_group::SyncGroupRequest,
    txn_offset_commit::TxnOffsetCommitRequest,
    unregister_broker::UnregisterBrokerRequest,
    unregister_controller::UnregisterControllerRequest,
    update_features::UpdateFeaturesRequest,
    update_raft_voter::UpdateRaftVoterRequest,
    vote::VoteRequest,
    write_share_group_state::WriteShareGroupStateRequest,
    write_txn_markers::WriteTxnMarkersRequest,
];

#[test]
fn requests() {
    fuzz("requests", |random| REQUESTS[random.below(REQUESTS.len())](random));
}

#[test]
fn request_headers() {
    fuzz("request headers", |random| {
        let key = ApiKey(random.below(100) as i16);
        let header = RequestHeader {
            api_key: key,
            api_version: random.below(20) as i16 - 2,
            correlation_id: random.next() as i32,
            client_id: random.chance(2).then(|| "client".into()),
        };
        let mut w = Writer::new();
        header.encode(&mut w).unwrap();
        let bytes = w.finish().into_bytes();
        assert_eq!(RequestHeader::decode(&mut Reader::new(bytes.clone())), Ok(header));
        let _ = RequestHeader::decode(&mut Reader::new(mutate(random, &bytes)));
    });
}
