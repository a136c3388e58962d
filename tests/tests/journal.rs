//! The journal of a log dir on the real binary: what was acknowledged through it is there after a crash that took it from the segments,
//! after a restart and after `esker journal apply`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use esker_client::admin::NewTopic;
use esker_client::{Admin, Client, ClientConfig};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_tests::{Esker, PATIENCE, ask, binary};

/// So many that a round of them is cheaper by the journal, whatever the disk; a stall does not change that (`storage/src/journal/choose.rs`).
const PARTITIONS: i32 = 12;

/// One acknowledged batch in each partition.
fn produce(esker: &Esker, size: usize) {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(0, 1_700_000_000_000, None, Some(&vec![7; size]), &[]);
    let batch = batch.build().unwrap();
    let data = |index| PartitionProduceData { index, records: Some(batch.clone()) };
    let partition_data = (0..PARTITIONS).map(data).collect();
    let topic = TopicProduceData { name: "t".into(), partition_data, ..TopicProduceData::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 60_000, topic_data: vec![topic], ..Default::default() };
    let answer = ask(&mut esker.connect(), 9, &request);
    assert!(answer.responses[0].partition_responses.iter().all(|partition| partition.error_code == ErrorCode::NONE));
}

/// The offsets below which segments are synced, by partition, as the broker writes them down; once it has begun to do so after the call.
fn recovery_points(data: &Path) -> Vec<u64> {
    let path = data.join("recovery-point-offset-checkpoint");
    let written = || fs::metadata(&path).and_then(|file| file.modified()).ok();
    let deadline = Instant::now() + PATIENCE;
    // The first to come may have been begun before.
    for _ in 0..2 {
        let before = written();
        while written() == before {
            assert!(Instant::now() < deadline, "no checkpoint is written");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let text = fs::read_to_string(&path).unwrap();
    let offset = |partition: i32| {
        let mut rows = text.lines().filter_map(|line| line.strip_prefix(&format!("t {partition} ")));
        rows.next().map_or(0, |offset| offset.parse().unwrap())
    };
    (0..PARTITIONS).map(offset).collect()
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
    let flags = ["--set", "replica.high.watermark.checkpoint.interval.ms=50"];
    let esker = Esker::start_with(&data, &flags);
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    let topic = NewTopic { partitions: PARTITIONS, ..NewTopic::new("t") };
    Admin::new(&client).create_topics(&[topic], false).await.unwrap().remove(0).unwrap();
    let dir = data.display().to_string();
    let metric = |name: &str| esker.metric(&format!("esker_journal_{name}{{log_dir=\"{dir}\"}}"));
    let sizes = || (0..PARTITIONS).map(|partition| size(&data, partition)).collect::<Vec<u64>>();
    // The first of each goes to its folder, and has the journal prepared.
    produce(&esker, 1000);
    let batch = size(&data, 0);
    let deadline = Instant::now() + PATIENCE;
    while metric("prepared_bytes") == 0.0 {
        assert!(Instant::now() < deadline, "the journal is never prepared");
    }
    let mut batches = 1;
    let synced = loop {
        (0..20).for_each(|_| produce(&esker, 1000));
        batches += 20;
        let synced = recovery_points(&data);
        if synced.iter().any(|offset| *offset < batches) {
            break synced;
        }
        assert!(Instant::now() < deadline, "nothing is left to the journal");
    };
    assert!(metric("rounds") > 0.0, "nothing went by the journal");
    assert_eq!(ends(&esker), [batches as i64; PARTITIONS as usize]);
    esker.kill();
    // As if what is not synced of the segments had gone with the power.
    let whole = sizes();
    assert_eq!(whole, [batch * batches; PARTITIONS as usize]);
    for (partition, offset) in (0..PARTITIONS).zip(&synced) {
        let file = OpenOptions::new().write(true).open(data_file(&data, partition)).unwrap();
        file.set_len(offset * batch).unwrap();
    }
    let other = folder.path().join("other");
    copy(&data, &other);

    let applied = Command::new(binary()).args(["journal", "apply", "--data-dir"]).arg(&other).output().unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let said = String::from_utf8(applied.stdout).unwrap();
    assert!(said.contains("12 partitions") && !said.contains(" 0 bytes"), "{said}");
    assert_eq!((0..PARTITIONS).map(|partition| size(&other, partition)).collect::<Vec<_>>(), whole);
    assert_eq!((journal_files(&other), other.join(".kafka_cleanshutdown").exists()), (0, true));

    let esker = Esker::start_with(&data, &flags);
    assert_eq!(ends(&esker), [batches as i64; PARTITIONS as usize]);
    assert!(esker.metric(&format!("esker_journal_replayed_bytes{{log_dir=\"{dir}\"}}")) > 0.0);
    produce(&esker, 1000);
    assert!(esker.terminate().success());
    // A clean stop leaves nothing to write.
    let applied = Command::new(binary()).args(["journal", "apply", "--data-dir"]).arg(&data).output().unwrap();
    assert!(String::from_utf8_lossy(&applied.stdout).contains("12 partitions, 0 bytes"), "{applied:?}");
}

fn apply(data: &Path, journal: &[&Path]) -> (bool, String) {
    let mut command = Command::new(binary());
    command.args(["journal", "apply", "--data-dir"]).arg(data);
    for folder in journal {
        command.arg("--journal-dir").arg(folder);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_in_a_folder_of_its_own_is_not_forgotten_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let [data, journal, other] = ["data", "journal", "other"].map(|name| folder.path().join(name));
    let placed = format!("log.journal.dir={}", journal.display());
    let flags = ["--set", &placed];
    let esker = Esker::start_with(&data, &flags);
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    let topic = NewTopic { partitions: PARTITIONS, ..NewTopic::new("t") };
    Admin::new(&client).create_topics(&[topic], false).await.unwrap().remove(0).unwrap();
    let rounds = format!("esker_journal_rounds{{log_dir=\"{}\"}}", data.display());
    let (mut batches, deadline) = (0, Instant::now() + PATIENCE);
    while esker.metric(&rounds) < 3.0 {
        assert!(Instant::now() < deadline, "nothing goes by the journal");
        produce(&esker, 1000);
        batches += 1;
    }
    esker.kill();
    assert_eq!((journal_files(&data), journal_files(&journal) > 0), (0, true));
    let named = journal.display().to_string();

    let listen = esker_tests::listen_anywhere();
    let arguments = ["serve", "--listen", &listen, "--http", "127.0.0.1:0", "--data-dir"];
    let refused = Command::new(binary()).args(arguments).arg(&data).output().unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && message.contains(&named), "{message}");
    let applied = apply(&data, &[]);
    assert!(!applied.0 && applied.1.contains(&named) && applied.1.contains("--journal-dir"), "{applied:?}");
    let applied = apply(&data, &[&journal, &other]);
    assert!(!applied.0 && applied.1.contains("name a --journal-dir for each --data-dir"), "{applied:?}");
    let applied = apply(&data, &[&journal]);
    assert!(applied.0 && applied.1.contains("12 partitions"), "{applied:?}");
    assert_eq!((journal_files(&data), journal_files(&journal)), (0, 0));

    let esker = Esker::start_with(&data, &[]);
    assert_eq!(ends(&esker), [batches; PARTITIONS as usize]);
    assert!(esker.terminate().success());
}
