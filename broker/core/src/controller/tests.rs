//! Tables of what the controller decides.

use std::collections::BTreeMap;

use esker_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use esker_protocol::messages::delete_topics::DeleteTopicState;
use esker_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use esker_protocol::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use esker_protocol::primitives::Uuid;

mod balance;
mod brokers;
mod grow;
mod identity;
mod invariants;
mod partitions;
mod voters;

use super::*;
use crate::config::Statics;
use crate::metadata::{MetadataImage, ResourceKind};
use crate::metadata::{MetadataRecord, RecordLevel};
use esker_protocol::error::ErrorCode;

/// A controller that was started without configs.
static STATICS: Statics = Statics(BTreeMap::new());
const RULES: ElectionRules<'static> = ElectionRules { node_id: 0, statics: &STATICS };

fn cluster(brokers: i32) -> MetadataImage {
    let mut image = MetadataImage::default();
    for node_id in 0..brokers {
        let registration = Registration {
            node_id,
            incarnation: Uuid::ZERO,
            listeners: vec![],
            rack: None,
            log_dirs: vec![],
            cordoned_log_dirs: vec![],
        };
        register_broker(&image, registration).records.iter().for_each(|r| image.apply(r));
    }
    image
}

fn topic(name: &'static str) -> CreatableTopic {
    CreatableTopic { name: name.into(), num_partitions: -1, replication_factor: -1, ..CreatableTopic::default() }
}

fn create(image: &mut MetadataImage, topics: Vec<CreatableTopic>) -> Vec<(ErrorCode, i32)> {
    let ids: Vec<Uuid> = (0..topics.len()).map(|i| Uuid([image.topic_count() as u8 + i as u8 + 1; 16])).collect();
    let ctx = CreateTopicsContext {
        node_id: 0,
        statics: &Statics::default(),
        default_partitions: 3,
        default_replication_factor: 1,
        topic_ids: &ids,
        seed: 0,
    };
    let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
    let decision = create_topics(image, &ctx, &request);
    decision.records.iter().for_each(|r| image.apply(r));
    decision.reply.topics.iter().map(|t| (t.error_code, t.num_partitions)).collect()
}

#[test]
fn topics_are_created_or_refused_one_by_one() {
    let mut image = cluster(2);
    let assigned = |list: &[(i32, &[i32])]| {
        let assignments = list.iter().map(|(partition_index, brokers)| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: brokers.to_vec(),
        });
        CreatableTopic { assignments: assignments.collect(), ..topic("assigned") }
    };
    let config = |name: &'static str, value: &'static str| CreatableTopic {
        configs: vec![CreatableTopicConfig { name: name.into(), value: Some(value.into()) }],
        ..topic("configured")
    };
    let cases: Vec<(CreatableTopic, ErrorCode, &str)> = vec![
        (topic("a.b"), ErrorCode::NONE, "defaults"),
        (topic("a.b"), ErrorCode::TOPIC_ALREADY_EXISTS, "it is there now"),
        (topic("a_b"), ErrorCode::INVALID_TOPIC_EXCEPTION, "metrics could not tell it from a.b"),
        (topic("a/b"), ErrorCode::INVALID_TOPIC_EXCEPTION, "illegal character"),
        (CreatableTopic { num_partitions: 0, ..topic("x") }, ErrorCode::INVALID_PARTITIONS, "no partitions"),
        (CreatableTopic { replication_factor: 0, ..topic("x") }, ErrorCode::INVALID_REPLICATION_FACTOR, "no replicas"),
        (CreatableTopic { replication_factor: 3, ..topic("x") }, ErrorCode::INVALID_REPLICATION_FACTOR, "two brokers"),
        (assigned(&[(0, &[0, 1]), (1, &[1, 0])]), ErrorCode::NONE, "assigned by hand"),
        (assigned(&[(0, &[0]), (2, &[1])]), ErrorCode::TOPIC_ALREADY_EXISTS, "existence is looked at first"),
        (config("retention.ms", "soon"), ErrorCode::INVALID_CONFIG, "bad value"),
        (config("retention.mz", "1"), ErrorCode::INVALID_CONFIG, "unknown name"),
        (config("retention.ms", "1"), ErrorCode::NONE, "good config"),
    ];
    for (topic, expected, why) in cases {
        assert_eq!(create(&mut image, vec![topic])[0].0, expected, "{why}");
    }
    for (list, why) in [
        (vec![(0, &[0][..]), (2, &[1][..])], "a gap"),
        (vec![(0, &[7][..])], "an unknown broker"),
        (vec![(0, &[0, 0][..])], "a broker twice"),
        (vec![(0, &[][..])], "no broker"),
        (vec![(0, &[0][..]), (1, &[0, 1][..])], "uneven"),
    ] {
        let bad = CreatableTopic { name: "other".into(), ..assigned(&list) };
        assert_eq!(create(&mut image, vec![bad])[0].0, ErrorCode::INVALID_REPLICA_ASSIGNMENT, "{why}");
    }
    assert_eq!(image.topic("a.b").unwrap().partitions.len(), 3);
    assert_eq!(image.topic("assigned").unwrap().partitions[1].replicas, [1, 0]);
    let large = |name, num_partitions| CreatableTopic { num_partitions, ..topic(name) };
    let too_many_partitions = create(&mut image, vec![large("big", 9_000), large("more", 1_001)]);
    assert_eq!(too_many_partitions, [(ErrorCode::POLICY_VIOLATION, -1); 2]);
    assert_eq!(create(&mut image, vec![topic("__cluster_metadata")]), [(ErrorCode::INVALID_REQUEST, -1)]);
    let tiered = CreatableTopic { name: "tiered".into(), ..config("remote.storage.enable", "true") };
    assert_eq!(create(&mut image, vec![tiered]), [(ErrorCode::INVALID_CONFIG, -1)]);
    let twice = create(&mut image, vec![topic("t"), topic("t"), topic("u")]);
    assert_eq!(twice, [(ErrorCode::INVALID_REQUEST, -1), (ErrorCode::NONE, 3)]);
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let mut image = cluster(1);
    create(&mut image, vec![topic("t"), topic("u")]);
    let id = image.topic("u").unwrap().id;
    let named = |name: &'static str| DeleteTopicState { name: Some(name.into()), topic_id: Uuid::ZERO };
    let by_id = |topic_id| DeleteTopicState { name: None, topic_id };
    let both = DeleteTopicState { name: Some("t".into()), topic_id: id };
    let wanted = [named("t"), by_id(id), named("t"), named("u")];
    let refused = delete_topics(&image, &wanted, true);
    assert!(refused.records.is_empty(), "what is named twice stays");
    assert_eq!(refused.reply.responses.len(), 2, "and is answered once");
    let wanted = [named("t"), by_id(id), named("nope"), by_id(Uuid([99; 16])), both, by_id(Uuid::ZERO)];
    let decision = delete_topics(&image, &wanted, true);
    let codes: Vec<_> = decision.reply.responses.iter().map(|r| r.error_code).collect();
    let (bad, ok) = (ErrorCode::INVALID_REQUEST, ErrorCode::NONE);
    let expected = [ok, ok, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID, bad, bad];
    assert_eq!(codes, expected);
    decision.records.iter().for_each(|r| image.apply(r));
    assert_eq!(image.topic_count(), 0);
}

#[test]
fn configs_change_by_the_rules_of_their_resource() {
    let mut image = cluster(1);
    create(&mut image, vec![topic("t")]);
    let statics = Statics::default();
    let mut alter =
        |kind: ResourceKind, resource: &'static str, name: &'static str, op: i8, value: Option<&'static str>| {
            let change = ConfigChange { name: name.into(), op: ConfigOp::of_id(op), value: value.map(Into::into) };
            let target = ConfigTarget {
                resource_type: kind.id(),
                resource_name: resource.into(),
                replace_all: false,
                changes: vec![change],
            };
            let (records, outcomes) = alter_configs(&image, 0, &statics, &[target]);
            records.iter().for_each(|r| image.apply(r));
            let resource = ConfigResource { kind, name: resource.into() };
            let now = image.config(&resource, name).map(|v| v.to_string());
            (outcomes[0].as_ref().err().map_or(ErrorCode::NONE, |r| r.code), now)
        };
    use crate::metadata::ConfigResource;
    use ErrorCode as E;
    use ResourceKind::{Broker, Group, Topic};
    let cases = [
        (Topic, "t", "retention.ms", 0, Some("5"), E::NONE, Some("5")),
        (Topic, "t", "retention.ms", 0, Some("x"), E::INVALID_CONFIG, Some("5")),
        (Topic, "t", "retention.ms", 0, None, E::INVALID_REQUEST, Some("5")),
        (Topic, "t", "retention.ms", 2, Some("6"), E::INVALID_CONFIG, Some("5")),
        (Topic, "t", "retention.ms", 9, Some("6"), E::INVALID_REQUEST, Some("5")),
        (Topic, "t", "retention.ms", 1, None, E::NONE, None),
        (Topic, "t", "cleanup.policy", 2, Some("compact"), E::NONE, Some("delete,compact")),
        (Topic, "t", "cleanup.policy", 3, Some("delete"), E::NONE, Some("compact")),
        (Topic, "nope", "retention.ms", 0, Some("5"), E::UNKNOWN_TOPIC_OR_PARTITION, None),
        (Topic, "t", "nope", 0, Some("5"), E::INVALID_CONFIG, None),
        (Broker, "", "log.retention.ms", 0, Some("5"), E::NONE, Some("5")),
        (Broker, "0", "log.retention.ms", 0, Some("5"), E::NONE, Some("5")),
        (Broker, "7", "log.retention.ms", 0, Some("5"), E::INVALID_REQUEST, None),
        (Broker, "", "num.partitions", 0, Some("5"), E::INVALID_REQUEST, None),
        (Broker, "", "listeners", 0, Some("PLAINTEXT://:1"), E::INVALID_REQUEST, None),
        // What protects or keeps data and is not served is refused, harmless values are not.
        (Broker, "0", "listeners", 0, Some("PLAINTEXT://:1"), E::INVALID_REQUEST, None),
        (Broker, "0", "listener.security.protocol.map", 0, Some("PLAINTEXT:SSL"), E::INVALID_REQUEST, None),
        (Broker, "0", "sasl.enabled.mechanisms", 2, Some("PLAIN"), E::INVALID_REQUEST, None),
        (Broker, "0", "sasl.jaas.config", 0, Some("x"), E::INVALID_REQUEST, None),
        (Broker, "0", "ssl.keystore.location", 0, Some("/k"), E::INVALID_REQUEST, None),
        (Broker, "0", "ssl.client.auth", 0, Some("required"), E::INVALID_REQUEST, None),
        (Broker, "0", "ssl.client.auth", 0, Some("none"), E::NONE, Some("none")),
        (Broker, "0", "ssl.client.auth", 1, None, E::NONE, None),
        (Broker, "", "max.connection.creation.rate", 0, Some("5"), E::INVALID_REQUEST, None),
        (Topic, "t", "remote.storage.enable", 0, Some("true"), E::INVALID_CONFIG, None),
        (Topic, "t", "remote.storage.enable", 0, Some("false"), E::NONE, Some("false")),
        (Group, "g", "consumer.session.timeout.ms", 0, Some("50000"), E::NONE, Some("50000")),
    ];
    for (kind, resource, name, op, value, code, now) in cases {
        assert_eq!(
            alter(kind, resource, name, op, value),
            (code, now.map(str::to_owned)),
            "{resource} {name} {op} {value:?}"
        );
    }
}

#[test]
fn features_move_within_what_is_supported() {
    let mut image = cluster(1);
    new_cluster_features().iter().for_each(|r| image.apply(r));
    let mut update = |level: i16, kind: i8| {
        let key = FeatureUpdateKey {
            feature: "metadata.version".into(),
            max_version_level: level,
            upgrade_type: kind,
            ..FeatureUpdateKey::default()
        };
        let request = UpdateFeaturesRequest { feature_updates: vec![key], ..UpdateFeaturesRequest::default() };
        let decision = update_features(&image, &request, 2);
        decision.records.iter().for_each(|r| image.apply(r));
        (decision.reply.error_code, image.feature("metadata.version"))
    };
    assert_eq!(update(30, 1), (ErrorCode::INVALID_UPDATE_VERSION, 33), "down without saying so");
    assert_eq!(update(30, 2), (ErrorCode::NONE, 30));
    assert_eq!(update(33, 1), (ErrorCode::NONE, 33));
    assert_eq!(update(34, 1), (ErrorCode::INVALID_UPDATE_VERSION, 33), "not supported");
}

#[test]
fn producer_id_blocks_do_not_overlap() {
    let mut image = cluster(2);
    let mut next = |node| {
        let decision = allocate_producer_ids(&image, node);
        decision.records.iter().for_each(|r| image.apply(r));
        decision.reply
    };
    assert_eq!([next(0), next(1), next(0)], [0, 1000, 2000]);
}

/// Topic `t` with one partition on brokers 0, 1, 2, led by `leader` with `isr`.
fn replicated(leader: i32, isr: &[i32]) -> MetadataImage {
    let mut image = cluster(3);
    let assignments = vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![0, 1, 2] }];
    create(&mut image, vec![CreatableTopic { assignments, ..topic("t") }]);
    let mut partition = image.topic("t").unwrap().partitions[0].clone();
    (partition.leader, partition.isr) = (leader, isr.to_vec());
    image.apply(&MetadataRecord::Partition(partition));
    image
}

#[test]
fn leaders_are_elected_where_that_is_needed_and_possible() {
    use ErrorCode as E;
    // kind, leader before, in sync before -> code, leader after, epoch has risen
    let cases: [(i8, i32, &[i32], E, i32); 7] = [
        (0, 0, &[0, 1, 2], E::ELECTION_NOT_NEEDED, 0),
        (0, 1, &[0, 1, 2], E::NONE, 0),
        (0, 1, &[1, 2], E::PREFERRED_LEADER_NOT_AVAILABLE, 1),
        (1, 1, &[1, 2], E::ELECTION_NOT_NEEDED, 1),
        (1, -1, &[2], E::NONE, 2),
        (1, -1, &[], E::NONE, 0),
        (9, 0, &[0], E::INVALID_REQUEST, 0),
    ];
    for (election_type, leader, isr, code, after) in cases {
        let mut image = replicated(leader, isr);
        let epoch = image.topic("t").unwrap().partitions[0].leader_epoch;
        let partitions = vec![TopicPartitions { topic: "t".into(), partitions: vec![0] }];
        let request =
            ElectLeadersRequest { election_type, topic_partitions: Some(partitions), ..ElectLeadersRequest::default() };
        let Decision { records, reply } = elect_leaders(&image, RULES, &request);
        records.iter().for_each(|record| image.apply(record));
        let told =
            reply.replica_election_results.first().map_or(reply.error_code, |r| r.partition_result[0].error_code);
        let partition = &image.topic("t").unwrap().partitions[0];
        assert_eq!((told, partition.leader), (code, after), "kind {election_type}, leader {leader}, isr {isr:?}");
        assert_eq!(partition.leader_epoch > epoch, code == E::NONE);
    }
    let all = ElectLeadersRequest { topic_partitions: None, ..ElectLeadersRequest::default() };
    assert!(elect_leaders(&replicated(0, &[0]), RULES, &all).reply.replica_election_results.is_empty());
    assert_eq!(elect_leaders(&replicated(1, &[0, 1]), RULES, &all).reply.replica_election_results.len(), 1);
}

#[test]
fn each_request_is_answered_in_its_own_kind() {
    fn asked<R: ControllerRequest>(image: &MetadataImage, request: R) -> R::Reply {
        let request = request.into_request();
        let name = request.name();
        R::from_reply(decide(image, &request).reply).unwrap_or_else(|| panic!("{name} is answered in another kind"))
    }
    let image = MetadataImage::default();
    let defaults = TopicDefaults { node_id: 1, statics: Default::default(), partitions: 1, replication_factor: 1 };
    let request = CreateTopicsRequest { topics: vec![topic("a")], ..Default::default() };
    let create = CreateTopics { request, defaults, topic_ids: vec![Uuid([1; 16])], seed: 7 };
    assert_eq!(asked(&image, create.clone()).topics.len(), 1);
    assert_eq!(decide(&image, &create.clone().into_request()), decide(&image, &create.into_request()), "pure");
    asked(&image, InitializeFeatures);
    assert_eq!(asked(&image, AllocateProducerIds { node_id: 1 }), 0);
    assert!(asked(&image, DeleteTopics { topics: Vec::new(), enabled: true }).responses.is_empty());
    assert!(
        asked(&image, ElectLeaders { request: Default::default(), node_id: 1, statics: Default::default() })
            .replica_election_results
            .is_empty()
    );
    assert!(
        asked(
            &image,
            AlterPartitionReassignments { request: Default::default(), node_id: 1, statics: Default::default() }
        )
        .responses
        .is_empty()
    );
    assert!(asked(&image, CreatePartitions { request: Default::default(), seed: 1 }).results.is_empty());
    assert!(asked(&image, UpdateFeatures { request: Default::default(), version: 1 }).results.is_empty());
    let configs = AlterConfigs { targets: Vec::new(), validate_only: true, node_id: 1, statics: Default::default() };
    assert!(asked(&image, configs).is_empty());
}
