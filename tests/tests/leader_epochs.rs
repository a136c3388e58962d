//! Leader epochs (KIP-101, KIP-320): each start begins one, so that a client whose records a power cut took learns of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::fs::OpenOptions;
use std::net::TcpStream;
use std::path::Path;

use esker_client::admin::NewTopic;
use esker_client::{Admin, Client, ClientConfig};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use esker_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, ask};

async fn create_topic(esker: &Esker) {
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    let configs = vec![("durability".into(), "page-cache".into())];
    let topic = NewTopic { partitions: 2, configs, ..NewTopic::new("t") };
    Admin::new(&client).create_topics(&[topic], false).await.unwrap().remove(0).unwrap();
}

/// One record, in a batch of its own; gives its offset.
fn produce(stream: &mut TcpStream, value: &str) -> i64 {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1_700_000_000_000, None, Some(value.as_bytes()), &[]);
    let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() };
    let answer = ask(stream, 9, &request).responses[0].partition_responses[0].clone();
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.base_offset
}

/// The leader epochs of both partitions.
fn epochs(stream: &mut TcpStream) -> Vec<i32> {
    let topic = MetadataRequestTopic { name: Some("t".into()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    ask(stream, 7, &request).topics[0].partitions.iter().map(|partition| partition.leader_epoch).collect()
}

fn fetch(
    stream: &mut TcpStream,
    fetch_offset: i64,
    current_leader_epoch: i32,
    last_fetched_epoch: i32,
) -> PartitionData {
    let partition = FetchPartition {
        fetch_offset,
        current_leader_epoch,
        last_fetched_epoch,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() };
    let request =
        FetchRequest { max_bytes: 1 << 20, topics: vec![topic], session_epoch: -1, ..FetchRequest::default() };
    ask(stream, 12, &request).responses[0].partitions[0].clone()
}

/// Epoch and end offset of an epoch.
fn end_of(stream: &mut TcpStream, partition: i32, current_leader_epoch: i32, leader_epoch: i32) -> (i32, i64) {
    let wanted = OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch };
    let topic = OffsetForLeaderTopic { topic: "t".into(), partitions: vec![wanted] };
    let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..OffsetForLeaderEpochRequest::default() };
    let answer = ask(stream, 4, &request).topics[0].partitions[0].clone();
    assert_eq!(answer.error_code, ErrorCode::NONE);
    (answer.leader_epoch, answer.end_offset)
}

/// Offset and leader epoch of the log's end.
fn latest(stream: &mut TcpStream, partition_index: i32) -> (i64, i32) {
    let wanted = ListOffsetsPartition { partition_index, timestamp: -1, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![wanted] };
    let answer = ask(stream, 7, &ListOffsetsRequest { topics: vec![topic], ..Default::default() });
    let partition = &answer.topics[0].partitions[0];
    (partition.offset, partition.leader_epoch)
}

/// As after a power cut: the page cache did not write out the batches from `offset` on.
fn lose_from(data: &Path, offset: i64) {
    let path = data.join("t-0/00000000000000000000.log");
    let bytes = std::fs::read(&path).unwrap();
    let mut at = 0;
    while i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) < offset {
        at += 12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    }
    OpenOptions::new().write(true).open(path).unwrap().set_len(at as u64).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_start_begins_a_leader_epoch_and_shows_what_a_power_cut_took() {
    let dir = tempfile::tempdir().unwrap();
    let mut esker = Esker::start(dir.path());
    create_topic(&esker).await;
    let mut stream = esker.connect();
    for number in 0..10 {
        assert_eq!(produce(&mut stream, &format!("first-{number}")), number);
    }
    let first = epochs(&mut stream)[0];
    assert!(fetch(&mut stream, 0, first, -1).records.is_some_and(|records| !records.is_empty()));

    esker.kill();
    lose_from(dir.path(), 6);
    esker = Esker::start(dir.path());
    let mut stream = esker.connect();
    let now = epochs(&mut stream);
    assert!(now.iter().all(|epoch| *epoch > first), "epochs {now:?} after a kill, {first} before");
    let second = now[0];
    // Before anything is written in the new epoch, and after: the reader of offset 9 is shown where its records end.
    assert_eq!((latest(&mut stream, 0), latest(&mut stream, 1)), ((6, second), (0, second)));
    for written in [0, 3, 7] {
        for number in 0..written {
            produce(&mut stream, &format!("second-{number}"));
        }
        assert_eq!(end_of(&mut stream, 0, second, first), (first, 6));
        assert_eq!(end_of(&mut stream, 0, second, second), (second, latest(&mut stream, 0).0));
        let diverging = fetch(&mut stream, 10, second, first);
        assert_eq!(diverging.error_code, ErrorCode::NONE);
        assert_eq!((diverging.diverging_epoch.epoch, diverging.diverging_epoch.end_offset), (first, 6));
        assert!(diverging.records.is_none_or(|records| records.is_empty()));
    }
    assert_eq!(fetch(&mut stream, 10, first, first).error_code, ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(fetch(&mut stream, 10, second + 1, first).error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);

    // A clean stop begins an epoch, too, and what was written before keeps its own.
    assert!(esker.terminate().success());
    esker = Esker::start(dir.path());
    let mut stream = esker.connect();
    let third = epochs(&mut stream)[0];
    assert!(third > second, "epoch {third} after a clean stop, {second} before");
    assert_eq!(end_of(&mut stream, 0, third, first), (first, 6));
    assert_eq!(end_of(&mut stream, 0, third, second), (second, 16));
    assert_eq!(end_of(&mut stream, 0, third, third), (third, 16));
    assert_eq!(end_of(&mut stream, 1, third, second), (second, 0), "an epoch without a record");
    let whole = fetch(&mut stream, 16, third, second);
    assert_eq!((whole.error_code, whole.diverging_epoch.end_offset), (ErrorCode::NONE, -1));
    produce(&mut stream, "third");
    esker.kill();
    esker = Esker::start(dir.path());
    let mut stream = esker.connect();
    let fourth = epochs(&mut stream)[0];
    assert_eq!(end_of(&mut stream, 0, fourth, second), (second, 16));
    assert_eq!(end_of(&mut stream, 0, fourth, third), (third, 17), "what is written in an epoch is known after a kill");
}
