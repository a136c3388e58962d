//! A disk that fills up under load, again and again: producers are told to try again, nothing that was acknowledged is lost, and all
//! else goes on meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::net::TcpStream;
use std::time::Instant;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::{BatchBuilder, Batches};
use esker_tests::{Esker, PATIENCE, ask};

const MB: u64 = 1 << 20;

fn produce(stream: &mut TcpStream, topic: &'static str, partition: i32, number: u64, size: usize) -> ErrorCode {
    let mut builder = BatchBuilder::new(Compression::None);
    let value: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(size).collect();
    builder.append(0, 1_700_000_000_000, None, Some(&value), &[]);
    let data = PartitionProduceData { index: partition, records: Some(builder.build().unwrap()) };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() }],
        ..ProduceRequest::default()
    };
    ask(stream, 9, &request).responses[0].partition_responses[0].error_code
}

fn create(stream: &mut TcpStream, name: &'static str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert_eq!(ask(stream, 4, &request).topics[0].error_code, ErrorCode::NONE, "{name}");
}

fn delete(stream: &mut TcpStream, name: &'static str) {
    let request = DeleteTopicsRequest { topic_names: vec![name.into()], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(ask(stream, 4, &request).responses[0].error_code, ErrorCode::NONE, "{name}");
}

fn commit(stream: &mut TcpStream, offset: i64) -> ErrorCode {
    let metadata = "m".repeat(4000);
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some(metadata.into()),
        ..Default::default()
    };
    let topics =
        vec![OffsetCommitRequestTopic { name: "keep".into(), partitions: vec![partition], ..Default::default() }];
    let request = OffsetCommitRequest { group_id: "g".into(), topics, ..OffsetCommitRequest::default() };
    ask(stream, 8, &request).topics[0].partitions[0].error_code
}

/// The numbers of all records of a partition.
fn numbers(stream: &mut TcpStream, topic: &'static str, partition: i32) -> Vec<u64> {
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let wanted =
            FetchPartition { partition, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let request = FetchRequest {
            max_bytes: 1 << 24,
            topics: vec![FetchTopic { topic: topic.into(), partitions: vec![wanted], ..FetchTopic::default() }],
            ..FetchRequest::default()
        };
        let answer = ask(stream, 12, &request);
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE);
        for batch in Batches::new(data.records.clone().unwrap_or_default()) {
            for record in batch.unwrap().records(1 << 24).unwrap() {
                let value = record.unwrap().value.unwrap();
                assert!(value.chunks(8).all(|chunk| chunk == &value[..8]), "torn");
                found.push(u64::from_be_bytes(value[..8].try_into().unwrap()));
                offset += 1;
            }
        }
        if offset >= data.high_watermark {
            return found;
        }
    }
}

#[test]
fn a_full_disk_stops_producers_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let Some(esker) = Esker::on_small_disk(dir.path(), 48 * MB) else {
        println!("left out: no file system can be mounted here");
        return;
    };
    let mut stream = esker.connect();
    create(&mut stream, "keep", 1);
    let find = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
    let deadline = Instant::now() + PATIENCE;
    while ask(&mut stream, 3, &find).error_code.is_error() || commit(&mut stream, 0).is_error() {
        assert!(Instant::now() < deadline, "no coordinator");
    }
    let mut kept = Vec::new();
    for round in 0..6u64 {
        create(&mut stream, "filler", 3);
        // Several producers at once, until each was refused a few times.
        let acknowledged: Vec<Vec<Vec<u64>>> = std::thread::scope(|scope| {
            let producers: Vec<_> = (0..3u64)
                .map(|producer| {
                    let mut stream = esker.connect();
                    scope.spawn(move || {
                        // Large records at first, then small ones into what is left.
                        let (mut good, mut refused) = (vec![Vec::new(); 3], 0);
                        for number in 0.. {
                            let (partition, number) = ((number % 3) as usize, producer * 1_000_000 + number);
                            let size = if refused < 5 { 40_000 } else { 400 };
                            match produce(&mut stream, "filler", partition as i32, number, size) {
                                ErrorCode::NONE => good[partition].push(number),
                                ErrorCode::KAFKA_STORAGE_ERROR => refused += 1,
                                other => panic!("{other}"),
                            }
                            if refused == 15 {
                                break;
                            }
                        }
                        good
                    })
                })
                .collect();
            producers.into_iter().map(|producer| producer.join().unwrap()).collect()
        });
        // It is full. Reads, commits and admin requests go on.
        for partition in 0..3 {
            let found = numbers(&mut stream, "filler", partition as i32);
            for producer in &acknowledged {
                let mine: Vec<_> =
                    found.iter().copied().filter(|n| n / 1_000_000 == producer[0][0] / 1_000_000).collect();
                assert_eq!(mine, producer[partition], "acknowledged and found, in order, once");
            }
        }
        for offset in 1..50 {
            assert_eq!(commit(&mut stream, offset), ErrorCode::NONE, "round {round}: an offset");
        }
        create(&mut stream, "more", 2);
        delete(&mut stream, "more");
        assert!(esker.http_get("/health/live").contains("alive"));
        // Space comes back, and writing goes on by itself.
        delete(&mut stream, "filler");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match produce(&mut stream, "keep", 0, round, 40_000) {
                ErrorCode::NONE => break kept.push(round),
                ErrorCode::KAFKA_STORAGE_ERROR => assert!(Instant::now() < deadline, "writing does not go on"),
                other => panic!("{other}"),
            }
        }
        assert_eq!(numbers(&mut stream, "keep", 0), kept);
    }
    assert!(esker.terminate().success(), "it stops cleanly");
}
