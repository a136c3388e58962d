//! What a DeleteRecords waits for, and how it ends.

use esker_core::replication::{FollowerFetch, ReplicaEnds};

use super::*;
use crate::replica::{Assignment, ReplicaFetch, Role};
use crate::serve::Running;
use crate::test_support::{Client, broker, create_topic};

const RECORDS: i64 = 3;

/// The partition with some committed records. Another replica is in sync, whose broker is not registered: its fetches are the test's.
async fn replicated(running: &Running) -> Arc<Partition> {
    create_topic(&mut Client::to(running).await).await;
    let partition = running.broker.replicas.partition(&TopicRef::by_name(&"t".into()), 0).unwrap();
    let role = partition.leader_for_epoch(-1).unwrap();
    let assignment = Assignment { replicas: vec![1, 2], isr: vec![1, 2], ..role.assignment.clone() };
    let settings = Arc::new(crate::replica::TopicSettings { flush_before_ack: false, ..(*role.settings).clone() });
    partition.set_role(Role::of(1, assignment, settings)).unwrap();
    for _ in 0..RECORDS {
        let mut builder = esker_protocol::records::BatchBuilder::new(esker_protocol::compression::Compression::None);
        builder.append(0, 1, None, Some(b"value"), &[]);
        let (batch, _) = esker_protocol::records::Batch::parse(builder.build().unwrap()).unwrap();
        let origin = esker_storage::Origin::Client { transaction_v2: false };
        partition.append(&batch.header, &batch.bytes, origin, true, 1).unwrap();
    }
    follower_fetches(&partition, 0);
    assert_eq!(partition.log().high_watermark(), RECORDS);
    partition
}

fn follower_fetches(partition: &Partition, log_start: i64) {
    let leader_epoch = partition.role().leading_epoch().unwrap();
    let ends = ReplicaEnds { log_end: RECORDS, flushed: RECORDS };
    let follower = FollowerFetch { id: 2, broker_epoch: 5, log_start, ends };
    partition.record_fetch(&ReplicaFetch { follower, leader_epoch, last_fetched_epoch: leader_epoch }).unwrap();
}

fn request(offset: i64, timeout_ms: i32) -> DeleteRecordsRequest {
    let partitions = [0, 9].map(|partition_index| DeleteRecordsPartition { partition_index, offset });
    let topic = DeleteRecordsTopic { name: "t".into(), partitions: partitions.to_vec() };
    DeleteRecordsRequest { topics: vec![topic], timeout_ms }
}

/// The results of partition 0, and of partition 9, which does not exist.
fn results(response: &DeleteRecordsResponse) -> [(i64, ErrorCode); 2] {
    let partitions = &response.topics[0].partitions;
    [0, 1].map(|at| (partitions[at].low_watermark, partitions[at].error_code))
}

const UNKNOWN: (i64, ErrorCode) = (-1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

/// A DeleteRecords that waits for the follower.
async fn pending(running: &Running) -> (Arc<Partition>, Client) {
    let partition = replicated(running).await;
    let mut client = Client::to(running).await;
    client.send(2, 1, &request(2, 3_600_000)).await;
    until(|| partition.pending_deletions() == 1).await;
    (partition, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_answered_when_the_follower_has_deleted() {
    let (running, _dir) = broker(&[]).await;
    let (partition, mut client) = pending(&running).await;
    assert_eq!(partition.log().log_start_offset(), 2, "the leader has deleted");
    let metrics = "kafka_server_delayedoperationpurgatory_purgatorysize{delayedOperation=\"DeleteRecords\"} 1";
    let scrape = crate::http::metrics::scrape(&running.broker);
    assert!(scrape.contains(metrics), "{scrape}");
    follower_fetches(&partition, 1);
    follower_fetches(&partition, 2);
    let (_, answer) = client.answer::<DeleteRecordsRequest>(2).await;
    assert_eq!(results(&answer), [(2, ErrorCode::NONE), UNKNOWN]);
    assert_eq!(partition.pending_deletions(), 0);
    // What both have deleted is answered at once.
    assert_eq!(results(&client.ask(2, &request(1, 3_600_000)).await), [(2, ErrorCode::NONE), UNKNOWN]);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_a_follower_lacks_times_out() {
    let (running, _dir) = broker(&[]).await;
    let partition = replicated(&running).await;
    let mut client = Client::to(&running).await;
    for timeout_ms in [0, 50] {
        let answer = client.ask(2, &request(-1, timeout_ms)).await;
        assert_eq!(results(&answer), [(0, ErrorCode::REQUEST_TIMED_OUT), UNKNOWN], "{timeout_ms} ms");
    }
    assert_eq!(partition.log().log_start_offset(), RECORDS);
    assert_eq!(partition.pending_deletions(), 0);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_with_the_leadership() {
    let (running, _dir) = broker(&[]).await;
    let (partition, mut client) = pending(&running).await;
    let role = partition.leader_for_epoch(-1).unwrap();
    let assignment =
        Assignment { leader: 2, leader_epoch: role.assignment.leader_epoch + 1, ..role.assignment.clone() };
    partition.set_role(Role::of(1, assignment, Arc::clone(&role.settings))).unwrap();
    let (_, answer) = client.answer::<DeleteRecordsRequest>(2).await;
    assert_eq!(results(&answer), [(-1, ErrorCode::NOT_LEADER_OR_FOLLOWER), UNKNOWN]);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_the_isr_and_is_not_alive_holds_up_nothing() {
    let (running, _dir) = broker(&[]).await;
    let (partition, mut client) = pending(&running).await;
    let role = partition.leader_for_epoch(-1).unwrap();
    let assignment = Assignment { isr: vec![1], ..role.assignment.clone() };
    partition.set_role(Role::of(1, assignment, Arc::clone(&role.settings))).unwrap();
    let (_, answer) = client.answer::<DeleteRecordsRequest>(2).await;
    assert_eq!(results(&answer), [(2, ErrorCode::NONE), UNKNOWN]);
    running.stop().await.unwrap();
}
