//! DeleteRecords on replicated partitions: what is acknowledged stays deleted, whichever replica leads next.

use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::wire::{FETCH, Wire, fetch_request};
use esker_tests::writer::PartitionWriter;

const TOPIC: &str = "t";
const ROUNDS: i64 = 6;
/// Records of each round.
const RECORDS: i64 = 10;
/// Longer than any request's own time.
const PATIENCE: Duration = Duration::from_secs(90);

const DELETE_RECORDS: i16 = 2;
const LIST_OFFSETS: i16 = 5;
const EARLIEST: i64 = -2;

/// Deletes below `offset` at a node; its low watermark and its error.
fn delete_records(wire: &mut Wire, offset: i64, timeout_ms: i32) -> Option<(i64, ErrorCode)> {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: TOPIC.into(), partitions }];
    let answer = wire.ask(DELETE_RECORDS, &DeleteRecordsRequest { topics, timeout_ms }).ok()?;
    let result = answer.topics.into_iter().next()?.partitions.into_iter().next()?;
    Some((result.low_watermark, result.error_code))
}

/// The first offset of the partition, as its leader says.
fn earliest(cluster: &Cluster) -> i64 {
    let wanted = ListOffsetsPartition { partition_index: 0, timestamp: EARLIEST, ..ListOffsetsPartition::default() };
    let topics = vec![ListOffsetsTopic { name: TOPIC.into(), partitions: vec![wanted] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    find("the leader names the first offset", || {
        let answer = wire_to(cluster, cluster.leader(TOPIC, 0)).ask(LIST_OFFSETS, &request).ok()?;
        let found = answer.topics.into_iter().next()?.partitions.into_iter().next()?;
        assert!(found.error_code == ErrorCode::NONE || found.error_code.is_retriable(), "{:?}", found.error_code);
        (found.error_code == ErrorCode::NONE).then_some(found.offset)
    })
}

/// What a node, which may follow, answers to a fetch at `offset`.
fn fetch_error(cluster: &Cluster, at: usize, offset: i64) -> Option<ErrorCode> {
    let answer = wire_to(cluster, at).ask(FETCH, &fetch_request(TOPIC, 0, offset)).ok()?;
    Some(answer.responses.into_iter().next()?.partitions.into_iter().next()?.error_code)
}

fn wire_to(cluster: &Cluster, at: usize) -> Wire {
    Wire::new(cluster.address(at), PATIENCE)
}

#[test]
fn a_fail_over_brings_no_deleted_record_back() {
    let mut cluster = Cluster::start(3);
    cluster.create_topic(TOPIC, 1, "page-cache");
    let mut writer = PartitionWriter::new(TOPIC, 0, &cluster.addresses());
    for round in 0..ROUNDS {
        (0..RECORDS).for_each(|value| _ = writer.write(u64::try_from(round * RECORDS + value).unwrap()));
        let deleted = round * RECORDS + RECORDS / 2;
        let leader = find("the deletion is acknowledged", || {
            let leader = cluster.leader(TOPIC, 0);
            let result = delete_records(&mut wire_to(&cluster, leader), deleted, 60_000)?;
            let is_moving = result.1 == ErrorCode::NOT_LEADER_OR_FOLLOWER;
            assert!(is_moving || result == (deleted, ErrorCode::NONE), "{result:?}");
            (!is_moving).then_some(leader)
        });
        cluster.kill(leader);
        assert_eq!(earliest(&cluster), deleted, "round {round}");
        let next = cluster.leader(TOPIC, 0);
        assert_ne!(next, leader);
        let error = find("an answer to a fetch", || fetch_error(&cluster, next, deleted - 1));
        assert_eq!(error, ErrorCode::OFFSET_OUT_OF_RANGE, "round {round}");
        cluster.restart(leader);
        cluster.wait_in_sync(TOPIC);
    }
}

#[test]
fn a_deletion_waits_for_a_paused_follower_until_it_is_fenced() {
    let mut cluster = Cluster::start_after(&[Duration::ZERO; 3], &["--set", "broker.session.timeout.ms=6000"]);
    cluster.create_topic(TOPIC, 1, "page-cache");
    let mut writer = PartitionWriter::new(TOPIC, 0, &cluster.addresses());
    (0..RECORDS).for_each(|value| _ = writer.write(u64::try_from(value).unwrap()));
    cluster.wait_in_sync(TOPIC);
    let leader = cluster.leader(TOPIC, 0);
    // Of the followers one that is not the controller: the time until it is fenced is that of its session alone.
    let controller = cluster.controller();
    let paused = cluster.live().find(|at| *at != leader && *at != controller).unwrap();
    let mut wire = wire_to(&cluster, leader);
    assert_eq!(delete_records(&mut wire, 2, 60_000), Some((2, ErrorCode::NONE)));

    cluster.pause(paused);
    assert_eq!(delete_records(&mut wire, 4, 300), Some((2, ErrorCode::REQUEST_TIMED_OUT)));
    let began = Instant::now();
    assert_eq!(delete_records(&mut wire, 6, 60_000), Some((6, ErrorCode::NONE)));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(50), "the fencing of the follower ended the wait, after {took:?}");
    let isr = cluster.topic(TOPIC).unwrap().partitions[0].isr_nodes.len();
    assert_eq!(isr, 2, "the follower is fenced");

    cluster.resume(paused);
    cluster.wait_in_sync(TOPIC);
    wait_until("the follower answers", || fetch_error(&cluster, paused, 5) == Some(ErrorCode::OFFSET_OUT_OF_RANGE));
    cluster.kill(leader);
    assert_eq!(earliest(&cluster), 6);
}
