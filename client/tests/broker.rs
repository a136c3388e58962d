//! Against a real broker, Esker or Apache Kafka: set ESKER_TEST_BOOTSTRAP to its address. Without it nothing is tested here, and
//! the tests say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use esker_client::admin::{ConfigOp, NewTopic, OffsetSpec, Resource};
use esker_client::{
    Acks, Admin, AutoOffsetReset, Client, ClientConfig, Compression, Consumer, ConsumerConfig, ConsumerRecord, Error,
    ErrorCode, GroupConfig, Producer, ProducerConfig, ProducerRecord, StartAt, Target, TopicPartition,
};
use esker_protocol::messages::api_versions::ApiVersionsRequest;

const PATIENCE: Duration = Duration::from_secs(60);

async fn client() -> Option<Client> {
    let Ok(bootstrap) = std::env::var("ESKER_TEST_BOOTSTRAP") else {
        eprintln!("skipped: ESKER_TEST_BOOTSTRAP is not set");
        return None;
    };
    Some(Client::connect(ClientConfig::new(&bootstrap)).await.unwrap())
}

/// A name that no earlier run used.
fn fresh(name: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("client-{name}-{nanos:x}")
}

async fn topic(client: &Client, name: &str, partitions: i32) -> String {
    let name = fresh(name);
    let new = NewTopic { partitions, ..NewTopic::new(name.clone()) };
    let created = Admin::new(client).create_topics(&[new], false).await.unwrap().remove(0).unwrap();
    assert!(created.partitions == partitions);
    name
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while records.len() < count {
        assert!(tokio::time::Instant::now() < deadline, "{} of {count} records came", records.len());
        records.extend(consumer.poll(Duration::from_millis(500)).await.unwrap());
    }
    records
}

fn value(record: &ConsumerRecord) -> String {
    String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_in_comes_out() {
    let Some(client) = client().await else { return };
    for codec in Compression::ALL {
        let name = topic(&client, &format!("codec-{codec}"), 1).await;
        let config = ProducerConfig { compression: codec, ..ProducerConfig::default() };
        let producer = Producer::new(&client, config);
        let big = "x".repeat(900_000);
        let sent = [
            ProducerRecord::new(name.clone()).key("k").value("v").timestamp(1_700_000_000_000),
            ProducerRecord::new(name.clone())
                .header("h", Some(Bytes::from_static(b"1")))
                .header("null", None)
                .value(""),
            ProducerRecord::new(name.clone()).key("gone"),
            ProducerRecord::new(name.clone()).value(big.clone()),
        ];
        let mut deliveries = Vec::new();
        for record in sent {
            deliveries.push(producer.send(record).await.unwrap());
        }
        for (offset, delivery) in deliveries.into_iter().enumerate() {
            let delivered = delivery.await.unwrap();
            assert_eq!((delivered.partition, delivered.offset), (0, offset as i64));
        }
        producer.close().await.unwrap();

        let mut consumer = Consumer::new(&client, ConsumerConfig::default());
        consumer.assign([(name.clone(), 0, StartAt::Earliest)]);
        let records = read(&mut consumer, 4).await;
        assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!((value(&records[0]), records[0].timestamp), ("v".to_owned(), 1_700_000_000_000));
        let headers: Vec<_> = records[1].headers.iter().map(|h| h.unwrap()).map(|h| (h.name(), h.value)).collect();
        assert_eq!(headers, [("h".into(), Some(&b"1"[..])), ("null".into(), None)]);
        assert!(records[1].value.as_deref() == Some(b"") && records[1].key.is_none());
        assert!(records[2].value.is_none());
        assert_eq!(value(&records[3]), big);
        assert!(consumer.is_at_end());
        assert_eq!(consumer.end(&name, 0), Some(4));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_keep_their_order() {
    let Some(client) = client().await else { return };
    const COUNT: usize = 50_000;
    const PARTITIONS: i32 = 4;
    let name = topic(&client, "order", PARTITIONS).await;
    let config = ProducerConfig { batch_bytes: 8 << 10, compression: Compression::Lz4, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config);
    for i in 0..COUNT {
        let record = ProducerRecord::new(name.clone()).partition(i as i32 % PARTITIONS).value(i.to_string());
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    consumer.assign((0..PARTITIONS).map(|p| (name.clone(), p, StartAt::Earliest)));
    let mut last = vec![None; PARTITIONS as usize];
    for record in read(&mut consumer, COUNT).await {
        let number: usize = value(&record).parse().unwrap();
        let last = &mut last[record.partition as usize];
        assert_eq!(number, last.map_or(record.partition as usize, |last| last + PARTITIONS as usize));
        assert_eq!(record.offset, number as i64 / i64::from(PARTITIONS));
        *last = Some(number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_to_start() {
    let Some(client) = client().await else { return };
    let name = topic(&client, "places", 1).await;
    let producer = Producer::new(&client, ProducerConfig { acks: Acks::Leader, ..ProducerConfig::default() });
    for i in 0..10_i64 {
        let record = ProducerRecord::new(name.clone()).value(i.to_string()).timestamp(1_700_000_000_000 + i * 1000);
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    for (start, first) in [
        (StartAt::Earliest, 0),
        (StartAt::Offset(4), 4),
        (StartAt::BeforeEnd(3), 7),
        (StartAt::BeforeEnd(300), 0),
        (StartAt::Timestamp(1_700_000_004_500), 5),
    ] {
        consumer.assign([(name.clone(), 0, start)]);
        let records = read(&mut consumer, 10 - first as usize).await;
        assert_eq!(records[0].offset, first, "{start:?}");
    }
    consumer.assign([(name.clone(), 0, StartAt::Latest)]);
    assert!(consumer.poll(Duration::from_millis(300)).await.unwrap().is_empty());
    consumer.seek(&name, 0, StartAt::Offset(9)).unwrap();
    assert_eq!(read(&mut consumer, 1).await[0].offset, 9);

    let admin = Admin::new(&client);
    let tp = TopicPartition::new(name.clone(), 0);
    let listed = admin.list_offsets(&[(tp.clone(), OffsetSpec::MaxTimestamp)]).await.unwrap();
    assert_eq!((listed[&tp].offset, listed[&tp].timestamp), (9, 1_700_000_009_000));
    assert_eq!(admin.delete_records(&[(tp.clone(), 6)]).await.unwrap()[&tp], 6);
    let config = ConsumerConfig { reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(&client, config);
    consumer.assign([(name.clone(), 0, StartAt::Offset(2))]);
    assert_eq!(read(&mut consumer, 4).await[0].offset, 6);
    let config = ConsumerConfig { reset: AutoOffsetReset::None, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(&client, config);
    consumer.assign([(name.clone(), 0, StartAt::Offset(2))]);
    assert!(matches!(consumer.poll(PATIENCE).await, Err(Error::NoOffset { offset: 2, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_shares_commits_and_resumes() {
    let Some(client) = client().await else { return };
    const PARTITIONS: i32 = 4;
    let name = topic(&client, "group", PARTITIONS).await;
    let group = fresh("members");
    let producer = Producer::new(&client, ProducerConfig::default());
    let produce = async |count: i32| {
        for i in 0..count {
            let record = ProducerRecord::new(name.clone()).partition(i % PARTITIONS).value(i.to_string());
            drop(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
    };
    produce(40).await;
    let member = || {
        let group = GroupConfig { heartbeat_interval: Duration::from_millis(200), ..GroupConfig::new(group.clone()) };
        let config =
            ConsumerConfig { group: Some(group), reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() };
        let mut consumer = Consumer::new(&client, config);
        consumer.subscribe([name.clone()]).unwrap();
        consumer
    };
    let mut one = member();
    assert_eq!(read(&mut one, 40).await.len(), 40);
    assert_eq!(one.assignment().len(), PARTITIONS as usize);
    one.commit().await.unwrap();

    // A second member takes half.
    let mut two = member();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while one.assignment().len() != 2 || two.assignment().len() != 2 {
        assert!(tokio::time::Instant::now() < deadline, "{:?} {:?}", one.assignment(), two.assignment());
        let (a, b) = tokio::join!(one.poll(Duration::from_millis(100)), two.poll(Duration::from_millis(100)));
        assert!(a.unwrap().is_empty() && b.unwrap().is_empty(), "what was committed came again");
    }
    let all: HashSet<_> = one.assignment().into_iter().chain(two.assignment()).collect();
    assert_eq!(all.len(), PARTITIONS as usize);
    let admin = Admin::new(&client);
    let described = admin.describe_group(&group).await.unwrap();
    assert_eq!((described.state.as_str(), described.protocol.as_str()), ("Stable", "range"));
    assert!(described.members.iter().all(|member| member.assignment.len() == 2));
    let refused = admin.delete_groups(&[group.clone().into()]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NON_EMPTY_GROUP));

    produce(40).await;
    let (a, b) = tokio::join!(read(&mut one, 20), read(&mut two, 20));
    assert_eq!((a.len(), b.len()), (20, 20));
    one.close().await.unwrap();
    two.close().await.unwrap();

    let committed = admin.committed_offsets(&group).await.unwrap();
    assert_eq!(committed.iter().map(|c| c.offset).collect::<Vec<_>>(), [20; 4]);
    let listed = admin.list_groups().await.unwrap();
    assert!(listed.iter().any(|listed| listed.id == group.as_str()));
    produce(4).await;
    let mut three = member();
    assert_eq!(read(&mut three, 4).await.iter().map(|r| r.offset).collect::<HashSet<_>>(), HashSet::from([20]));
    three.close().await.unwrap();
    admin.alter_offsets(&group, &[(TopicPartition::new(name.clone(), 0), 3)]).await.unwrap();
    admin.delete_offsets(&group, &[TopicPartition::new(name.clone(), 1)]).await.unwrap();
    let committed = admin.committed_offsets(&group).await.unwrap();
    assert_eq!(
        committed.iter().map(|c| (c.partition.partition, c.offset)).collect::<Vec<_>>(),
        [(0, 3), (2, 21), (3, 21)]
    );
    admin.delete_groups(&[group.clone().into()]).await.unwrap().remove(0).unwrap();
    assert_eq!(admin.describe_group(&group).await.unwrap_err().code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_configs() {
    let Some(client) = client().await else { return };
    let admin = Admin::new(&client);
    let name = fresh("admin");
    let new = NewTopic {
        partitions: 2,
        configs: vec![("retention.ms".into(), "12345".into())],
        ..NewTopic::new(name.clone())
    };
    admin.create_topics(std::slice::from_ref(&new), true).await.unwrap().remove(0).unwrap();
    assert_eq!(admin.topic(&name).await.unwrap_err().code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let created = admin.create_topics(std::slice::from_ref(&new), false).await.unwrap().remove(0).unwrap();
    assert!(!created.id.is_zero());
    let again = admin.create_topics(&[new], false).await.unwrap().remove(0).unwrap_err();
    assert_eq!(again.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    admin.create_partitions(&name, 5).await.unwrap();
    // Kafka's brokers learn of it a moment after the controller answered.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut described = admin.topic(&name).await.unwrap();
    while described.partitions.len() < 5 && tokio::time::Instant::now() < deadline {
        described = admin.topic(&name).await.unwrap();
    }
    assert_eq!((described.partitions.len(), described.id), (5, created.id));
    assert!(described.partitions.iter().all(|p| p.leader.is_some() && !p.isr.is_empty()));
    assert!(admin.topics().await.unwrap().iter().any(|topic| topic.name == name.as_str()));

    let resource = Resource::Topic(name.clone().into());
    let config = async |key: &str| {
        let all = admin.describe_configs(&resource).await.unwrap();
        all.into_iter().find(|entry| entry.name == key).unwrap()
    };
    assert_eq!(config("retention.ms").await.value.as_deref(), Some("12345"));
    let set = ("cleanup.policy".into(), ConfigOp::Set("compact".into()));
    admin.alter_configs(&resource, &[set, ("retention.ms".into(), ConfigOp::Delete)]).await.unwrap();
    assert_eq!(config("cleanup.policy").await.value.as_deref(), Some("compact"));
    assert_eq!(config("retention.ms").await.value.as_deref(), Some("604800000"));
    let bad = ("retention.ms".into(), ConfigOp::Set("soon".into()));
    assert_eq!(admin.alter_configs(&resource, &[bad]).await.unwrap_err().code(), Some(ErrorCode::INVALID_CONFIG));

    // A compacted topic takes no record without a key; the producer continues after the refusal.
    let producer = Producer::new(&client, ProducerConfig::default());
    let refused = producer.send(ProducerRecord::new(name.clone()).partition(0).value("v")).await.unwrap().await;
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::INVALID_RECORD));
    let sent = producer.send(ProducerRecord::new(name.clone()).partition(0).key("k").value("v")).await.unwrap();
    assert_eq!(sent.await.unwrap().offset, 0);

    admin.delete_topics(&[name.clone().into()]).await.unwrap().remove(0).unwrap();
    assert_eq!(admin.topic(&name).await.unwrap_err().code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let cluster = admin.describe_cluster().await.unwrap();
    assert!(!cluster.id.is_empty() && !cluster.brokers.is_empty());
    let request = ApiVersionsRequest {
        client_software_name: "t".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    let answer = client.request_up_to(Target::Any, 4, |_| request.clone()).await.unwrap();
    assert!(answer.error_code == ErrorCode::NONE && answer.api_keys.len() > 20);
}

#[tokio::test]
async fn nobody_there() {
    let error = Client::connect(ClientConfig::new("127.0.0.1:1")).await.unwrap_err();
    assert!(matches!(error, Error::NoBroker { .. }), "{error}");
    assert!(matches!(Client::connect(ClientConfig::new(" ")).await, Err(Error::Invalid(_))));
}
