//! Every API in every version that it is served in: an answer that cannot be written in an old version would close the
//! connection, and some client in the wild speaks just that version.

mod allocations;
mod back_to_back;
mod cut_files;
mod encodable;
mod pending;
mod security;
mod sessions;
mod transactions;
mod voters;

use esker_protocol::Request;
use esker_protocol::messages::alter_configs::{AlterConfigsRequest, AlterConfigsResource};
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use esker_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use esker_protocol::messages::api_versions::ApiVersionsRequest;
use esker_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use esker_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use esker_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::delete_groups::DeleteGroupsRequest;
use esker_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use esker_protocol::messages::describe_cluster::DescribeClusterRequest;
use esker_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_protocol::messages::describe_groups::DescribeGroupsRequest;
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_protocol::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use esker_protocol::messages::describe_quorum::{self, DescribeQuorumRequest};
use esker_protocol::messages::describe_topic_partitions::{self, DescribeTopicPartitionsRequest};
use esker_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest;
use esker_protocol::messages::heartbeat::HeartbeatRequest;
use esker_protocol::messages::incremental_alter_configs::IncrementalAlterConfigsRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use esker_protocol::messages::list_config_resources::ListConfigResourcesRequest;
use esker_protocol::messages::list_groups::ListGroupsRequest;
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use esker_protocol::messages::metadata::MetadataRequest;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_delete::OffsetDeleteRequest;
use esker_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use esker_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::messages::push_telemetry::PushTelemetryRequest;
use esker_protocol::messages::sync_group::SyncGroupRequest;
use esker_protocol::messages::update_features::UpdateFeaturesRequest;
use esker_protocol::primitives::Uuid;

use super::*;
use crate::replica::{Assignment, Role, TopicRef};
use crate::server::{ConnectionInfo, Reply};
use crate::test_support::{Client, broker, create_topic, create_topic_with};

#[test]
fn every_api_is_listed_once_and_within_what_the_protocol_knows() {
    for (at, route) in ROUTES.iter().enumerate() {
        assert!(ROUTES.iter().skip(at + 1).all(|other| other.key != route.key), "{:?} twice", route.key);
        let known = &route.key.info().unwrap().versions;
        assert!(known.contains(&route.min_version) && known.contains(&route.max_version), "{:?}", route.key);
    }
}

/// Sends the request in every version, and records that it did.
struct Asker {
    client: Client,
    asked: Vec<ApiKey>,
}

impl Asker {
    async fn ask<R: Request>(&mut self, build: impl Fn(i16) -> R) {
        let route = ROUTES.iter().find(|route| route.key == R::KEY).unwrap();
        for version in route.min_version..=route.max_version {
            eprintln!("{} version {version}", R::KEY);
            self.client.ask(version, &build(version)).await;
        }
        self.asked.push(R::KEY);
    }
}

fn batch() -> bytes::Bytes {
    let mut batch = esker_protocol::records::BatchBuilder::new(esker_protocol::compression::Compression::None);
    batch.append(0, 1, Some(b"key"), Some(b"value"), &[]);
    batch.build().unwrap()
}

/// What is known of a connection that does not exist.
fn connection() -> Arc<ConnectionInfo> {
    Arc::new(ConnectionInfo::new("127.0.0.1:1".parse().unwrap(), "PLAINTEXT".into()))
}

/// Runs stage one of the request in `frame` as a connection does.
fn dispatch(service: &ClientService, connection: &Arc<ConnectionInfo>, frame: bytes::Bytes) -> Outcome {
    let mut reader = Reader::new(frame);
    let header = esker_protocol::RequestHeader::decode(&mut reader).unwrap();
    let incoming = Incoming {
        header,
        connection: Arc::clone(connection),
        arrival: crate::telemetry::Arrival::at(tokio::time::Instant::now(), 0),
    };
    service.dispatch(incoming, &mut reader)
}

/// The frame of a request, without its length.
fn frame<R: Request>(version: i16, request: &R) -> bytes::Bytes {
    esker_protocol::encode_request(version, 7, Some("test".into()), request).unwrap().into_bytes().slice(4..)
}

/// What has become of the requested partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Led,
    LedElsewhere,
    Deleted,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_every_api_has_an_answer() {
    ask_in(State::Led).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_every_api_has_an_answer_about_a_partition_that_is_led_elsewhere() {
    ask_in(State::LedElsewhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_every_api_has_an_answer_about_a_partition_that_is_gone() {
    ask_in(State::Deleted).await;
}

async fn ask_in(state: State) {
    let (running, _dir) = broker(&[
        ("group.initial.rebalance.delay.ms", "0"),
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "1"),
    ])
    .await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let id = running.broker.metadata.image().topic("t").unwrap().id;
    // The offsets topic is made at the first question for a coordinator, and loaded soon after.
    let find = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
    while client.ask(0, &find).await.error_code.is_error() {}
    let mut a = Asker { client, asked: Vec::new() };
    let zero = Uuid::ZERO;
    let partition = running.broker.replicas.partition(&TopicRef::by_name(&"t".into()), 0).unwrap();
    match state {
        State::Led => {}
        State::LedElsewhere => {
            let role = partition.leader_for_epoch(-1).unwrap();
            let assignment = Assignment { leader: 2, leader_epoch: 5, ..role.assignment.clone() };
            partition.set_role(Role::of(1, assignment, Arc::clone(&role.settings))).unwrap();
        }
        State::Deleted => partition.close(),
    }

    a.ask(|_| ApiVersionsRequest::default()).await;
    a.ask(|v| {
        let named = if v >= 13 { ("".into(), id) } else { ("t".into(), zero) };
        let partition = PartitionProduceData { records: Some(batch()), ..PartitionProduceData::default() };
        let topic = TopicProduceData { name: named.0, topic_id: named.1, partition_data: vec![partition] };
        ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..ProduceRequest::default() }
    })
    .await;
    for offset in [0, 1, 100] {
        a.ask(|v| {
            let named = if v >= 13 { ("".into(), id) } else { ("t".into(), zero) };
            let partition =
                FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
            let topic = FetchTopic { topic: named.0, topic_id: named.1, partitions: vec![partition] };
            FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..FetchRequest::default() }
        })
        .await;
    }
    for timestamp in [-1, -2, -3, 0, i64::MAX] {
        a.ask(|_| {
            let partition = ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() };
            let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
            ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() }
        })
        .await;
    }
    a.ask(|_| MetadataRequest::default()).await;
    a.ask(|_| DescribeClusterRequest::default()).await;
    a.ask(|_| DescribeQuorumRequest {
        topics: vec![describe_quorum::TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![describe_quorum::PartitionData::default()],
        }],
    })
    .await;
    a.ask(|_| DescribeTopicPartitionsRequest {
        topics: vec![describe_topic_partitions::TopicRequest { name: "t".into() }],
        response_partition_limit: 10,
        ..DescribeTopicPartitionsRequest::default()
    })
    .await;
    a.ask(|_| OffsetForLeaderEpochRequest {
        replica_id: -2,
        topics: vec![OffsetForLeaderTopic { topic: "t".into(), partitions: vec![OffsetForLeaderPartition::default()] }],
    })
    .await;
    a.ask(|_| InitProducerIdRequest { transaction_timeout_ms: 1000, ..InitProducerIdRequest::default() }).await;
    a.ask(|_| DescribeLogDirsRequest { topics: None }).await;
    a.ask(|_| DescribeProducersRequest {
        topics: vec![TopicRequest { name: "t".into(), partition_indexes: vec![0, 9] }],
    })
    .await;
    a.ask(|_| DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configuration_keys: None,
        }],
        ..DescribeConfigsRequest::default()
    })
    .await;
    a.ask(|_| AlterConfigsRequest {
        resources: vec![AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs: Vec::new() }],
        validate_only: false,
    })
    .await;
    a.ask(|_| IncrementalAlterConfigsRequest::default()).await;
    a.ask(|_| ListConfigResourcesRequest::default()).await;
    a.ask(|_| GetTelemetrySubscriptionsRequest::default()).await;
    a.ask(|_| PushTelemetryRequest::default()).await;
    a.ask(|_| UpdateFeaturesRequest::default()).await;
    groups(&mut a, id).await;
    transactions::ask_all(&mut a, id).await;

    a.ask(|v| CreateTopicsRequest {
        topics: vec![
            CreatableTopic {
                name: format!("made-{v}").into(),
                num_partitions: 1,
                replication_factor: 1,
                ..CreatableTopic::default()
            },
            CreatableTopic { name: "t".into(), num_partitions: 1, replication_factor: 1, ..CreatableTopic::default() },
        ],
        timeout_ms: 60_000,
        ..CreateTopicsRequest::default()
    })
    .await;
    a.ask(|v| CreatePartitionsRequest {
        topics: vec![
            CreatePartitionsTopic { name: format!("made-{v}").into(), count: 2, assignments: None },
            CreatePartitionsTopic { name: "none".into(), count: 2, assignments: None },
        ],
        timeout_ms: 60_000,
        validate_only: false,
    })
    .await;
    a.ask(|_| AlterReplicaLogDirsRequest {
        dirs: vec![AlterReplicaLogDir {
            path: "/nowhere".into(),
            topics: vec![AlterReplicaLogDirTopic { name: "t".into(), partitions: vec![0] }],
        }],
    })
    .await;
    a.ask(|_| ElectLeadersRequest {
        topic_partitions: Some(vec![TopicPartitions { topic: "t".into(), partitions: vec![0, 9] }]),
        ..ElectLeadersRequest::default()
    })
    .await;
    a.ask(|_| AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic {
            name: "t".into(),
            partitions: vec![ReassignablePartition { partition_index: 0, replicas: Some(vec![1]) }],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    })
    .await;
    a.ask(|_| ListPartitionReassignmentsRequest::default()).await;
    a.ask(|_| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }],
        }],
        timeout_ms: 60_000,
    })
    .await;
    a.ask(|v| {
        let names = [format!("made-{v}"), "none".to_owned()];
        let states = names.iter().map(|name| DeleteTopicState { name: Some(name.clone().into()), topic_id: zero });
        DeleteTopicsRequest {
            topics: if v >= 6 { states.collect() } else { Vec::new() },
            topic_names: if v < 6 { names.iter().map(|name| name.clone().into()).collect() } else { Vec::new() },
            timeout_ms: 60_000,
        }
    })
    .await;
    security::ask(&mut a).await;
    voters::ask(&mut a).await;
    for route in ROUTES {
        assert!(a.asked.contains(&route.key), "{} was not asked", route.key);
    }
    running.stop().await.unwrap();
}

async fn groups(a: &mut Asker, id: Uuid) {
    a.ask(|v| {
        let (key, keys) = if v >= 4 { ("".into(), vec!["g".into()]) } else { ("g".into(), Vec::new()) };
        FindCoordinatorRequest { key, coordinator_keys: keys, ..FindCoordinatorRequest::default() }
    })
    .await;
    a.ask(|v| {
        let partition = OffsetCommitRequestPartition { committed_offset: 1, ..OffsetCommitRequestPartition::default() };
        let named = if v >= 10 { ("".into(), id) } else { ("t".into(), Uuid::ZERO) };
        let topic = OffsetCommitRequestTopic { name: named.0, topic_id: named.1, partitions: vec![partition] };
        OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..OffsetCommitRequest::default() }
    })
    .await;
    a.ask(|v| {
        if v < 8 {
            let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0, 7] };
            return OffsetFetchRequest {
                group_id: "g".into(),
                topics: Some(vec![topic]),
                ..OffsetFetchRequest::default()
            };
        }
        let named = if v >= 10 { ("".into(), id) } else { ("t".into(), Uuid::ZERO) };
        let topic = OffsetFetchRequestTopics { name: named.0, topic_id: named.1, partition_indexes: vec![0, 7] };
        let group = OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![topic]),
            ..OffsetFetchRequestGroup::default()
        };
        OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() }
    })
    .await;
    a.ask(|v| JoinGroupRequest {
        group_id: format!("joined-{v}").into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: if v >= 1 { 10_000 } else { -1 },
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: bytes::Bytes::new() }],
        ..JoinGroupRequest::default()
    })
    .await;
    let stranger = "stranger";
    a.ask(|_| SyncGroupRequest { group_id: "g".into(), member_id: stranger.into(), ..SyncGroupRequest::default() })
        .await;
    a.ask(|_| HeartbeatRequest { group_id: "g".into(), member_id: stranger.into(), ..HeartbeatRequest::default() })
        .await;
    a.ask(|v| {
        let member = MemberIdentity { member_id: stranger.into(), ..MemberIdentity::default() };
        let (one, many) = if v >= 3 { ("".into(), vec![member]) } else { (stranger.into(), Vec::new()) };
        LeaveGroupRequest { group_id: "g".into(), member_id: one, members: many }
    })
    .await;
    a.ask(|_| DescribeGroupsRequest {
        groups: vec!["g".into(), "joined-2".into(), "none".into()],
        ..DescribeGroupsRequest::default()
    })
    .await;
    a.ask(|v| ConsumerGroupHeartbeatRequest {
        group_id: format!("consumer-{v}").into(),
        member_id: "member".into(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    })
    .await;
    a.ask(|_| ConsumerGroupDescribeRequest {
        group_ids: vec!["consumer-0".into(), "none".into()],
        ..ConsumerGroupDescribeRequest::default()
    })
    .await;
    a.ask(|_| ListGroupsRequest::default()).await;
    a.ask(|_| OffsetDeleteRequest { group_id: "g".into(), topics: Vec::new() }).await;
    a.ask(|_| DeleteGroupsRequest { groups_names: vec!["g".into(), "none".into()] }).await;
}
