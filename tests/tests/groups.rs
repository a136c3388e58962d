//! What a real broker tells of its groups: why they rebalanced, and how far they are behind in time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use esker_client::admin::NewTopic;
use esker_client::{Admin, Client, ClientConfig, Producer, ProducerConfig, ProducerRecord};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use esker_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::primitives::Str;
use esker_tests::{Esker, PATIENCE, ask};
use serde_json::Value;

/// The group's coordinator is there.
fn coordinated(stream: &mut TcpStream, group: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let request =
            FindCoordinatorRequest { coordinator_keys: vec![Str::copy(group)], ..FindCoordinatorRequest::default() };
        if ask(stream, 4, &request).coordinators[0].error_code == ErrorCode::NONE {
            return;
        }
        assert!(Instant::now() < until, "no coordinator");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_loading(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS | ErrorCode::NOT_COORDINATOR)
}

fn join(stream: &mut TcpStream, member: &Str) -> JoinGroupResponse {
    let until = Instant::now() + PATIENCE;
    loop {
        let request = JoinGroupRequest {
            group_id: "old".into(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            member_id: member.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..JoinGroupRequestProtocol::default() }],
            ..JoinGroupRequest::default()
        };
        let reply = ask(stream, 7, &request);
        if !is_loading(reply.error_code) {
            return reply;
        }
        assert!(Instant::now() < until, "the group does not load");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn rebalances(esker: &Esker, group: &str) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&esker.http_get(&format!("/v1/groups/{group}/rebalances"))).unwrap();
    assert_eq!(answer["group"], group);
    answer["rebalances"].as_array().unwrap().clone()
}

#[test]
fn why_groups_rebalance_is_told_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let esker = Esker::start_with(dir.path(), &["--set", "group.initial.rebalance.delay.ms=0"]);
    let mut stream = esker.connect();
    coordinated(&mut stream, "old");
    let wanted = join(&mut stream, &Str::default());
    assert_eq!(wanted.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    let member = wanted.member_id;
    let joined = join(&mut stream, &member);
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1));
    let leave = LeaveGroupRequest {
        group_id: "old".into(),
        members: vec![MemberIdentity {
            member_id: member.clone(),
            reason: Some("the consumer is being closed".into()),
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    assert_eq!(ask(&mut stream, 5, &leave).error_code, ErrorCode::NONE);
    let told = rebalances(&esker, "old");
    let reasons: Vec<_> = told.iter().map(|r| (r["reason"].clone(), r["from"].clone(), r["to"].clone())).collect();
    assert_eq!(
        reasons,
        [("member-joined".into(), 0.into(), 1.into()), ("member-left".into(), 1.into(), 2.into())],
        "{told:?}"
    );
    let left = &told[1]["causes"][0];
    assert_eq!((&left["member"]["member_id"], &left["member"]["client_id"]), (&member.as_str().into(), &"test".into()));
    assert_eq!(left["said"], "the consumer is being closed");
    assert!(left["member"]["host"].as_str().unwrap().contains("127.0.0.1") && told[0]["at_ms"].as_i64().unwrap() > 0);

    // The new protocol: epochs, and a topic that comes.
    let heartbeat = ConsumerGroupHeartbeatRequest {
        group_id: "new".into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let until = Instant::now() + PATIENCE;
    coordinated(&mut stream, "new");
    let first = loop {
        let reply = ask(&mut stream, 1, &heartbeat);
        if !is_loading(reply.error_code) {
            break reply;
        }
        assert!(Instant::now() < until, "the group does not load");
    };
    assert_eq!(first.error_code, ErrorCode::NONE, "{:?}", first.error_message);
    create(&esker, "t", &[]);
    let beat = ConsumerGroupHeartbeatRequest {
        member_epoch: first.member_epoch,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: None,
        topic_partitions: None,
        ..heartbeat
    };
    assert_eq!(ask(&mut stream, 1, &beat).error_code, ErrorCode::NONE);
    let told = rebalances(&esker, "new");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[0]["reason"], &told[0]["protocol"]), (&"member-joined".into(), &"consumer".into()));
    assert_eq!((&told[1]["reason"], &told[1]["causes"][0]["topic"]), (&"topic-created".into(), &"t".into()));
    assert_eq!(told[1]["from"], told[0]["to"]);
    for (reason, count) in
        [("member-joined", 2.0), ("member-left", 1.0), ("topic-created", 1.0), ("session-timeout", 0.0)]
    {
        let metric = format!("esker_group_rebalances_total{{reason=\"{reason}\"}}");
        assert!((esker.metric(&metric) - count).abs() < 0.5, "{metric}");
    }
    counts(&esker, &mut stream);
}

/// What dashboards show of the groups above, under Kafka's names.
fn counts(esker: &Esker, stream: &mut TcpStream) {
    coordinated(stream, "simple");
    commit(stream, "simple", "t", 1);
    let shard = "kafka_server_group_coordinator_metrics";
    let until = Instant::now() + PATIENCE;
    while esker.metric(&format!("{shard}_num_partitions{{state=\"active\"}}")) < 49.5 {
        assert!(Instant::now() < until, "not all partitions of the coordinator load");
        std::thread::sleep(Duration::from_millis(20));
    }
    let manager = "kafka_coordinator_group_groupmetadatamanager";
    let states = ["empty", "assigning", "reconciling", "stable", "dead"];
    let by_state = states.map(|state| esker.metric(&format!("{shard}_consumer_group_count{{state=\"{state}\"}}")));
    let rows = [
        (format!("{shard}_num_partitions{{state=\"loading\"}}"), 0.0),
        (format!("{shard}_num_partitions{{state=\"failed\"}}"), 0.0),
        (format!("{shard}_group_count{{protocol=\"classic\"}}"), 2.0),
        (format!("{shard}_group_count{{protocol=\"consumer\"}}"), by_state.iter().sum()),
        (format!("{shard}_group_count{{protocol=\"consumer\"}}"), 1.0),
        (format!("{manager}_numgroups"), 2.0),
        (format!("{manager}_numgroupsempty"), 2.0),
        (format!("{manager}_numgroupsstable"), 0.0),
        (format!("{manager}_numoffsets"), 1.0),
        (format!("{shard}_offset_commit_count"), 1.0),
        (format!("{shard}_offset_expiration_count"), 0.0),
        (format!("{shard}_consumer_group_rebalance_count"), 2.0),
    ];
    for (name, value) in rows {
        assert!((esker.metric(&name) - value).abs() < 0.5, "{name} is {} and not {value}", esker.metric(&name));
    }
}

fn create(esker: &Esker, topic: &str, configs: &[(&str, &str)]) {
    let (bootstrap, topic) = (esker.kafka.to_string(), topic.to_owned());
    let configs = configs.iter().map(|(name, value)| (Str::copy(name), Str::copy(value))).collect();
    runtime().block_on(async {
        let client = Client::connect(ClientConfig::new(&bootstrap)).await.unwrap();
        let new = NewTopic { partitions: 1, configs, ..NewTopic::new(topic) };
        for created in Admin::new(&client).create_topics(&[new], false).await.unwrap() {
            created.unwrap();
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn commit(stream: &mut TcpStream, group: &str, topic: &str, offset: i64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let partition =
            OffsetCommitRequestPartition { committed_offset: offset, ..OffsetCommitRequestPartition::default() };
        let request = OffsetCommitRequest {
            group_id: Str::copy(group),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: Str::copy(topic),
                partitions: vec![partition],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let code = ask(stream, 8, &request).topics[0].partitions[0].error_code;
        if !is_loading(code) {
            assert_eq!(code, ErrorCode::NONE);
            return;
        }
        assert!(Instant::now() < until, "the group does not load");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lag_is_told_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let esker = Esker::start(dir.path());
    create(&esker, "create", &[]);
    create(&esker, "append", &[("message.timestamp.type", "LogAppendTime")]);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let bootstrap = esker.kafka.to_string();
    runtime().block_on(async {
        let client = Client::connect(ClientConfig::new(&bootstrap)).await.unwrap();
        // All in one batch: the record's own time counts, not its batch's.
        let config = ProducerConfig { linger: Duration::from_millis(200), ..ProducerConfig::default() };
        let producer = Producer::new(&client, config);
        let mut deliveries = Vec::new();
        for topic in ["create", "append"] {
            for age in [3000, 2000, 1000] {
                let record = ProducerRecord::new(topic).partition(0).value("v").timestamp(now - age * 1000);
                deliveries.push(producer.send(record).await.unwrap());
            }
        }
        for delivery in deliveries {
            delivery.wait().await.unwrap();
        }
    });
    let mut stream = esker.connect();
    coordinated(&mut stream, "g");
    let seconds = |topic: &str| {
        esker.metric(&format!(
            "kafka_consumergroup_lag_seconds{{consumergroup=\"g\",partition=\"0\",topic=\"{topic}\"}}"
        ))
    };
    for (offset, age) in [(0, 3000.0), (1, 2000.0), (2, 1000.0)] {
        commit(&mut stream, "g", "create", offset);
        let told = seconds("create");
        assert!(told >= age && told < age + 500.0, "at {offset}: {told}");
    }
    commit(&mut stream, "g", "create", 3);
    let text = esker.http_get("/metrics");
    let row = "kafka_consumergroup_lag_seconds{consumergroup=\"g\",partition=\"0\",topic=\"create\"} 0";
    assert!(text.lines().any(|line| line == row), "who has all is not behind");
    commit(&mut stream, "g", "append", 0);
    let told = seconds("append");
    assert!(told > 0.0 && told < 500.0, "since it was appended: {told}");
}
