//! The journal of a log dir on the real binary: what was acknowledged through it is there after a crash that took it from the segments,
//! after a restart and after `esker journal apply`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use esker_client::admin::NewTopic;
use esker_client::{Admin, Client, ClientConfig};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, PATIENCE, ask, binary};

const PARTITIONS: i32 = 3;
/// So many rounds in a row by the journal are what the crash takes from the segments.
const BY_JOURNAL: i64 = 20;

/// One acknowledged batch in each partition.
fn produce(esker: &Esker, size: usize) {
    let mut stream = esker.connect();
    for index in 0..PARTITIONS {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.append(0, 1_700_000_000_000, None, Some(&vec![7; size]), &[]);
        let data = PartitionProduceData { index, records: Some(batch.build().unwrap()) };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..TopicProduceData::default() };
        let request = ProduceRequest { acks: -1, timeout_ms: 60_000, topic_data: vec![topic], ..Default::default() };
        let answer = ask(&mut stream, 9, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    }
}

fn data_file(data: &Path, partition: i32) -> std::path::PathBuf {
    data.join(format!("t-{partition}/00000000000000000000.log"))
}

fn size(data: &Path, partition: i32) -> u64 {
    fs::metadata(data_file(data, partition)).unwrap().len()
}

fn ends(esker: &Esker) -> Vec<i64> {
    let partitions = (0..PARTITIONS).map(|index| ListOffsetsPartition {
        partition_index: index,
        current_leader_epoch: -1,
        timestamp: -1,
        ..Default::default()
    });
    let topic = ListOffsetsTopic { name: "t".into(), partitions: partitions.collect() };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let answer = ask(&mut esker.connect(), 5, &request);
    answer.topics[0].partitions.iter().map(|partition| partition.offset).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => assert!(fs::copy(entry.path(), target).is_ok()),
        }
    }
}

fn journal_files(data: &Path) -> usize {
    let names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("esker-journal-")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_journal_has_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // Recovery points stay where they are on disk.
    let flags = ["--listen", "127.0.0.1:0", "--set", "log.flush.offset.checkpoint.interval.ms=3600000"];
    let esker = Esker::start_with(&data, &flags);
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    let topic = NewTopic { partitions: PARTITIONS, ..NewTopic::new("t") };
    Admin::new(&client).create_topics(&[topic], false).await.unwrap().remove(0).unwrap();
    // The first of each goes to its folder, and has the journal prepared.
    produce(&esker, 100);
    let sizes = || (0..PARTITIONS).map(|partition| size(&data, partition)).collect::<Vec<u64>>();
    let dir = data.display().to_string();
    let metric = |name: &str| esker.metric(&format!("esker_journal_{name}{{log_dir=\"{dir}\"}}"));
    let deadline = Instant::now() + PATIENCE;
    while metric("prepared_bytes") == 0.0 {
        assert!(Instant::now() < deadline, "the journal is never prepared");
    }
    // What the broker has synced in the segments must stay: which way it goes depends on what this disk takes for each.
    let by_segments = || esker.metric("esker_flush_rounds_total{way=\"segments\"}");
    let (mut batches, mut synced, mut first, mut in_a_row) = (1, by_segments(), sizes(), 0);
    while in_a_row < BY_JOURNAL {
        produce(&esker, 1000);
        (batches, in_a_row) = (batches + 1, in_a_row + 1);
        if by_segments() != synced {
            (synced, first, in_a_row) = (by_segments(), sizes(), 0);
        }
        assert!(Instant::now() < deadline, "nothing goes by the journal");
    }
    assert!(metric("rounds") > 0.0, "nothing went by the journal");
    assert_eq!(ends(&esker), [batches; PARTITIONS as usize]);
    esker.kill();
    // As if the page cache of the segments had gone with the power.
    let whole = sizes();
    for (partition, first) in (0..PARTITIONS).zip(&first) {
        OpenOptions::new().write(true).open(data_file(&data, partition)).unwrap().set_len(*first).unwrap();
    }
    let other = folder.path().join("other");
    copy(&data, &other);

    let applied = Command::new(binary()).args(["journal", "apply", "--data-dir"]).arg(&other).output().unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let said = String::from_utf8(applied.stdout).unwrap();
    assert!(said.contains("3 partitions") && !said.contains(" 0 bytes"), "{said}");
    assert_eq!((0..PARTITIONS).map(|partition| size(&other, partition)).collect::<Vec<_>>(), whole);
    assert_eq!((journal_files(&other), other.join(".kafka_cleanshutdown").exists()), (0, true));

    let esker = Esker::start_with(&data, &flags);
    assert_eq!(ends(&esker), [batches; PARTITIONS as usize]);
    assert!(esker.metric(&format!("esker_journal_replayed_bytes{{log_dir=\"{dir}\"}}")) > 0.0);
    produce(&esker, 1000);
    assert!(esker.terminate().success());
    // A clean stop leaves nothing to write.
    let applied = Command::new(binary()).args(["journal", "apply", "--data-dir"]).arg(&data).output().unwrap();
    assert!(String::from_utf8_lossy(&applied.stdout).contains("3 partitions, 0 bytes"), "{applied:?}");
}
