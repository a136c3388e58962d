//! Compaction of the real broker beside everything that changes a log: appends, moves between log dirs, DeleteRecords, the deletion of
//! topics and readers. Every last value that was acknowledged is there afterwards, after kill -9 and after a clean stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::{BatchBuilder, Batches};
use esker_tests::{Esker, PATIENCE, ask};

const PARTITIONS: i32 = 2;
const TOPICS: [&str; 2] = ["synced", "cached"];
const KEYS: u64 = 40;
/// What must have happened beside the appends before it ends.
const COMPACTIONS: f64 = 12.0;
const MOVES: usize = 12;
const DELETIONS: usize = 6;

/// Times all of that; `ESKER_RACE_TIMES` for more.
fn times() -> u32 {
    std::env::var("ESKER_RACE_TIMES").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Last acknowledged offset and number of each key; `None` for a tombstone.
type Last = BTreeMap<u64, (i64, Option<u64>)>;

/// Numbers at random, from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[derive(Default)]
struct World {
    stop: AtomicBool,
    moved: AtomicUsize,
    deleted: AtomicUsize,
    last: Mutex<BTreeMap<(&'static str, i32), Last>>,
    /// Up to where records were deleted.
    starts: Mutex<BTreeMap<(&'static str, i32), i64>>,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

fn create(stream: &mut TcpStream, name: &'static str, durability: &'static str) -> ErrorCode {
    let configs = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "-1"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("file.delete.delay.ms", "1"),
        ("durability", durability),
    ];
    let config = |(name, value): (&'static str, &'static str)| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs: configs.map(config).into(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    ask(stream, 4, &request).topics[0].error_code
}

/// Key and number again and again, so that a torn or mixed-up value shows.
fn value(key: u64, number: u64) -> Vec<u8> {
    [key.to_be_bytes(), number.to_be_bytes()].concat().repeat(400)
}

fn read_value(key: u64, value: &[u8]) -> u64 {
    let number = u64::from_be_bytes(value[8..16].try_into().unwrap());
    assert!(value == self::value(key, number), "the value of another key, or a torn one");
    number
}

/// Appends some records; gives the offset of the first.
fn produce(
    stream: &mut TcpStream,
    topic: &'static str,
    partition: i32,
    records: &[(u64, Option<u64>)],
    codec: Compression,
) -> Result<i64, ErrorCode> {
    let mut builder = BatchBuilder::new(codec);
    for (delta, (key, number)) in records.iter().enumerate() {
        let value = number.map(|number| value(*key, number));
        builder.append(delta as i32, 1_700_000_000_000, Some(&key.to_be_bytes()), value.as_deref(), &[]);
    }
    let data = PartitionProduceData { index: partition, records: Some(builder.build().unwrap()) };
    let topics = vec![TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() }];
    let request = ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: topics, ..ProduceRequest::default() };
    let answer = ask(stream, 9, &request).responses[0].partition_responses[0].clone();
    if answer.error_code.is_error() { Err(answer.error_code) } else { Ok(answer.base_offset) }
}

fn earliest(stream: &mut TcpStream, topic: &'static str, partition: i32) -> i64 {
    let wanted = ListOffsetsPartition { partition_index: partition, timestamp: -2, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: vec![wanted] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    ask(stream, 7, &request).topics[0].partitions[0].offset
}

/// All that a consumer sees from the start: key and number, by offset.
fn read(
    stream: &mut TcpStream,
    topic: &'static str,
    partition: i32,
) -> Result<Vec<(i64, u64, Option<u64>)>, ErrorCode> {
    let (mut found, mut offset) = (Vec::new(), earliest(stream, topic, partition));
    loop {
        let wanted =
            FetchPartition { partition, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let topics = vec![FetchTopic { topic: topic.into(), partitions: vec![wanted], ..FetchTopic::default() }];
        let answer = ask(stream, 12, &FetchRequest { max_bytes: 1 << 24, topics, ..FetchRequest::default() });
        let data = &answer.responses[0].partitions[0];
        match data.error_code {
            ErrorCode::NONE => {}
            // DeleteRecords was faster.
            ErrorCode::OFFSET_OUT_OF_RANGE => offset = earliest(stream, topic, partition),
            error => return Err(error),
        }
        let before = offset;
        for batch in Batches::new(data.records.clone().unwrap_or_default()) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            for record in batch.records(1 << 24).unwrap() {
                let record = record.unwrap();
                if record.offset < before {
                    continue;
                }
                let key = u64::from_be_bytes(record.key.unwrap()[..].try_into().unwrap());
                found.push((record.offset, key, record.value.map(|value| read_value(key, &value))));
            }
            offset = batch.header.next_offset().max(offset);
        }
        if offset >= data.high_watermark && !data.error_code.is_error() {
            assert!(found.is_sorted_by(|a, b| a.0 < b.0), "offsets only go up");
            return Ok(found);
        }
    }
}

fn write(world: &World, esker: &Esker, topic: &'static str) {
    let (mut stream, mut dice) = (esker.connect(), Dice(topic.len() as u64));
    for number in 0.. {
        if !world.goes_on() {
            return;
        }
        let partition = dice.roll(PARTITIONS as u64) as i32;
        let records: Vec<_> =
            (0..=dice.roll(8)).map(|_| (dice.roll(KEYS), (dice.roll(8) > 0).then_some(number))).collect();
        let codec = [Compression::None, Compression::Lz4][dice.roll(2) as usize];
        let base = produce(&mut stream, topic, partition, &records, codec).expect("it is acknowledged");
        let mut last = world.last.lock().unwrap();
        let last = last.entry((topic, partition)).or_default();
        for (offset, (key, number)) in (base..).zip(records) {
            last.insert(key, (offset, number));
        }
    }
}

/// In which dir a partition lies.
fn place(stream: &mut TcpStream, topic: &str, partition: i32) -> Vec<PathBuf> {
    let dirs = ask(stream, 4, &DescribeLogDirsRequest { topics: None }).results;
    let lies = |found: &esker_protocol::messages::describe_log_dirs::DescribeLogDirsResult| {
        found
            .topics
            .iter()
            .filter(|t| &*t.name == topic)
            .any(|t| t.partitions.iter().any(|p| p.partition_index == partition && !p.is_future_key))
    };
    dirs.iter().filter(|dir| lies(dir)).map(|dir| PathBuf::from(dir.log_dir.to_string())).collect()
}

fn move_about(world: &World, esker: &Esker, dirs: &[PathBuf; 2]) {
    let (mut stream, mut dice) = (esker.connect(), Dice(3));
    while world.goes_on() {
        let (topic, partition) = (TOPICS[dice.roll(2) as usize], dice.roll(PARTITIONS as u64) as i32);
        let Some(here) = place(&mut stream, topic, partition).pop() else { continue };
        let to = dirs.iter().find(|dir| **dir != here).unwrap();
        let mut alter = |to: &Path| {
            let topics = vec![AlterReplicaLogDirTopic { name: topic.into(), partitions: vec![partition] }];
            let dirs = vec![AlterReplicaLogDir { path: to.display().to_string().into(), topics }];
            let answer = ask(&mut stream, 2, &AlterReplicaLogDirsRequest { dirs });
            assert_eq!(answer.results[0].partitions[0].error_code, ErrorCode::NONE);
        };
        alter(to);
        if dice.roll(4) == 0 {
            // Taken back on the way, or right after it.
            alter(&here);
            continue;
        }
        let deadline = Instant::now() + PATIENCE;
        while place(&mut stream, topic, partition) != std::slice::from_ref(to) {
            assert!(Instant::now() < deadline, "{topic}-{partition} does not come to {}", to.display());
        }
        world.moved.fetch_add(1, Ordering::Relaxed);
    }
}

fn delete_records(world: &World, esker: &Esker) {
    let (mut stream, mut dice) = (esker.connect(), Dice(4));
    while world.goes_on() {
        let (topic, partition) = (TOPICS[dice.roll(2) as usize], dice.roll(PARTITIONS as u64) as i32);
        let newest = world.last.lock().unwrap().get(&(topic, partition)).and_then(|l| l.values().map(|l| l.0).max());
        let start = earliest(&mut stream, topic, partition);
        let Some(newest) = newest.filter(|newest| *newest > start + 300) else { continue };
        let offset = start + dice.roll((newest - start).cast_unsigned() / 2) as i64;
        // Told before it is done: from here on nothing below need be there.
        world.starts.lock().unwrap().insert((topic, partition), offset);
        let wanted = DeleteRecordsPartition { partition_index: partition, offset };
        let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions: vec![wanted] }];
        let request = DeleteRecordsRequest { topics, timeout_ms: 10_000 };
        let answer = ask(&mut stream, 2, &request).topics[0].partitions[0].clone();
        assert_eq!(answer.error_code, ErrorCode::NONE);
        assert!(answer.low_watermark >= offset);
        thread::yield_now();
    }
}

/// A topic that is deleted while its log is compacted, and made again: nothing of the one before is found in it.
fn come_and_go(world: &World, esker: &Esker) {
    const NAME: &str = "comes-and-goes";
    let mut stream = esker.connect();
    for generation in 1u64.. {
        if !world.goes_on() {
            return;
        }
        assert_eq!(create(&mut stream, NAME, "page-cache"), ErrorCode::NONE);
        for round in 0..60 {
            let records: Vec<_> = (0..8).map(|key| (key, Some(generation * 1000 + round))).collect();
            for partition in 0..PARTITIONS {
                produce(&mut stream, NAME, partition, &records, Compression::None).expect("it is acknowledged");
            }
        }
        for partition in 0..PARTITIONS {
            let found = read(&mut stream, NAME, partition).unwrap();
            assert!(found.iter().all(|(_, _, number)| number.unwrap() / 1000 == generation), "of another generation");
            let last: BTreeMap<u64, Option<u64>> = found.into_iter().map(|(_, key, number)| (key, number)).collect();
            assert_eq!(last, (0..8).map(|key| (key, Some(generation * 1000 + 59))).collect());
        }
        let request = DeleteTopicsRequest { topic_names: vec![NAME.into()], timeout_ms: 10_000, ..Default::default() };
        assert_eq!(ask(&mut stream, 4, &request).responses[0].error_code, ErrorCode::NONE);
        world.deleted.fetch_add(1, Ordering::Relaxed);
    }
}

fn watch(world: &World, esker: &Esker) {
    let mut stream = esker.connect();
    while world.goes_on() {
        for (topic, partition) in TOPICS.into_iter().flat_map(|topic| (0..PARTITIONS).map(move |p| (topic, p))) {
            read(&mut stream, topic, partition).unwrap();
        }
    }
}

/// Every last value that was acknowledged and not deleted is what a consumer sees last of its key.
fn check(world: &World, esker: &Esker, when: &str) {
    let mut stream = esker.connect();
    let starts = world.starts.lock().unwrap();
    for ((topic, partition), last) in world.last.lock().unwrap().iter() {
        let start = earliest(&mut stream, topic, *partition);
        let asked = starts.get(&(*topic, *partition)).copied().unwrap_or(0);
        assert!(start <= last.values().map(|l| l.0).max().unwrap() && start >= asked, "{when}: {start}, {asked}");
        let found = read(&mut stream, topic, *partition).unwrap();
        let seen: BTreeMap<u64, (i64, Option<u64>)> =
            found.iter().map(|(offset, key, number)| (*key, (*offset, *number))).collect();
        for (key, expected) in last.iter().filter(|(_, (offset, _))| *offset >= start) {
            match seen.get(key) {
                Some(seen) => assert_eq!(seen, expected, "{when}: {topic}-{partition}, key {key}"),
                None => assert_eq!(expected.1, None, "{when}: {topic}-{partition}, key {key} is gone: {expected:?}"),
            }
        }
        let known: BTreeSet<i64> = last.values().map(|l| l.0).collect();
        assert!(seen.values().all(|(offset, _)| known.contains(offset)), "{when}: what was overwritten is last");
    }
}

#[test]
fn the_last_value_of_every_key_survives_them() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = ["one", "two"].map(|name| dir.path().join(name));
    dirs.iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
    let log_dirs = format!("log.dirs={},{}", dirs[0].display(), dirs[1].display());
    let listen = esker_tests::listen_anywhere();
    let mut flags = vec!["serve", "--listen", &listen, "--http", "127.0.0.1:0", "--set", &log_dirs];
    for set in ["log.cleaner.backoff.ms=10", "log.cleaner.threads=2", "log.retention.check.interval.ms=50"] {
        flags.extend(["--set", set]);
    }
    let esker = Esker::spawn(&flags);
    let mut stream = esker.connect();
    assert_eq!(create(&mut stream, "synced", "flush"), ErrorCode::NONE);
    assert_eq!(create(&mut stream, "cached", "page-cache"), ErrorCode::NONE);
    let world = World::default();
    thread::scope(|scope| {
        let (world, esker, dirs) = (&world, &esker, &dirs);
        let mut threads: Vec<_> = TOPICS.map(|topic| scope.spawn(move || write(world, esker, topic))).into();
        threads.push(scope.spawn(move || move_about(world, esker, dirs)));
        threads.push(scope.spawn(move || delete_records(world, esker)));
        threads.push(scope.spawn(move || come_and_go(world, esker)));
        threads.push(scope.spawn(move || watch(world, esker)));
        let (times, deadline) = (times(), Instant::now() + 2 * times() * PATIENCE);
        loop {
            let done = [world.moved.load(Ordering::Relaxed), world.deleted.load(Ordering::Relaxed)];
            let compactions = esker.metric("esker_log_compactions");
            let failed = threads.iter().any(|thread| thread.is_finished());
            let enough = compactions >= COMPACTIONS * f64::from(times)
                && done[0] >= MOVES * times as usize
                && done[1] >= DELETIONS * times as usize;
            if enough || failed {
                println!("{compactions} compactions, {} moves, {} topics deleted", done[0], done[1]);
                break;
            }
            if Instant::now() > deadline {
                world.stop.store(true, Ordering::Relaxed);
                panic!("{compactions} compactions, {} moves, {} topics deleted", done[0], done[1]);
            }
            thread::sleep(std::time::Duration::from_millis(20));
        }
        world.stop.store(true, Ordering::Relaxed);
    });
    assert!(esker.metric("kafka_log_logcleanermanager_uncleanable_partitions_count") < 0.5);
    assert!(esker.metric("kafka_log_logmanager_offlinelogdirectorycount") < 0.5);
    check(&world, &esker, "while it runs");
    esker.kill();
    let esker = Esker::spawn(&flags);
    check(&world, &esker, "after kill -9");
    let mut stream = esker.connect();
    for topic in TOPICS {
        for partition in 0..PARTITIONS {
            assert_eq!(place(&mut stream, topic, partition).len(), 1, "in one dir");
            let number = (1000, Some(1));
            let base = produce(&mut stream, topic, partition, &[number], Compression::None).unwrap();
            world.last.lock().unwrap().entry((topic, partition)).or_default().insert(1000, (base, Some(1)));
        }
    }
    assert!(esker.terminate().success());
    let esker = Esker::spawn(&flags);
    check(&world, &esker, "after a clean stop");
    assert!(esker.terminate().success());
}
