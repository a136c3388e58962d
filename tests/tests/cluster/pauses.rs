//! A leader stands still (SIGSTOP) while others take over, and goes on later without knowing.

use std::time::Duration;

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use esker_protocol::messages::produce::ProduceRequest;
use esker_protocol::records::BatchBuilder;
use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::wire::{PRODUCE, Wire, produce_request, produced};
use esker_tests::writer::PartitionWriter;

const TOPIC: &str = "t";
/// Each fetch of a follower brings one batch of a partition.
const ONE_BATCH: [&str; 2] = ["--set", "replica.fetch.max.bytes=1"];
/// Values that only the old leader has.
const TAIL: std::ops::Range<u64> = 1_000..1_010;
/// Values of requests that wait in the old leader's socket while it is paused.
const LATE: std::ops::Range<u64> = 2_000..2_020;

fn batch(value: u64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1, None, Some(value.to_string().as_bytes()), &[]);
    builder.build().unwrap()
}

#[test]
fn a_leader_that_was_paused_acknowledges_nothing_that_is_lost() {
    let mut cluster = Cluster::start_after(&[Duration::ZERO; 3], &ONE_BATCH);
    cluster.create_topic(TOPIC, 1, "page-cache");
    let leader = cluster.leader(TOPIC, 0);
    let followers: Vec<usize> = cluster.live().filter(|at| *at != leader).collect();
    let addresses: Vec<_> = followers.iter().map(|at| cluster.address(*at)).collect();
    let mut writer = PartitionWriter::new(TOPIC, 0, &addresses);
    (0..10).for_each(|value| _ = writer.write(value));

    // A tail that no follower reads but for its first two records: a follower has two fetches in flight at most, each of which brings one. The
    // leader's lease may end meanwhile.
    let mut wire = Wire::new(cluster.address(leader), Duration::from_secs(20));
    followers.iter().for_each(|at| cluster.pause(*at));
    let mut tail = Vec::new();
    for value in TAIL {
        let answer = produced(&wire.ask(PRODUCE, &produce_request(TOPIC, 0, 1, batch(value))).unwrap());
        if answer.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER {
            break;
        }
        assert_eq!(answer.error_code, ErrorCode::NONE, "acks=1 needs no follower");
        tail.push(value);
    }
    cluster.pause(leader);
    for value in LATE {
        wire.send(PRODUCE, &produce_request(TOPIC, 0, 1, batch(value))).unwrap();
    }
    followers.iter().for_each(|at| cluster.resume(*at));

    (10..30).for_each(|value| _ = writer.write(value));
    wait_until("another node leads", || cluster.leader(TOPIC, 0) != leader);
    cluster.resume(leader);
    let mut acknowledged = Vec::new();
    for value in LATE {
        // A connection that is closed acknowledges nothing.
        let Ok(answer) = wire.receive::<ProduceRequest>(PRODUCE) else { break };
        let answer = produced(&answer);
        if !answer.error_code.is_error() {
            acknowledged.push((answer.base_offset, value));
        }
    }
    cluster.wait_in_sync(TOPIC);
    let (records, end) = cluster.read_all(TOPIC, 0);
    for record in &acknowledged {
        assert!(records.contains(record), "{record:?} was acknowledged after the pause, and is lost");
    }
    let written: Vec<u64> = records.iter().map(|(_, value)| *value).filter(|value| *value < TAIL.start).collect();
    assert_eq!(written, (0..30).collect::<Vec<_>>(), "acks=all, in order");
    if let Some(last) = tail.iter().skip(2).next_back() {
        assert!(records.iter().all(|(_, value)| value != last), "{last} is still there: nothing was truncated");
    }
    (0..3).for_each(|at| cluster.kill(at));
    super::assert_equal_replicas(&cluster, TOPIC, 0, end);
}

const GROUP: &str = "g";
/// Questions that wait in the old coordinator's socket while it is paused.
const QUESTIONS: usize = 20;

fn commit_request(offset: i64) -> OffsetCommitRequest {
    let partition =
        OffsetCommitRequestPartition { committed_offset: offset, ..OffsetCommitRequestPartition::default() };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

fn offset_question() -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: vec![0] };
    OffsetFetchRequest { group_id: GROUP.into(), topics: Some(vec![topic]), ..OffsetFetchRequest::default() }
}

/// The versions that these requests are sent in.
const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 7;

/// The coordinator of the group, as a live node says.
fn coordinator(cluster: &Cluster) -> usize {
    let ask = FindCoordinatorRequest { key: GROUP.into(), ..FindCoordinatorRequest::default() };
    find("a coordinator", || {
        let answer = cluster.ask(3, &ask).filter(|answer| answer.error_code == ErrorCode::NONE)?;
        cluster.live().find(|at| cluster.node_id(*at) == answer.node_id)
    })
}

/// Commits at whichever node coordinates, until it is done.
fn commit(cluster: &Cluster, offset: i64) {
    find("the offset is committed", || {
        let mut wire = Wire::new(cluster.address(coordinator(cluster)), Duration::from_secs(5));
        let answer = wire.ask(OFFSET_COMMIT, &commit_request(offset)).ok()?;
        (answer.topics[0].partitions[0].error_code == ErrorCode::NONE).then_some(())
    });
}

/// An answer needs no record, so nothing else keeps an old coordinator from giving one.
#[test]
fn a_coordinator_that_was_paused_answers_nothing_of_the_past() {
    let mut cluster = Cluster::start(3);
    cluster.create_topic(TOPIC, 1, "page-cache");
    commit(&cluster, 1);
    let (old, mut wire) = find("the offset", || {
        let old = coordinator(&cluster);
        let mut wire = Wire::new(cluster.address(old), Duration::from_secs(20));
        let answer = wire.ask(OFFSET_FETCH, &offset_question()).ok().filter(|answer| !answer.topics.is_empty())?;
        assert_eq!(answer.topics[0].partitions[0].committed_offset, 1);
        Some((old, wire))
    });

    cluster.pause(old);
    (0..QUESTIONS).for_each(|_| wire.send(OFFSET_FETCH, &offset_question()).unwrap());
    commit(&cluster, 2);
    cluster.resume(old);
    for _ in 0..QUESTIONS {
        let Ok(answer) = wire.receive::<OffsetFetchRequest>(OFFSET_FETCH) else { break };
        if answer.error_code == ErrorCode::NONE {
            assert_eq!(answer.topics[0].partitions[0].committed_offset, 2, "an offset of the past");
        }
    }
}
