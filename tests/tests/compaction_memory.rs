//! A hundred compacted partitions with far more keys than the cleaner has memory for: it takes more passes, and no more memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, PATIENCE, ask};

const PARTITIONS: i32 = 100;
/// Keys of one partition; a slot of the map takes 24 bytes, so that all keys of all partitions would take 29 MB.
const KEYS: u32 = 12_000;
const BATCH: u32 = 4000;
/// `log.cleaner.dedupe.buffer.size`: two threads have half of it each, some 10900 slots.
const BUFFER: u64 = 512 << 10;
/// What else a pass takes: a buffer of a MiB for what it writes, one batch of records opened up, in two threads; and what the broker
/// itself takes while it is asked for metrics of a hundred partitions.
const BESIDE: u64 = 12 << 20;

/// Each key twice, in batches; the first of them begins a new segment if it comes much later than the one before.
fn produce(stream: &mut TcpStream, partition: i32, batch: u32, timestamp: i64) {
    let mut builder = BatchBuilder::new(Compression::None);
    for delta in 0..BATCH {
        let key = (batch * BATCH + delta) % KEYS;
        builder.append(delta as i32, timestamp, Some(&key.to_be_bytes()), Some(b"value"), &[]);
    }
    let data = PartitionProduceData { index: partition, records: Some(builder.build().unwrap()) };
    let topics = vec![TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() }];
    let request = ProduceRequest { acks: 1, timeout_ms: 10_000, topic_data: topics, ..ProduceRequest::default() };
    assert_eq!(ask(stream, 9, &request).responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

fn policy(stream: &mut TcpStream, value: &'static str) {
    let config = AlterableConfig { name: "cleanup.policy".into(), config_operation: 0, value: Some(value.into()) };
    let resource = AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(ask(stream, 1, &request).responses[0].error_code, ErrorCode::NONE);
}

#[test]
fn memory_is_bounded_whatever_the_number_of_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = format!("log.cleaner.dedupe.buffer.size={BUFFER}");
    let flags = [["--set", "log.cleaner.backoff.ms=10"], ["--set", "log.cleaner.threads=2"], ["--set", &buffer]];
    let esker = Esker::start_with(dir.path(), &flags.concat());
    let mut stream = esker.connect();
    let configs = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("segment.ms", "1000"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("durability", "page-cache"),
    ];
    let config = |(name, value): (&'static str, &'static str)| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    };
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs: configs.map(config).into(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    assert_eq!(ask(&mut stream, 4, &request).topics[0].error_code, ErrorCode::NONE);
    let batches = 2 * KEYS / BATCH;
    for partition in 0..PARTITIONS {
        for batch in 0..=batches {
            // The last one begins the active segment.
            let age = if batch == batches { 0 } else { 100_000 };
            produce(&mut stream, partition, batch, 1_700_000_000_000 - age);
        }
    }
    // Once before: what scraping takes is not what compaction takes.
    esker.http_get("/metrics");
    let before = esker.memory_kb("RssAnon") << 10;
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(before));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(esker.memory_kb("RssAnon") << 10, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        policy(&mut stream, "compact");
        // More keys than fit: no partition is done in one pass.
        let deadline = Instant::now() + 5 * PATIENCE;
        let wanted = f64::from(PARTITIONS) * 2.0;
        while esker.metric("esker_log_compactions") < wanted || esker.metric("esker_log_compactions_running") > 0.0 {
            if Instant::now() > deadline {
                done.store(true, Ordering::Relaxed);
                panic!("{} compactions", esker.metric("esker_log_compactions"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
    });
    let grown = peak.load(Ordering::Relaxed) - before;
    println!("{} compactions, {before} bytes before, {grown} more at most", esker.metric("esker_log_compactions"));
    assert!(grown <= BUFFER + BESIDE, "{grown} bytes more than before");
    assert!(esker.metric("kafka_log_logcleanermanager_uncleanable_partitions_count") < 0.5);
    assert!(esker.terminate().success());
}
