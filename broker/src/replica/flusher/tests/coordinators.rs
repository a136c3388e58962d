//! Answers of coordinators are durable, too: committed offsets and decided transactions.

use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use esker_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};

use super::*;

const SETTINGS: &[(&str, &str)] = &[
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
    // Only the gate ends the wait for a commit.
    ("offsets.commit.timeout.ms", "3600000"),
];

async fn find(client: &mut Client, key: &'static str, key_type: i8) {
    let find = FindCoordinatorRequest { key: key.into(), key_type, ..FindCoordinatorRequest::default() };
    while client.ask(1, &find).await.error_code.is_error() {}
}

fn commit(offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn commit_code(answer: &OffsetCommitResponse) -> ErrorCode {
    answer.topics[0].partitions[0].error_code
}

/// Checks that the answer comes only after the gate opened.
async fn waits_for_the_gate<R: esker_protocol::Request>(
    gate: &Arc<Gate>,
    [client, other]: [&mut Client; 2],
    v: i16,
    request: &R,
) {
    gate.set(|state| state.closed = true);
    client.send(v, 1, request).await;
    let early = tokio::select! {
        _ = client.frame() => true,
        () = gate.wait_for_blocked_sync() => false,
    };
    if early {
        // Otherwise neither the broker nor waiters on the gate could end.
        gate.set(|state| (state.closed, state.waiting) = (false, 1));
        panic!("answered, and not on disk");
    }
    // An early answer would have arrived by then.
    for _ in 0..20 {
        find(other, "g", 0).await;
    }
    assert!(client.frame().now_or_never().is_none(), "answered, and not on disk");
    gate.set(|state| state.closed = false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_offset_is_on_disk() {
    let gate = Arc::new(Gate::default());
    let (running, _dir) = broker_on(gated(&gate), SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    find(&mut client, "g", 0).await;
    while commit_code(&client.ask(8, &commit(1)).await) != ErrorCode::NONE {}
    let mut late = Client::to(&running).await;
    waits_for_the_gate(&gate, [&mut client, &mut late], 8, &commit(2)).await;
    let (_, answer) = client.answer::<OffsetCommitRequest>(8).await;
    assert_eq!(commit_code(&answer), ErrorCode::NONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_disk_acknowledges_no_offset() {
    let gate = Arc::new(Gate::default());
    // The answer may come at its time-out only.
    let settings = [SETTINGS[0], ("offsets.commit.timeout.ms", "200")];
    let (running, _dir) = broker_on(gated(&gate), &settings).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    find(&mut client, "g", 0).await;
    while commit_code(&client.ask(8, &commit(1)).await) != ErrorCode::NONE {}
    gate.set(|state| state.broken = true);
    assert_ne!(commit_code(&client.ask(8, &commit(2)).await), ErrorCode::NONE);
    while !running.broker.replicas.logs().dirs()[0].offline {
        tokio::task::yield_now().await;
    }
}

/// A consumer that continues from an offset that a power cut takes back would miss records, or read them twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_that_another_is_told_is_on_disk() {
    let gate = Arc::new(Gate::default());
    let (running, _dir) = broker_on(gated(&gate), SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    find(&mut client, "g", 0).await;
    while commit_code(&client.ask(8, &commit(1)).await) != ErrorCode::NONE {}
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let one = OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let topic = OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let several = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    assert_eq!(client.ask(5, &one).await.topics[0].partitions[0].committed_offset, 1);

    gate.set(|state| state.closed = true);
    client.send(8, 1, &commit(2)).await;
    gate.wait_for_blocked_sync().await;
    let (mut first, mut second) = (Client::to(&running).await, Client::to(&running).await);
    let mut late = Client::to(&running).await;
    first.send(5, 1, &one).await;
    second.send(9, 1, &several).await;
    for _ in 0..20 {
        find(&mut late, "g", 0).await;
    }
    let early = [first.frame().now_or_never().is_some(), second.frame().now_or_never().is_some()];
    gate.set(|state| state.closed = false);
    assert_eq!(early, [false; 2], "told, and not on disk");
    let one = first.answer::<OffsetFetchRequest>(5).await.1;
    let several = second.answer::<OffsetFetchRequest>(9).await.1;
    assert_eq!(one.topics[0].partitions[0].committed_offset, 2);
    assert_eq!(several.groups[0].topics[0].partitions[0].committed_offset, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decided_transaction_is_on_disk() {
    let gate = Arc::new(Gate::default());
    let (running, _dir) = broker_on(gated(&gate), SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    find(&mut client, "tx", 1).await;
    let mut late = Client::to(&running).await;
    find(&mut late, "g", 0).await;
    let init = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    let mut producer = client.ask(5, &init).await;
    while producer.error_code.is_error() {
        producer = client.ask(5, &init).await;
    }
    let mut builder = BatchBuilder::new(Compression::None)
        .producer(producer.producer_id, producer.producer_epoch, 0)
        .transactional(true);
    builder.append(0, crate::test_support::now_ms(), Some(b"k"), Some(b"v"), &[]);
    let mut request = produce("t", -1);
    request.transactional_id = Some("tx".into());
    request.topic_data[0].partition_data[0].records = Some(builder.build().unwrap());
    let answer = client.ask(12, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    let end = EndTxnRequest {
        transactional_id: "tx".into(),
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
        committed: true,
    };
    waits_for_the_gate(&gate, [&mut client, &mut late], 5, &end).await;
    assert_eq!(client.answer::<EndTxnRequest>(5).await.1.error_code, ErrorCode::NONE);
}
