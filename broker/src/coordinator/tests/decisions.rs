//! Groups while the disk is full or stalls, on a log that is damaged, and when much of them goes at once.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use esker_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use esker_protocol::messages::delete_groups::DeleteGroupsRequest;
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::messages::heartbeat::HeartbeatRequest;
use esker_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use esker_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_protocol::primitives::Str;
use esker_storage::hooked::{Doing, HookedDisk, Hooks};
use esker_storage::io::LogFile;

use super::*;
use crate::test_support::{broker_in, broker_on};
use esker_core::internal_topics::OFFSETS_TOPIC;

const SETTINGS: &[(&str, &str)] = &[
    ("offsets.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.segment.bytes", "1048576"),
    // A slow disk is no failure.
    ("offsets.commit.timeout.ms", "3600000"),
];

/// A disk that has no room, or on which the groups' log is not flushed, while a test says so.
#[derive(Debug, Default)]
struct Room {
    none: AtomicBool,
    no_flush: AtomicBool,
}

impl Hooks for Room {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        if let Doing::SyncData(path) = doing
            && [OFFSETS_TOPIC, "esker-journal-"].iter().any(|name| path.to_string_lossy().contains(name))
        {
            while self.no_flush.load(Ordering::SeqCst) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn write(&self, file: &dyn LogFile, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        match self.none.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => file.write_at(parts, offset),
        }
    }
}

async fn find(client: &mut Client, group: &str) {
    let find = FindCoordinatorRequest { key: Str::copy(group), ..FindCoordinatorRequest::default() };
    while client.ask(1, &find).await.error_code.is_error() {}
}

/// Retries until the coordinator is there.
macro_rules! settled {
    ($answer:expr, $code:expr) => {
        loop {
            let answer = $answer;
            let code: ErrorCode = $code(&answer);
            if !matches!(code, ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) {
                break answer;
            }
        }
    };
}

async fn commit(client: &mut Client, group: &str, offset: i64) -> ErrorCode {
    let partition =
        OffsetCommitRequestPartition { committed_offset: offset, ..OffsetCommitRequestPartition::default() };
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest { group_id: Str::copy(group), topics: vec![topic], ..Default::default() };
    settled!(client.ask(2, &request).await.topics[0].partitions[0].error_code, |code: &ErrorCode| *code)
}

async fn committed_offset(client: &mut Client, group: &str) -> i64 {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let request = OffsetFetchRequest { group_id: Str::copy(group), topics: Some(vec![topic]), ..Default::default() };
    let answer = settled!(client.ask(5, &request).await, |a: &_| {
        let a: &esker_protocol::messages::offset_fetch::OffsetFetchResponse = a;
        a.error_code
    });
    answer.topics[0].partitions[0].committed_offset
}

async fn join(client: &mut Client, group: &'static str, instance: Option<&'static str>) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"m") };
    let request = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        group_instance_id: instance.map(Str::from),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    client.ask(if instance.is_some() { 5 } else { 3 }, &request).await
}

fn consumer(group: &'static str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: "m".into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if epoch == 0 { 30_000 } else { -1 },
        subscribed_topic_names: (epoch == 0).then(|| vec!["t".into()]),
        topic_partitions: (epoch == 0).then(Vec::new),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_refuses_has_not_happened() {
    let room = Arc::new(Room::default());
    let (running, _dir) = broker_on(Arc::new(HookedDisk(Arc::clone(&room) as Arc<dyn Hooks>)), SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    find(&mut client, "g").await;
    assert_eq!(commit(&mut client, "g", 5).await, ErrorCode::NONE);
    // A static member of a stable group.
    let member = join(&mut client, "static", Some("i")).await;
    assert_eq!(member.error_code, ErrorCode::NONE);
    let assignment =
        SyncGroupRequestAssignment { member_id: member.member_id.clone(), assignment: Bytes::from_static(b"A") };
    let sync = SyncGroupRequest {
        group_id: "static".into(),
        generation_id: member.generation_id,
        member_id: member.member_id.clone(),
        group_instance_id: Some("i".into()),
        assignments: vec![assignment],
        ..SyncGroupRequest::default()
    };
    assert_eq!(client.ask(3, &sync).await.error_code, ErrorCode::NONE);
    // An empty group of the new protocol.
    for epoch in [0, -1] {
        assert_eq!(client.ask(0, &consumer("empty", epoch)).await.error_code, ErrorCode::NONE);
    }
    let delete = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    let describe = ConsumerGroupDescribeRequest { group_ids: vec!["empty".into()], ..Default::default() };
    let beat = HeartbeatRequest {
        group_id: "static".into(),
        generation_id: member.generation_id,
        member_id: member.member_id.clone(),
        group_instance_id: Some("i".into()),
    };

    room.none.store(true, Ordering::SeqCst);
    assert_eq!(client.ask(1, &delete).await.results[0].error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(committed_offset(&mut client, "g").await, 5);
    assert_eq!(join(&mut client, "static", Some("i")).await.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(client.ask(3, &beat).await.error_code, ErrorCode::NONE, "the member is not replaced");
    assert_eq!(join(&mut client, "empty", None).await.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(&*client.ask(0, &describe).await.groups[0].group_state, "Empty", "it is a group of its kind still");
    assert_eq!(commit(&mut client, "new", 1).await, ErrorCode::COORDINATOR_NOT_AVAILABLE);

    room.none.store(false, Ordering::SeqCst);
    let again = join(&mut client, "static", Some("i")).await;
    assert_eq!((again.error_code, again.generation_id), (ErrorCode::NONE, member.generation_id));
    assert_eq!(client.ask(3, &beat).await.error_code, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(join(&mut client, "empty", None).await.error_code, ErrorCode::NONE);
    assert_eq!(client.ask(0, &describe).await.groups[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(client.ask(1, &delete).await.results[0].error_code, ErrorCode::NONE);
    assert_eq!(committed_offset(&mut client, "g").await, -1);
    running.stop().await.unwrap();
}

/// A request does not wait for ever for its records to be committed, and what it wrote is neither lost nor shown before.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_for_a_commit_only_so_long() {
    let room = Arc::new(Room::default());
    let mut settings = SETTINGS.to_vec();
    settings.push(("offsets.commit.timeout.ms", "200"));
    let (running, _dir) = broker_on(Arc::new(HookedDisk(Arc::clone(&room) as Arc<dyn Hooks>)), &settings).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    find(&mut client, "g").await;
    // A sync may take longer than this time-out, also of a disk that is well.
    while commit(&mut client, "g", 5).await != ErrorCode::NONE {}
    room.no_flush.store(true, Ordering::SeqCst);
    assert_eq!(commit(&mut client, "g", 6).await, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let fetch = OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    assert_eq!(client.ask(5, &fetch).await.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    room.no_flush.store(false, Ordering::SeqCst);
    while client.ask(5, &fetch).await.error_code.is_error() {}
    assert_eq!(committed_offset(&mut client, "g").await, 6);
    running.stop().await.unwrap();
}

/// Cuts, changes or adds to what the partition's log has, while no broker runs.
fn damage(dir: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join(format!("{OFFSETS_TOPIC}-0")).join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    how(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
}

/// Groups of which a part is missing are not served: an offset that is not found would make a consumer begin anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_whole_is_not_served() {
    for what in ["a record", "a batch"] {
        let dir = tempfile::tempdir().unwrap();
        let running = broker_in(dir.path(), Arc::new(esker_storage::io::OsDisk), SETTINGS).await;
        let mut client = Client::to(&running).await;
        create_topic_with(&mut client, "t", &[]).await;
        find(&mut client, "g").await;
        for offset in 1..=5 {
            assert_eq!(commit(&mut client, "g", offset).await, ErrorCode::NONE);
        }
        if what == "a record" {
            let mut batch = BatchBuilder::new(Compression::None);
            let key = esker_protocol::messages::internal::OffsetCommitKey {
                group: "g".into(),
                topic: "t".into(),
                partition: 0,
            };
            batch.append(0, 1, Some(&key.to_bytes().unwrap()), Some(b"\x00\x03?"), &[]);
            let bytes = batch.build().unwrap();
            let header = esker_protocol::records::BatchHeader::parse(&bytes).unwrap();
            let log = running.broker.replicas.partition(&TopicRef::by_name(&OFFSETS_TOPIC.into()), 0).unwrap();
            log.append(&header, &bytes, Origin::Coordinator { transaction_v2: false }, true, 1).unwrap();
        }
        running.stop().await.unwrap();
        if what == "a batch" {
            // In the value of its first record.
            damage(dir.path(), |bytes| bytes[90] ^= 0x40);
        }
        let running = broker_in(dir.path(), Arc::new(esker_storage::io::OsDisk), SETTINGS).await;
        let shard = loop {
            if let Ok(shard) = running.broker.groups.shard_of(0)
                && shard.state() != Some("loading")
            {
                break shard;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(shard.state(), Some("failed"), "{what}");
        let mut client = Client::to(&running).await;
        let request = OffsetFetchRequest { group_id: "g".into(), topics: None, ..OffsetFetchRequest::default() };
        assert_eq!(client.ask(5, &request).await.error_code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, "{what}");
        running.stop().await.unwrap();
    }
}

/// The tombstones of a deleted topic are more than a segment holds.
#[tokio::test(flavor = "multi_thread")]
async fn many_offsets_go_with_their_topic() {
    let (running, _dir) = broker(SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    let groups: Vec<String> = (0..60).map(|n| format!("{n}-{}", "g".repeat(30_000))).collect();
    find(&mut client, "g").await;
    for group in &groups {
        assert_eq!(commit(&mut client, group, 7).await, ErrorCode::NONE);
    }
    let delete = DeleteTopicsRequest { topic_names: vec!["t".into()], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(client.ask(1, &delete).await.responses[0].error_code, ErrorCode::NONE);
    create_topic_with(&mut client, "t", &[]).await;
    for group in &groups {
        while committed_offset(&mut client, group).await != -1 {}
    }
    running.stop().await.unwrap();
}
