//! Several log dirs. A disk that really breaks under one of two: that dir goes offline for good, and the other serves on. And where
//! the metadata log lies among them: another order must not make another cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_protocol::messages::describe_quorum;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::metadata::MetadataRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::{BatchBuilder, Batches};
use esker_tests::{Esker, ask, binary};

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
fn log_dirs_that_the_configuration_cordons_get_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name).display().to_string());
    let dirs = format!("log.dirs={a},{b}");
    let start = |cordoned: &str| {
        let cordoned = format!("cordoned.log.dirs={cordoned}");
        Esker::spawn(&["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", &dirs, "--set", &cordoned])
    };
    let on = |stream: &mut TcpStream, topic: &str, dir: &str| {
        let found = placed(stream, topic).into_iter().find(|(path, ..)| path == dir);
        found.map(|(.., partitions)| partitions.len()).unwrap()
    };
    let esker = start(&a);
    let mut stream = esker.connect();
    create(&mut stream, "t", PARTITIONS);
    assert_eq!([&a, &b].map(|dir| on(&mut stream, "t", dir)), [0, 4]);
    drop((stream, esker));
    for cordoned in ["*".to_owned(), format!("{b},{a}")] {
        let esker = start(&cordoned);
        let mut stream = esker.connect();
        let topic = CreatableTopic { name: "u".into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let code = ask(&mut stream, 4, &request).topics[0].error_code;
        assert_eq!(code, ErrorCode::INVALID_REPLICATION_FACTOR, "{cordoned}");
        assert_eq!([&a, &b].map(|dir| on(&mut stream, "t", dir)), [0, 4], "what is there stays");
    }
    let esker = start("");
    create(&mut esker.connect(), "u", PARTITIONS);
    assert!(on(&mut esker.connect(), "u", &a) > 0);
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

/// The arguments of a broker with these log dirs, and `metadata.log.dir` if it is not empty.
fn on(log_dirs: &[&Path], metadata: Option<&Path>) -> Vec<String> {
    let dirs: Vec<String> = log_dirs.iter().map(|dir| dir.display().to_string()).collect();
    let mut arguments =
        ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set"].map(str::to_owned).to_vec();
    arguments.push(format!("log.dirs={}", dirs.join(",")));
    if let Some(dir) = metadata {
        arguments.extend(["--set".to_owned(), format!("metadata.log.dir={}", dir.display())]);
    }
    arguments
}

/// Starts such a broker, which has one topic, and returns its cluster's id and its controller's directory id.
fn serves(arguments: &[String]) -> (String, String) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let esker = Esker::spawn(&arguments);
    let mut stream = esker.connect();
    let topics = ask(&mut stream, 12, &MetadataRequest { topics: None, ..MetadataRequest::default() }).topics;
    if topics.is_empty() {
        create(&mut stream, "t", PARTITIONS);
    }
    let partitions = vec![describe_quorum::PartitionData { partition_index: 0 }];
    let topic = describe_quorum::TopicData { topic_name: "__cluster_metadata".into(), partitions };
    let quorum = ask(&mut stream, 2, &describe_quorum::DescribeQuorumRequest { topics: vec![topic] });
    let id = quorum.topics[0].partitions[0].current_voters[0].replica_directory_id.to_string();
    let cluster = esker.ready.split("cluster=").nth(1).unwrap().to_owned();
    assert!(esker.terminate().success());
    (cluster, format!("{id} with {} topics", topics.len().max(1)))
}

fn refused(arguments: &[String]) -> String {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn directory_id(dir: &Path) -> String {
    let meta = std::fs::read_to_string(dir.join("meta.properties")).unwrap();
    meta.lines().find_map(|line| line.strip_prefix("directory.id=")).unwrap().to_owned()
}

#[test]
fn another_order_of_the_log_dirs_is_no_other_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c, m] = ["a", "b", "c", "m"].map(|name| dir.path().join(name));
    let first = serves(&on(&[&a, &b], None));
    assert!(first.1.starts_with(&directory_id(&a)), "{first:?}");
    assert_eq!(serves(&on(&[&b, &a], None)), first);
    assert_eq!(serves(&on(&[&c, &b, &a], None)), first);
    assert_eq!(serves(&on(&[&b, &a, &c], Some(&a))), first);
    let names = |message: &str, dirs: &[&Path]| {
        dirs.iter().for_each(|dir| assert!(message.contains(&dir.display().to_string()), "{message}"));
    };
    // Elsewhere than configured, or not in any folder that is configured.
    names(&refused(&on(&[&a, &b], Some(&m))), &[&a, &m]);
    names(&refused(&on(&[&a, &b], Some(&b))), &[&a, &b]);
    names(&refused(&on(&[&b, &c], None)), &[&a, &b.join("metadata.location")]);
    assert!(!m.exists() && !b.join("__cluster_metadata-0").exists(), "a refused start leaves nothing");
    // As the refusal says: moved to a folder of its own, it is the same cluster with the same controller.
    std::fs::create_dir(&m).unwrap();
    std::fs::rename(a.join("__cluster_metadata-0"), m.join("__cluster_metadata-0")).unwrap();
    assert_eq!(serves(&on(&[&a, &b], Some(&m))), first);
    names(&refused(&on(&[&a, &b], None)), &[&m]);
    // Two of them.
    let copy = Command::new("cp").arg("-r").arg(m.join("__cluster_metadata-0")).arg(&b).status().unwrap();
    assert!(copy.success());
    names(&refused(&on(&[&a, &b], Some(&m))), &[&m, &b]);
    names(&refused(&on(&[&a, &b, &m], None)), &[&m, &b]);
}

#[test]
fn a_metadata_log_dir_of_its_own_is_a_folder_with_an_id_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, m] = ["a", "b", "m"].map(|name| dir.path().join(name));
    let first = serves(&on(&[&a, &b], Some(&m)));
    assert!(first.1.starts_with(&directory_id(&m)), "{first:?}");
    assert!(directory_id(&m) != directory_id(&a) && directory_id(&m) != directory_id(&b));
    assert_eq!(serves(&on(&[&b, &a], Some(&m))), first);
    // The folder belongs to this cluster, also with log dirs that are new.
    assert_eq!(serves(&on(&[&dir.path().join("new")], Some(&m))), first);
    // A folder that was formatted anew is another controller's: that is said, not waited for.
    let meta = std::fs::read_to_string(m.join("meta.properties")).unwrap();
    std::fs::write(m.join("meta.properties"), meta.replace(&directory_id(&m), &directory_id(&a))).unwrap();
    let message = refused(&on(&[&a, &b], Some(&m)));
    assert!(message.contains("directory.id") && message.contains(&m.display().to_string()), "{message}");
}

/// As Kafka does: a broker that can store nothing ends, so that a supervisor and the cluster see it.
#[test]
fn a_broker_ends_when_all_its_log_dirs_have_failed() {
    let dir = tempfile::tempdir().unwrap();
    let [metadata, bad] = ["good", "bad"].map(|name| dir.path().join(name));
    let arguments = on(&[&bad], Some(&metadata));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(esker) = Esker::spawn_on_breaking_disk(dir.path(), 16 * MB, &arguments) else {
        println!("left out: no file system can be mounted here");
        return;
    };
    let mut stream = esker.connect();
    create(&mut stream, "t", 1);
    assert_eq!(produce(&mut stream, "t", 0), ErrorCode::NONE);
    esker.break_disk(dir.path());
    // The last answer may be missing.
    let producing = std::thread::spawn(move || while produce(&mut stream, "t", 0) == ErrorCode::NONE {});
    assert_eq!(esker.wait_for_end().code(), Some(1));
    let _ = producing.join();
}
