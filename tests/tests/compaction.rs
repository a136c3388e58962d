//! A compacted topic with small segments ends up with one record per key, and a consumer sees all last values.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use esker_client::admin::NewTopic;
use esker_client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord, StartAt,
};
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use esker_protocol::primitives::Str;
use esker_tests::{Esker, PATIENCE, ask, metric_in};

const KEYS: usize = 10;

async fn read(client: &Client) -> Vec<(i64, String, String)> {
    let config = ConsumerConfig { max_wait: Duration::from_millis(20), ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config);
    consumer.assign([("t", 0, StartAt::Earliest)]);
    let mut found = Vec::new();
    while !consumer.is_at_end() {
        for record in consumer.poll(Duration::from_millis(100)).await.unwrap() {
            let text = |bytes: Option<bytes::Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            found.push((record.offset, text(record.key), text(record.value)));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_per_key_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let esker = Esker::start_with(dir.path(), &["--set", "log.cleaner.backoff.ms=50"]);
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")];
    let configs = configs.map(|(name, value)| (name.into(), value.into())).into();
    let topic = NewTopic { partitions: 1, configs, ..NewTopic::new("t") };
    for created in Admin::new(&client).create_topics(&[topic], false).await.unwrap() {
        created.unwrap();
    }
    let producer = Producer::new(&client, ProducerConfig::default());
    let mut last = BTreeMap::new();
    for round in 0..40 {
        let mut sent = Vec::new();
        for key in 0..KEYS {
            let (key, value) = (format!("k{key}"), format!("{round}-{}", "x".repeat(8000)));
            let record = ProducerRecord::new("t").partition(0).key(key.clone()).value(value.clone());
            sent.push(producer.send(record).await.unwrap());
            last.insert(key, value);
        }
        for delivery in sent {
            delivery.wait().await.unwrap();
        }
    }
    // Two that do not fit into one segment: all before them lies in closed ones then.
    for key in ["filler-0", "filler-1"] {
        let value = "f".repeat(900_000);
        let filler = ProducerRecord::new("t").partition(0).key(key).value(value.clone());
        producer.send(filler).await.unwrap().wait().await.unwrap();
        last.insert(key.to_owned(), value);
    }
    let began = Instant::now();
    loop {
        let found = read(&client).await;
        assert!(found.is_sorted_by(|a, b| a.0 < b.0));
        let values: BTreeMap<String, String> =
            found.iter().map(|(_, key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(values, last, "every last value is there at any time");
        if found.len() == last.len() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{} records are left", found.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    check_metrics(&esker);
    assert!(esker.terminate().success());
}

/// The metrics of compaction, once one has ended and none runs.
fn check_metrics(esker: &Esker) {
    let deadline = Instant::now() + PATIENCE;
    // Readers see what is left before the pass that left it has ended and is counted.
    let text = loop {
        let text = esker.http_get("/metrics");
        let of = |name: &str| metric_in(&text, name);
        if of("esker_log_compactions") >= 1.0 && of("esker_log_compactions_running") == 0.0 {
            break text;
        }
        assert!(Instant::now() < deadline, "no compaction ends");
        std::thread::sleep(Duration::from_millis(20));
    };
    for (name, zero) in [
        ("kafka_log_log_numlogsegments{partition=\"0\",topic=\"t\"}", false),
        ("kafka_log_log_size{partition=\"0\",topic=\"t\"}", false),
        ("kafka_log_logmanager_offlinelogdirectorycount", true),
        ("kafka_log_logflushstats_logflushrateandtimems{quantile=\"0.95\"}", false),
        ("kafka_log_logcleaner_deadthreadcount", true),
        ("kafka_log_logcleaner_max_clean_time_secs", false),
        ("kafka_log_logcleaner_max_compaction_delay_secs", true),
        ("kafka_log_logcleaner_max_buffer_utilization_percent", true),
        ("kafka_log_logcleaner_cleaner_recopy_percent", false),
        ("kafka_log_logcleanermanager_uncleanable_partitions_count", true),
        ("kafka_log_logcleanermanager_uncleanable_bytes", true),
        ("kafka_log_logcleanermanager_max_dirty_percent", false),
        ("kafka_log_logcleanermanager_time_since_last_run_ms", false),
        ("esker_log_compactions", false),
        ("esker_log_compactions_running", true),
        ("esker_log_compactions_running_bytes", true),
        ("esker_log_compactions_running_bytes_in_all", true),
        ("esker_log_compactions_running_records", true),
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value: f64 = line.unwrap_or_else(|| panic!("{name} is not there")).parse().unwrap();
        assert!(!zero || value == 0.0, "{name} is {value}");
    }
}

/// Waits until the group's coordinator answers.
fn coordinator(esker: &Esker, group: &Str) -> std::net::TcpStream {
    let mut stream = esker.connect();
    let find = FindCoordinatorRequest { key: group.clone(), ..FindCoordinatorRequest::default() };
    let fetch = OffsetFetchRequest { group_id: group.clone(), topics: Some(Vec::new()), ..Default::default() };
    let deadline = Instant::now() + PATIENCE;
    while ask(&mut stream, 3, &find).error_code.is_error() || ask(&mut stream, 7, &fetch).error_code.is_error() {
        assert!(Instant::now() < deadline, "no coordinator");
        std::thread::sleep(Duration::from_millis(10));
    }
    stream
}

#[test]
fn committed_offsets_survive_the_compaction_of_their_topic() {
    const GROUPS: i64 = 20;
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        ["--set", "log.cleaner.backoff.ms=50"],
        ["--set", "log.cleaner.min.cleanable.ratio=0.01"],
        ["--set", "offsets.topic.num.partitions=1"],
        ["--set", "offsets.topic.segment.bytes=1048576"],
        ["--set", "log.durability=page-cache"],
    ]
    .concat();
    let esker = Esker::start_with(dir.path(), &flags);
    let names: Vec<Str> = (0..GROUPS).map(|group| Str::from(format!("group-{group}"))).collect();
    let mut stream = coordinator(&esker, &names[0]);
    let topic = CreatableTopic { name: "t".into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert!(!ask(&mut stream, 4, &create).topics[0].error_code.is_error());
    // Some 7 MB of commits, of which 80 kB count in the end.
    for round in 0..90 {
        for (group, name) in names.iter().enumerate() {
            let partition = OffsetCommitRequestPartition {
                committed_offset: round * 100 + group as i64,
                committed_metadata: Some("m".repeat(4000).into()),
                ..Default::default()
            };
            let topic =
                OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
            let request = OffsetCommitRequest { group_id: name.clone(), topics: vec![topic], ..Default::default() };
            assert!(!ask(&mut stream, 8, &request).topics[0].partitions[0].error_code.is_error());
        }
    }
    let began = Instant::now();
    // Files come and go meanwhile.
    let size = || -> u64 {
        let files = std::fs::read_dir(dir.path().join("__consumer_offsets-0")).unwrap();
        let logs = files.flatten().filter(|file| file.path().extension().is_some_and(|e| e == "log"));
        logs.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    };
    while esker.metric("esker_log_compactions") < 1.0 || size() > 3_000_000 {
        assert!(began.elapsed() < PATIENCE, "not compacted: {} bytes", size());
        std::thread::sleep(Duration::from_millis(20));
    }
    let check = |esker: &Esker| {
        for (group, name) in names.iter().enumerate() {
            let mut stream = coordinator(esker, name);
            let topics = Some(vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] }]);
            let request = OffsetFetchRequest { group_id: name.clone(), topics, ..OffsetFetchRequest::default() };
            let answer = ask(&mut stream, 7, &request);
            assert_eq!(answer.topics[0].partitions[0].committed_offset, 8900 + group as i64, "{name}");
        }
    };
    check(&esker);
    esker.kill();
    let esker = Esker::start_with(dir.path(), &flags);
    check(&esker);
    assert!(esker.terminate().success());
    let esker = Esker::start_with(dir.path(), &flags);
    check(&esker);
}
