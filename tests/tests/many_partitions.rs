//! Many more partitions than files may be open: all are written and read, and descriptors and maps stay within their bound, over a clean
//! stop and a kill -9.
//!
//! `ESKER_MANY_PARTITIONS=20000` asks for so many (about a minute), with the default bound; `--nocapture` shows the figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::net::TcpStream;
use std::time::Instant;

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, ask};

/// Of a topic, and of a request.
const TOPIC: i32 = 500;
const REQUEST: i32 = 100;

fn batch(value: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1_700_000_000_000, None, Some(&value.to_be_bytes()), &[]);
    builder.build().unwrap()
}

/// All partitions in the portions of a request: topic, and its partitions.
fn portions(count: i32) -> impl Iterator<Item = (String, std::ops::Range<i32>)> {
    (0..count).step_by(REQUEST as usize).map(move |first| {
        let from = first % TOPIC;
        (format!("t{}", first / TOPIC), from..(from + REQUEST).min(from + count - first))
    })
}

fn write(stream: &mut TcpStream, count: i32) {
    for (topic, partitions) in portions(count) {
        let data = partitions.map(|index| PartitionProduceData { index, records: Some(batch(index)) });
        let topic = TopicProduceData { name: topic.into(), partition_data: data.collect(), ..Default::default() };
        let produce = ProduceRequest { acks: 1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        for answer in &ask(stream, 9, &produce).responses[0].partition_responses {
            assert_eq!(answer.error_code, ErrorCode::NONE);
        }
    }
}

/// Reads all partitions; each has so many records.
fn read(stream: &mut TcpStream, count: i32, records: i64) {
    for (topic, partitions) in portions(count) {
        let wanted = partitions.clone().map(|partition| FetchPartition {
            partition,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        });
        let topics = vec![FetchTopic { topic: topic.into(), partitions: wanted.collect(), ..Default::default() }];
        let request = FetchRequest { max_bytes: 50 << 20, topics, ..FetchRequest::default() };
        let answer = ask(stream, 11, &request);
        assert_eq!(answer.responses[0].partitions.len(), partitions.len());
        for partition in &answer.responses[0].partitions {
            assert_eq!(partition.error_code, ErrorCode::NONE);
            assert_eq!(partition.high_watermark, records);
            let found = partition.records.as_ref().unwrap();
            assert_eq!(found.len(), batch(0).len() * records as usize);
            assert!(found.ends_with(&batch(partition.partition_index)[21..]), "the partition's own records");
        }
    }
}

/// Descriptors, maps, MB resident; the first two within their bounds.
fn measure(esker: &Esker, what: &str, began: Instant) {
    let proc = format!("/proc/{}", esker.pid());
    let files = std::fs::read_dir(format!("{proc}/fd")).unwrap().count();
    let maps = std::fs::read_to_string(format!("{proc}/maps")).unwrap().lines().count();
    let (rss, own) = (esker.memory_kb("VmRSS") / 1024, esker.memory_kb("RssAnon") / 1024);
    println!("{what:<28} {files:>6} fds {maps:>6} maps {rss:>5} MiB resident, {own} of its own  {:?}", began.elapsed());
    let limit = esker.metric("esker_log_open_segments_limit") as usize;
    assert!(esker.metric("esker_log_open_segments") as usize <= limit);
    assert!(files < limit + 200, "{files} descriptors with a bound of {limit}");
    assert!(maps < 3 * limit + 600, "{maps} maps with a bound of {limit}");
}

#[test]
fn files_and_maps_stay_bounded() {
    let asked = std::env::var("ESKER_MANY_PARTITIONS").ok().and_then(|n| n.parse::<i32>().ok());
    let count = asked.unwrap_or(400);
    let mut flags = vec!["--set", "log.durability=page-cache"];
    if asked.is_none() {
        flags.extend(["--set", "log.open.files.max=40"]);
    }
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let esker = Esker::start_with(dir.path(), &flags);
    let mut stream = esker.connect();
    for (number, first) in (0..count).step_by(TOPIC as usize).enumerate() {
        let topic = CreatableTopic {
            name: format!("t{number}").into(),
            num_partitions: TOPIC.min(count - first),
            replication_factor: 1,
            ..Default::default()
        };
        let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..CreateTopicsRequest::default() };
        assert!(!ask(&mut stream, 4, &create).topics[0].error_code.is_error());
    }
    measure(&esker, "created", began);
    let began = Instant::now();
    (0..2).for_each(|_| write(&mut stream, count));
    measure(&esker, "written twice", began);
    let began = Instant::now();
    (0..2).for_each(|_| read(&mut stream, count, 2));
    measure(&esker, "read twice", began);
    let limit = esker.metric("esker_log_open_segments_limit") as i32;
    assert!(count < limit || esker.metric("esker_log_segments_evicted") > 0.0);
    let began = Instant::now();
    assert!(esker.terminate().success());
    println!("clean stop                   {:?}", began.elapsed());

    let esker = Esker::start_with(dir.path(), &flags);
    println!("start after a clean stop     {:?}", esker.took);
    let mut stream = esker.connect();
    let began = Instant::now();
    read(&mut stream, count, 2);
    write(&mut stream, count);
    measure(&esker, "read and written", began);
    esker.kill();

    let esker = Esker::start_with(dir.path(), &flags);
    println!("start after kill -9          {:?}", esker.took);
    let mut stream = esker.connect();
    let began = Instant::now();
    read(&mut stream, count, 3);
    measure(&esker, "read", began);
}
