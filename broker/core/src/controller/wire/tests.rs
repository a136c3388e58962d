//! Every request and answer goes out and comes back, and hostile bytes are refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, PartitionData, PartitionDataResult, TopicData,
    TopicDataResult,
};
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopic, ReassignableTopicResponse,
};
use esker_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use esker_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicConfigs, CreatableTopicResult,
    CreateTopicsRequest, CreateTopicsResponse,
};
use esker_protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicState, DeleteTopicsResponse};
use esker_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use esker_protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use esker_protocol::primitives::{Str, Uuid};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::*;
use crate::config::Statics;
use crate::metadata::{FeatureRangeRecord, ListenerRecord, PartitionId};

const ID: Uuid = Uuid([7; 16]);

fn statics() -> Arc<Statics> {
    let configs = [("min.insync.replicas", "2"), ("log.retention.hours", "24"), ("log.dirs", "/a,/b")];
    Arc::new(Statics(configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()))
}

fn configs() -> NodeConfigs {
    NodeConfigs { node_id: 4, statics: statics() }
}

fn registration() -> Registration {
    Registration {
        node_id: 3,
        incarnation: Uuid([5; 16]),
        listeners: vec![ListenerRecord { name: "PLAINTEXT".into(), host: "h".into(), port: 9092 }],
        rack: Some("r".into()),
        log_dirs: vec![Uuid([8; 16]), Uuid([9; 16])],
        // A tagged field: version 0 is without it.
        cordoned_log_dirs: vec![],
    }
}

fn join() -> JoinRequest {
    let range = FeatureRangeRecord { name: "f".into(), min_level: 1, max_level: 2 };
    JoinRequest { registration: registration(), features: vec![range], record_level: 2, previous_epoch: 77 }
}

fn allocate(wanted: Option<i32>) -> AllocateNodeId {
    AllocateNodeId { wanted, directory: ID, abandoned: Vec::new() }
}

fn refusal<T>() -> Result<T, Refusal> {
    Err(Refusal { code: ErrorCode::STALE_BROKER_EPOCH, message: "stale".into() })
}

fn found() -> Vec<FoundPartition> {
    [Some(ID), None]
        .map(|topic_id| FoundPartition { topic: "t".into(), partition: 1, topic_id, leader_epoch: -1, producer_id: 9 })
        .into()
}

fn targets() -> Vec<ConfigTarget> {
    let ops = [Some(ConfigOp::Set), Some(ConfigOp::Delete), Some(ConfigOp::Append), Some(ConfigOp::Subtract), None];
    let changes = ops.map(|op| ConfigChange { name: "c".into(), op, value: op.map(|_| "v".into()) });
    vec![ConfigTarget { resource_type: 2, resource_name: "t".into(), replace_all: true, changes: changes.into() }]
}

fn create_topics() -> CreateTopicsRequest {
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: -1,
        replication_factor: 3,
        assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 2] }],
        configs: vec![CreatableTopicConfig { name: "c".into(), value: None }],
    };
    CreateTopicsRequest { topics: vec![topic], timeout_ms: 5, validate_only: true }
}

fn topics_created() -> CreateTopicsResponse {
    let config =
        CreatableTopicConfigs { name: "c".into(), value: None, read_only: true, config_source: 5, is_sensitive: true };
    let topic = CreatableTopicResult {
        name: "t".into(),
        topic_id: ID,
        error_code: ErrorCode::INVALID_CONFIG,
        error_message: None,
        topic_config_error_code: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        num_partitions: 3,
        replication_factor: 2,
        configs: Some(vec![config]),
    };
    CreateTopicsResponse { throttle_time_ms: 1, topics: vec![topic] }
}

fn create_partitions() -> CreatePartitionsRequest {
    let assignments = Some(vec![CreatePartitionsAssignment { broker_ids: vec![3] }]);
    let topics = vec![CreatePartitionsTopic { name: "t".into(), count: 9, assignments }];
    CreatePartitionsRequest { topics, timeout_ms: 1, validate_only: true }
}

fn partitions_created() -> CreatePartitionsResponse {
    let result = CreatePartitionsTopicResult {
        name: "t".into(),
        error_code: ErrorCode::INVALID_PARTITIONS,
        error_message: Some("m".into()),
    };
    CreatePartitionsResponse { throttle_time_ms: 1, results: vec![result] }
}

fn topics_to_delete() -> Vec<DeleteTopicState> {
    vec![
        DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO },
        DeleteTopicState { name: None, topic_id: ID },
    ]
}

fn topics_deleted() -> DeleteTopicsResponse {
    let result = DeletableTopicResult {
        name: None,
        topic_id: ID,
        error_code: ErrorCode::UNKNOWN_TOPIC_ID,
        error_message: Some("m".into()),
    };
    DeleteTopicsResponse { throttle_time_ms: 1, responses: vec![result] }
}

fn elect(topic_partitions: Option<Vec<TopicPartitions>>) -> ElectLeaders {
    let request = ElectLeadersRequest { election_type: 1, topic_partitions, timeout_ms: 3 };
    ElectLeaders { request, node_id: 4, statics: statics() }
}

fn leaders_elected() -> ElectLeadersResponse {
    let partition = PartitionResult { partition_id: 1, error_code: ErrorCode::NONE, error_message: Some("m".into()) };
    let result = ReplicaElectionResult { topic: "t".into(), partition_result: vec![partition] };
    let error_code = ErrorCode::INVALID_REQUEST;
    ElectLeadersResponse { throttle_time_ms: 1, error_code, replica_election_results: vec![result] }
}

fn reassign() -> AlterPartitionReassignmentsRequest {
    let partitions =
        [None, Some(vec![1, 2])].map(|replicas| ReassignablePartition { partition_index: 1, replicas }).into();
    AlterPartitionReassignmentsRequest {
        timeout_ms: 1,
        allow_replication_factor_change: false,
        topics: vec![ReassignableTopic { name: "t".into(), partitions }],
    }
}

fn reassigned() -> AlterPartitionReassignmentsResponse {
    let partition =
        ReassignablePartitionResponse { partition_index: 1, error_code: ErrorCode(9), error_message: Some("m".into()) };
    AlterPartitionReassignmentsResponse {
        throttle_time_ms: 1,
        allow_replication_factor_change: false,
        error_code: ErrorCode(1),
        error_message: None,
        responses: vec![ReassignableTopicResponse { name: "t".into(), partitions: vec![partition] }],
    }
}

/// In the form of each version: 0 has another way to allow a downgrade.
fn update_features(version: i16) -> UpdateFeatures {
    let update = FeatureUpdateKey {
        feature: "f".into(),
        max_version_level: 3,
        allow_downgrade: version == 0,
        upgrade_type: if version == 0 { 1 } else { 2 },
    };
    let request = UpdateFeaturesRequest { timeout_ms: 1, feature_updates: vec![update], validate_only: version > 0 };
    UpdateFeatures { request, version }
}

fn features_updated() -> UpdateFeaturesResponse {
    let result = UpdatableFeatureResult { feature: "f".into(), ..UpdatableFeatureResult::default() };
    let error_message = Some("m".into());
    UpdateFeaturesResponse { throttle_time_ms: 1, error_code: ErrorCode(9), error_message, results: vec![result] }
}

fn alter_partition() -> AlterPartition {
    let partition = PartitionData {
        partition_index: 1,
        leader_epoch: 2,
        new_isr: vec![],
        new_isr_with_epochs: vec![BrokerState { broker_id: 1, broker_epoch: 5 }],
        leader_recovery_state: 1,
        partition_epoch: 3,
    };
    let topics = vec![TopicData { topic_id: ID, partitions: vec![partition] }];
    AlterPartition { request: AlterPartitionRequest { broker_id: 1, broker_epoch: 5, topics }, configs: configs() }
}

fn partition_altered() -> AlterPartitionResponse {
    let partition = PartitionDataResult {
        partition_index: 1,
        error_code: ErrorCode::NONE,
        leader_id: 1,
        leader_epoch: 2,
        isr: vec![1, 2],
        leader_recovery_state: 1,
        partition_epoch: 4,
    };
    let topics = vec![TopicDataResult { topic_id: ID, partitions: vec![partition] }];
    AlterPartitionResponse { throttle_time_ms: 1, error_code: ErrorCode::NONE, topics }
}

macro_rules! samples {
    ($($name:ident: [$($request:expr),+] => [$($reply:expr),+];)*) => {
        /// Each request in all its forms. The match below is over all variants, so that a new one does not compile without a sample.
        fn requests() -> Vec<Request> {
            vec![$($(Request::$name($request),)+)*]
        }

        fn replies() -> Vec<Reply> {
            vec![$($(Reply::$name($reply),)+)*]
        }

        fn name(request: &Request) -> &'static str {
            match request {
                $(Request::$name(_) => stringify!($name),)*
            }
        }

        const NAMES: &[&str] = &[$(stringify!($name),)*];
    };
}

samples! {
    RegisterBroker:
        [RegisterBroker { registration: registration(), found: found(), fresh_ids: vec![ID] }]
        => [Adopted { topics: vec!["t".into()], left: vec![("u".into(), "why".into())] }];
    InitializeFeatures: [InitializeFeatures] => [()];
    CreateTopics:
        [CreateTopics {
            request: create_topics(),
            defaults: TopicDefaults { node_id: 4, statics: statics(), partitions: 6, replication_factor: 3 },
            topic_ids: vec![ID],
            seed: u64::MAX - 1,
        }]
        => [topics_created()];
    CreatePartitions: [CreatePartitions { request: create_partitions(), seed: 5 }] => [partitions_created()];
    DeleteTopics: [DeleteTopics { topics: topics_to_delete(), enabled: true }] => [topics_deleted()];
    AlterConfigs:
        [AlterConfigs { targets: targets(), validate_only: true, node_id: 4, statics: statics() }]
        => [vec![Ok(()), refusal()]];
    ElectLeaders:
        [elect(Some(vec![TopicPartitions { topic: "t".into(), partitions: vec![1] }])), elect(None)]
        => [leaders_elected()];
    AlterPartitionReassignments:
        [AlterPartitionReassignments { request: reassign(), node_id: 4, statics: statics() }]
        => [reassigned()];
    UpdateFeatures: [update_features(0), update_features(1), update_features(2)] => [features_updated()];
    AllocateProducerIds: [AllocateProducerIds { node_id: 1 }] => [i64::MAX];
    JoinBroker:
        [JoinBroker { join: join(), directory: ID, configs: configs(), alive: true }]
        => [Ok(8), refusal()];
    FenceBroker: [FenceBroker { node_id: 1, epoch: 2, configs: configs() }] => [Ok(true), Ok(false), refusal()];
    UnfenceBroker:
        [UnfenceBroker { node_id: 1, epoch: 2, applied: 3, configs: configs() }]
        => [Ok(true), refusal()];
    ShutDownBroker: [ShutDownBroker { node_id: 1, epoch: 2, configs: configs() }] => [Ok(3), refusal()];
    UnregisterBroker: [UnregisterBroker { node_id: 1, configs: configs() }] => [Ok(()), refusal()];
    AlterPartition: [alter_partition()] => [partition_altered()];
    AssignDirectories:
        [AssignDirectories {
            node_id: 1,
            epoch: 2,
            replicas: vec![(PartitionId { topic: ID, partition: 3 }, Uuid([8; 16]))],
            configs: configs(),
        }]
        => [vec![refusal(), Ok(())]];
    FailDirectories:
        [FailDirectories { node_id: 1, epoch: 2, failed: vec![ID], configs: configs() }]
        => [Ok(()), refusal()];
    AllocateNodeId:
        [allocate(Some(3)), allocate(None), allocate(Some(-1))]
        => [Ok(3), refusal()];
    RemoveVoterIdentity: [RemoveVoterIdentity { node_id: 1, directory: ID }] => [Ok(()), refusal()];
    ForgetRemovedVoter: [ForgetRemovedVoter { directory: ID }] => [Ok(()), refusal()];
    BalanceLeaders: [BalanceLeaders { limit: 3, configs: configs() }] => [Balanced { moved: 1, left: 2 }];
    ReadMetadata: [ReadMetadata] => [()];
    SettleMinIsr: [SettleMinIsr { configs: configs() }] => [()];
    GrowInternalTopics: [GrowInternalTopics { limit: 3, configs: configs() }] => [2];
}

fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_request_and_answer_goes_out_and_comes_back() {
    for request in requests() {
        let bytes = encode_request(&request).unwrap();
        assert_eq!(decode_request(bytes), Ok(request));
    }
    for reply in replies() {
        let bytes = encode_reply(&reply).unwrap();
        assert_eq!(decode_reply(bytes), Ok(reply));
    }
    let named: BTreeSet<_> = requests().iter().map(name).collect();
    assert_eq!(named.len(), NAMES.len(), "a sample for each");
}

#[test]
fn a_registration_names_its_cordoned_log_dirs() {
    let registration = Registration { cordoned_log_dirs: vec![Uuid([9; 16])], ..registration() };
    let request = Request::RegisterBroker(RegisterBroker { registration, found: found(), fresh_ids: vec![ID] });
    assert_eq!(decode_request(encode_request(&request).unwrap()), Ok(request));
}

/// Nodes of two versions of Esker run together while a cluster is updated: what version 0 of a kind looks like stays.
#[test]
fn bytes_on_the_wire_do_not_change() {
    let requests = requests().into_iter().map(|request| hex(&encode_request(&request).unwrap()));
    let replies = replies().into_iter().map(|reply| hex(&encode_reply(&reply).unwrap()));
    let expected: Vec<&str> = include_str!("version-0.txt").lines().collect();
    let written: Vec<String> = requests.chain(replies).collect();
    assert_eq!(written, expected);
}

#[test]
fn kafka_messages_are_sent_in_the_newest_version() {
    for (name, version, schema) in kafka::PINNED {
        let newest = if *name == "UpdateFeaturesResponse" { 2 } else { *version };
        assert_eq!(newest, schema.versions.last, "{name}: a newer version needs a new version of its kind");
    }
}

#[test]
fn passwords_and_unknown_names_stay_on_their_node() {
    let given = [
        ("ssl.key.password", "secret"),
        ("listener.name.x.ssl.key.password", "secret"),
        ("my.own", "secret"),
        ("min.insync.replicas", "2"),
    ];
    let statics = Statics(given.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let configs = NodeConfigs { node_id: 1, statics: Arc::new(statics) };
    let request = UnregisterBroker { node_id: 1, configs }.into_request();
    let bytes = encode_request(&request).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"secret"));
    let Request::UnregisterBroker(back) = decode_request(bytes).unwrap() else { panic!("another request") };
    assert_eq!(back.configs.statics.0.keys().collect::<Vec<_>>(), ["min.insync.replicas"]);
}

#[test]
fn whether_a_broker_is_alive_does_not_travel() {
    let request = JoinBroker { join: join(), directory: ID, configs: configs(), alive: false }.into_request();
    let Request::JoinBroker(back) = decode_request(encode_request(&request).unwrap()).unwrap() else { panic!() };
    assert!(back.alive, "a controller that does not set it refuses");
}

#[test]
fn a_request_that_a_broker_makes_for_itself_names_it() {
    let own = requests().into_iter().filter_map(|request| request.made_by().map(|id| (request.name(), id)));
    let expected = [
        ("AllocateProducerIds", 1),
        ("JoinBroker", 3),
        ("ShutDownBroker", 1),
        ("AlterPartition", 1),
        ("AssignDirectories", 1),
        ("FailDirectories", 1),
    ];
    assert_eq!(own.collect::<Vec<_>>(), expected);
    let local = requests().into_iter().filter(|request| !request.may_be_forwarded()).map(|request| request.name());
    let expected = [
        "RegisterBroker",
        "InitializeFeatures",
        "FenceBroker",
        "UnfenceBroker",
        "BalanceLeaders",
        "SettleMinIsr",
        "GrowInternalTopics",
    ];
    assert_eq!(local.collect::<Vec<_>>(), expected);
}

#[test]
fn a_long_message_is_cut() {
    let message = Str::from("x".repeat(100_000));
    let reply = Reply::FenceBroker(Err(Refusal { code: ErrorCode::INVALID_REQUEST, message }));
    let Reply::FenceBroker(Err(back)) = decode_reply(encode_reply(&reply).unwrap()).unwrap() else { panic!() };
    assert_eq!(back.message.len(), i16::MAX as usize);
    let adopted = Adopted { topics: vec![], left: vec![("t".into(), "y".repeat(100_000))] };
    assert!(decode_reply(encode_reply(&Reply::RegisterBroker(adopted)).unwrap()).is_ok());
}

#[test]
fn an_older_form_of_a_proposal_is_refused_and_not_cut() {
    let mut ask = alter_partition();
    ask.request.topics[0].partitions[0].new_isr = vec![1];
    let error = encode_request(&ask.into_request()).unwrap_err();
    assert!(matches!(error, EncodeError::UnsupportedField { version: 3, .. }), "{error}");
}

#[test]
fn what_is_not_known_is_named() {
    let request = |bytes: &'static [u8]| decode_request(Bytes::from_static(bytes)).unwrap_err().to_string();
    assert!(request(&[0x7f, 0xff, 0, 0]).contains("kind 32767"));
    assert!(request(&[0, 0, 0, 0]).contains("kind 0"));
    let version = request(&[0, 12, 0, 1, 9]);
    assert!(version.contains("version 1") && version.contains("FenceBroker (kind 12)"), "{version}");
    assert!(request(&[0, 12, 0, 0]).contains("FenceBroker cannot be read"));
    assert!(request(&[0, 2, 0, 0, 0, 1]).contains("1 bytes are left"));
    assert!(request(&[0]).contains("1 more bytes") || request(&[0]).contains("2 more bytes"));
    let reply = decode_reply(Bytes::from_static(&[0, 12, 0xff, 0xff])).unwrap_err();
    assert_eq!(reply, WireError::UnknownVersion { kind: 12, name: "FenceBroker", version: -1 });
    let negative = Bytes::from_static(&[0, 14, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    assert!(matches!(decode_reply(negative), Err(WireError::Body { name: "ShutDownBroker", .. })));
}

/// Bytes of a sample, some of them changed, and perhaps cut.
fn damaged() -> impl Strategy<Value = (bool, Bytes)> {
    let samples = (0..requests().len() + replies().len(), vec((any::<prop::sample::Index>(), any::<u8>()), 0..4));
    (samples, any::<prop::sample::Index>(), any::<bool>()).prop_map(|((at, changes), end, cut)| {
        let (requests, replies) = (requests(), replies());
        let is_request = at < requests.len();
        let bytes = match requests.get(at) {
            Some(request) => encode_request(request).unwrap(),
            None => encode_reply(&replies[at - requests.len()]).unwrap(),
        };
        let mut bytes = bytes.to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        (is_request, bytes.into())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is decoded is written again without a panic, too.
    #[test]
    fn damaged_bytes_never_panic((is_request, bytes) in damaged()) {
        if is_request {
            if let Ok(request) = decode_request(bytes) {
                let _ = encode_request(&request);
            }
        } else if let Ok(reply) = decode_reply(bytes) {
            let _ = encode_reply(&reply);
        }
    }

    #[test]
    fn random_bodies_never_panic(kind in 0..30i16, body in vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![0, kind as u8, 0, 0];
        bytes.extend(body);
        let bytes = Bytes::from(bytes);
        let _ = decode_request(bytes.clone());
        let _ = decode_reply(bytes);
    }

    /// A count is paid for by bytes: one that claims more is refused before anything is allocated for it.
    #[test]
    fn a_count_never_claims_more_than_there_is(count in 20u32..u32::MAX) {
        let mut w = Writer::new();
        w.put_i16(18);
        w.put_i16(0);
        w.put_i32(1);
        w.put_i64(2);
        w.put_uvarint(count);
        w.put_slice(&[0; 100]);
        let refused = decode_request(w.finish().into_bytes());
        let is_body_error = matches!(refused, Err(WireError::Body { name: "FailDirectories", .. }));
        prop_assert!(is_body_error);
    }
}
