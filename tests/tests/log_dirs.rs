//! A disk that really breaks, under one of two log dirs: that dir goes offline for good, and the other serves on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::net::TcpStream;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::{BatchBuilder, Batches};
use esker_tests::{Esker, ask};

const MB: u64 = 1 << 20;
const PARTITIONS: i32 = 4;

fn create(stream: &mut TcpStream, name: &'static str, num_partitions: i32) {
    let topic = CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert_eq!(ask(stream, 4, &request).topics[0].error_code, ErrorCode::NONE, "{name}");
}

/// One record of 100 KB that does not compress to nothing; `acks=all`.
fn produce(stream: &mut TcpStream, topic: &'static str, partition: i32) -> ErrorCode {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1_700_000_000_000, None, Some(&[b'x'; 100_000]), &[]);
    let data = PartitionProduceData { index: partition, records: Some(builder.build().unwrap()) };
    let topics = vec![TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() }];
    let request = ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: topics, ..ProduceRequest::default() };
    ask(stream, 9, &request).responses[0].partition_responses[0].error_code
}

fn count(stream: &mut TcpStream, partition: i32) -> Result<i64, ErrorCode> {
    let mut offset = 0;
    loop {
        let wanted =
            FetchPartition { partition, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let topics = vec![FetchTopic { topic: "t".into(), partitions: vec![wanted], ..FetchTopic::default() }];
        let answer = ask(stream, 12, &FetchRequest { max_bytes: 1 << 24, topics, ..FetchRequest::default() });
        let data = &answer.responses[0].partitions[0];
        if data.error_code.is_error() {
            return Err(data.error_code);
        }
        for batch in Batches::new(data.records.clone().unwrap_or_default()) {
            offset = batch.unwrap().header.next_offset();
        }
        if offset >= data.high_watermark {
            return Ok(offset);
        }
    }
}

/// Partitions of `topic` in each dir, and whether the dir is offline.
fn placed(stream: &mut TcpStream, topic: &str) -> Vec<(String, bool, Vec<i32>)> {
    let dirs = ask(stream, 4, &DescribeLogDirsRequest { topics: None }).results;
    let partitions = dirs.into_iter().map(|dir| {
        let own = dir.topics.iter().filter(|found| &*found.name == topic).flat_map(|found| &found.partitions);
        let mut own: Vec<i32> = own.map(|partition| partition.partition_index).collect();
        own.sort_unstable();
        (dir.log_dir.to_string(), dir.error_code == ErrorCode::KAFKA_STORAGE_ERROR, own)
    });
    partitions.collect()
}

#[test]
fn a_dir_on_a_broken_disk_goes_offline_and_the_other_serves() {
    let dir = tempfile::tempdir().unwrap();
    let Some((esker, [good, bad])) = Esker::on_breaking_disk(dir.path(), 16 * MB) else {
        println!("left out: no file system can be mounted here");
        return;
    };
    let mut stream = esker.connect();
    create(&mut stream, "t", PARTITIONS);
    let at = |places: &[(String, bool, Vec<i32>)], dir: &std::path::Path| {
        let (_, offline, own) = places.iter().find(|(path, ..)| *path == dir.display().to_string()).unwrap();
        (*offline, own.clone())
    };
    let places = placed(&mut stream, "t");
    let ((_, on_good), (_, on_bad)) = (at(&places, &good), at(&places, &bad));
    assert_eq!((on_good.len(), on_bad.len()), (2, 2), "spread over both: {places:?}");
    for partition in 0..PARTITIONS {
        assert_eq!(produce(&mut stream, "t", partition), ErrorCode::NONE);
    }
    // Until the device takes no more: what its file system promised to keep is refused at the sync.
    let mut acknowledged = 1;
    let refused = loop {
        match produce(&mut stream, "t", on_bad[0]) {
            ErrorCode::NONE => acknowledged += 1,
            error => break error,
        }
        assert!(acknowledged < 1000, "the disk did not break");
    };
    assert_eq!(refused, ErrorCode::KAFKA_STORAGE_ERROR, "after {acknowledged}");
    assert!(acknowledged > 50, "it broke too early to show anything: {acknowledged}");
    // For good, and for all that lies there.
    for partition in &on_bad {
        assert_eq!(produce(&mut stream, "t", *partition), ErrorCode::KAFKA_STORAGE_ERROR);
        // What was acknowledged may be read while the disk gives it, or not at all: never less of it.
        match count(&mut stream, *partition) {
            Ok(found) if *partition == on_bad[0] => assert!(found >= acknowledged, "{found} of {acknowledged}"),
            Ok(found) => assert_eq!(found, 1),
            Err(error) => assert_eq!(error, ErrorCode::KAFKA_STORAGE_ERROR),
        }
    }
    let places = placed(&mut stream, "t");
    assert!(!at(&places, &good).0 && at(&places, &bad).0, "{places:?}");
    assert!((esker.metric("kafka_log_logmanager_offlinelogdirectorycount") - 1.0).abs() < 0.1);
    // The other dir serves, also new topics.
    for partition in &on_good {
        for _ in 0..20 {
            assert_eq!(produce(&mut stream, "t", *partition), ErrorCode::NONE);
        }
        assert_eq!(count(&mut stream, *partition), Ok(21));
    }
    create(&mut stream, "new", 3);
    assert_eq!(at(&placed(&mut stream, "new"), &good).1, [0, 1, 2]);
    assert_eq!(produce(&mut stream, "new", 2), ErrorCode::NONE);
    esker.kill();
}
