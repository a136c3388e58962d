//! Moves of a replica to another log dir while it is written to and read from.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::{BatchBuilder, Batches};

use crate::replica::test_support::{logs, node};
use crate::serve::Running;
use crate::test_support::{Client, broker, create_topic_with};

fn produce(value: &[u8]) -> ProduceRequest {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1_700_000_000_000, None, Some(value), &[]);
    let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() }],
        ..ProduceRequest::default()
    }
}

async fn alter(client: &mut Client, topic: &'static str, to: &Path) -> ErrorCode {
    let topics = vec![AlterReplicaLogDirTopic { name: topic.into(), partitions: vec![0] }];
    let dirs = vec![AlterReplicaLogDir { path: to.display().to_string().into(), topics }];
    client.ask(2, &AlterReplicaLogDirsRequest { dirs }).await.results[0].partitions[0].error_code
}

/// The log dir of the partition, and whether a move is running.
async fn log_dir_of(client: &mut Client) -> (String, bool) {
    let answer = client.ask(4, &DescribeLogDirsRequest { topics: None }).await;
    let of = |future: bool| {
        let lies = |result: &&esker_protocol::messages::describe_log_dirs::DescribeLogDirsResult| {
            result.topics.iter().any(|t| &*t.name == "t" && t.partitions.iter().any(|p| p.is_future_key == future))
        };
        answer.results.iter().find(lies).map(|result| result.log_dir.to_string())
    };
    (of(false).unwrap(), of(true).is_some())
}

/// Values of all records, by fetching until the high watermark.
async fn values(client: &mut Client) -> Vec<String> {
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let partition =
            FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
        let request = FetchRequest {
            max_bytes: 1 << 24,
            topics: vec![FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() }],
            ..FetchRequest::default()
        };
        let answer = client.ask(12, &request).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE, "a reader must not notice");
        for batch in Batches::new(data.records.clone().unwrap_or_default()) {
            for record in batch.unwrap().records(1 << 24).unwrap() {
                let record = record.unwrap();
                assert_eq!(record.offset, offset, "a gap");
                found.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                offset += 1;
            }
        }
        if offset >= data.high_watermark {
            return found;
        }
    }
}

async fn moved_to(client: &mut Client, to: &Path) {
    while log_dir_of(client).await != (to.display().to_string(), false) {
        tokio::task::yield_now().await;
    }
}

/// Produces until `stop` is set; every answer must be good.
fn writer(running: &Running, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let (address, stop) = (running.kafka, Arc::clone(stop));
    tokio::spawn(async move {
        let mut client = Client(tokio::net::TcpStream::connect(address).await.unwrap());
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let value = format!("{count}:{}", "x".repeat(5000));
            let answer = client.ask(9, &produce(value.as_bytes())).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
            count += 1;
        }
        count
    })
}

/// A move that ends late must not end or overwrite the one that replaced it: that would show as a move that never ends.
#[test]
fn only_the_last_move_of_a_replica_counts() {
    let (_dir, logs) = logs(&Arc::default());
    let (moves, key) =
        (super::Moves::new(node(), logs, std::sync::Arc::default(), 1), (esker_protocol::primitives::Uuid::ZERO, 0));
    let progress =
        |to: &str| super::MoveProgress { topic: "t".into(), partition: 0, to: to.into(), copied: 0, behind: 9 };
    let first = moves.begin_move(key, progress("/two"));
    assert!(moves.is_moving_to(key, Path::new("/two")) && moves.is_current(key, first));
    moves.cancel_move(key);
    assert!(!moves.is_current(key, first));
    // To the same dir again: the first move is still not current.
    let second = moves.begin_move(key, progress("/two"));
    assert!(!moves.is_current(key, first) && moves.is_current(key, second));
    let third = moves.begin_move(key, progress("/one"));
    moves.end_move(key, first);
    moves.end_move(key, second);
    assert!(moves.is_current(key, third) && moves.progress() == [progress("/one")]);
    moves.end_move(key, third);
    assert!(moves.progress().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_replica_moves_while_it_is_written_to() {
    let dirs = tempfile::tempdir().unwrap();
    let (one, two) = (dirs.path().join("one"), dirs.path().join("two"));
    let both = format!("{},{}", one.display(), two.display());
    let (running, _dir) = broker(&[("log.dirs", &both), ("log.durability", "page-cache")]).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[("segment.bytes", "1048576")]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = writer(&running, &stop);
    let mut reader = Client::to(&running).await;
    while values(&mut reader).await.len() < 300 {}
    for _ in 0..4 {
        let (at, _) = log_dir_of(&mut client).await;
        let to = if at == one.display().to_string() { &two } else { &one };
        assert_eq!(alter(&mut client, "t", to).await, ErrorCode::NONE);
        let (_, seen) = tokio::join!(moved_to(&mut client, to), values(&mut reader));
        assert!(seen.len() >= 300);
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    let all = values(&mut reader).await;
    assert_eq!(all.len(), written, "acknowledged and found");
    assert!(all.iter().enumerate().all(|(at, value)| value.starts_with(&format!("{at}:"))));
    // A restart finds it there.
    let (at, _) = log_dir_of(&mut client).await;
    running.stop().await.unwrap();
    let (running, _dir) = broker(&[("log.dirs", &both)]).await;
    let mut client = Client::to(&running).await;
    assert_eq!(log_dir_of(&mut client).await, (at, false));
    assert_eq!(values(&mut client).await.len(), written);
    let leftover = |dir: &Path| {
        std::fs::read_dir(dir)
            .unwrap()
            .filter(|e| {
                let name = e.as_ref().unwrap().file_name().into_string().unwrap();
                name.starts_with("t-")
            })
            .count()
    };
    // Leftovers of the moves are removed in the background after a start.
    while leftover(&one) + leftover(&two) > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(leftover(&one) + leftover(&two), 1, "one folder is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impossible_move_is_refused() {
    let (running, dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    assert_eq!(alter(&mut client, "t", dir.path()).await, ErrorCode::NONE, "it is there already");
    assert_eq!(alter(&mut client, "t", Path::new("/nowhere")).await, ErrorCode::LOG_DIR_NOT_FOUND);
    assert_eq!(alter(&mut client, "none", dir.path()).await, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}
