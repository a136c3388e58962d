//! Transactions through a whole broker: what only the shell can get wrong.

mod decisions;
mod leadership;

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_transactions::DescribeTransactionsRequest;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::messages::transaction_log::{TransactionLogKey, TransactionLogPartitions, TransactionLogValue};
use esker_protocol::records::{BatchBuilder, Batches};
use esker_storage::Origin;

use crate::replica::TopicRef;
use crate::serve::Running;
use crate::test_support::now_ms;
use crate::test_support::{Client, broker, create_topic_with};

const SETTINGS: &[(&str, &str)] = &[("transaction.state.log.num.partitions", "1")];

async fn init(client: &mut Client, id: &'static str) -> InitProducerIdResponse {
    let find = FindCoordinatorRequest { key: id.into(), key_type: 1, ..FindCoordinatorRequest::default() };
    while client.ask(1, &find).await.error_code.is_error() {}
    let init = InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    loop {
        let answer = client.ask(5, &init).await;
        match answer.error_code {
            ErrorCode::NONE => return answer,
            // Leadership has come, and the shard is being loaded.
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {}
            code => panic!("{code}"),
        }
    }
}

fn batch(producer: &InitProducerIdResponse, sequence: i32) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None)
        .producer(producer.producer_id, producer.producer_epoch, sequence)
        .transactional(true);
    // Markers are of today: with older records they would come to lie in a segment of their own.
    batch.append(0, now_ms(), None, Some(format!("{sequence}").as_bytes()), &[]);
    batch.build().unwrap()
}

fn produce(id: &'static str, topic: &'static str, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { records: Some(records), ..PartitionProduceData::default() };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![partition], ..TopicProduceData::default() };
    ProduceRequest { transactional_id: Some(id.into()), acks: -1, timeout_ms: 60_000, topic_data: vec![topic] }
}

fn end(id: &'static str, producer: &InitProducerIdResponse, committed: bool) -> EndTxnRequest {
    EndTxnRequest {
        transactional_id: id.into(),
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
        committed,
    }
}

async fn state(client: &mut Client, id: &'static str) -> String {
    let describe = DescribeTransactionsRequest { transactional_ids: vec![id.into()] };
    client.ask(0, &describe).await.transaction_states[0].transaction_state.to_string()
}

/// Values that a read-committed consumer sees: aborted ones and markers left out, as clients do.
async fn committed(client: &mut Client, topic: &'static str) -> Vec<String> {
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![partition], ..FetchTopic::default() };
    let request =
        FetchRequest { max_bytes: 1 << 20, isolation_level: 1, topics: vec![topic], ..FetchRequest::default() };
    let mut data = client.ask(11, &request).await.responses.remove(0).partitions.remove(0);
    let mut aborted: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for one in data.aborted_transactions.take().unwrap() {
        aborted.entry(one.producer_id).or_default().push(one.first_offset);
    }
    let (mut open, mut seen) = (BTreeMap::new(), Vec::new());
    for batch in Batches::new(data.records.unwrap_or_default()).map(Result::unwrap) {
        let producer = batch.header.producer_id;
        if batch.header.attributes.is_control() {
            open.remove(&producer);
            continue;
        }
        if aborted.get(&producer).is_some_and(|starts| starts.contains(&batch.header.base_offset)) {
            open.insert(producer, ());
        }
        if !open.contains_key(&producer) {
            let values = batch.records(1 << 20).unwrap().map(|r| r.unwrap().value.unwrap());
            seen.extend(values.map(|value| String::from_utf8(value.to_vec()).unwrap()));
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_keep_their_order_while_the_coordinator_is_asked() {
    // The first batch of a round waits for the markers of the round before: a slow disk is no failure.
    let settings = [SETTINGS[0], ("add.partitions.to.txn.retry.backoff.max.ms", "60000")];
    let (running, _dir) = broker(&settings).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    let mut producer = init(&mut client, "tx").await;
    for round in 0..5 {
        // None waits for the answer to the one before; only the first begins the transaction.
        for sequence in 0..20 {
            client.send(12, sequence, &produce("tx", "t", batch(&producer, sequence))).await;
        }
        for sequence in 0..20 {
            let (id, answer) = client.answer::<ProduceRequest>(12).await;
            let partition = &answer.responses[0].partition_responses[0];
            assert_eq!((id, partition.error_code), (sequence, ErrorCode::NONE), "round {round}");
            assert_eq!(partition.base_offset, i64::from(round * 21 + sequence));
        }
        let ended = client.ask(5, &end("tx", &producer, true)).await;
        assert_eq!(ended.error_code, ErrorCode::NONE);
        producer.producer_epoch = ended.producer_epoch;
    }
    while state(&mut client, "tx").await != "CompleteCommit" {}
    assert_eq!(committed(&mut client, "t").await.len(), 100);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_whole_transactions_or_nothing() {
    let (running, _dir) = broker(SETTINGS).await;
    let mut client = Client::to(&running).await;
    create_topic_with(&mut client, "t", &[]).await;
    let (one, two) = (init(&mut client, "one").await, init(&mut client, "two").await);
    for sequence in 0..3 {
        for (id, producer) in [("one", &one), ("two", &two)] {
            let answer = client.ask(12, &produce(id, "t", batch(producer, sequence))).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
        }
    }
    assert!(committed(&mut client, "t").await.is_empty());
    client.ask(5, &end("two", &two, true)).await;
    while state(&mut client, "two").await != "CompleteCommit" {}
    assert!(committed(&mut client, "t").await.is_empty(), "the first is open still");
    client.ask(5, &end("one", &one, false)).await;
    while state(&mut client, "one").await != "CompleteAbort" {}
    assert_eq!(committed(&mut client, "t").await, ["0", "1", "2"]);
    running.stop().await.unwrap();
}

/// Puts a decision into the coordinator's log whose markers no task writes, as a broker leaves it that is killed just then.
fn decide(running: &Running, id: &'static str, producer: &InitProducerIdResponse, status: i8) {
    let key = TransactionLogKey { transactional_id: id.into() }.to_bytes().unwrap();
    let value = TransactionLogValue {
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch + 1,
        transaction_timeout_ms: 60_000,
        transaction_status: status,
        transaction_partitions: Some(vec![TransactionLogPartitions { topic: "t".into(), partition_ids: vec![0] }]),
        client_transaction_version: 2,
        ..TransactionLogValue::default()
    };
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(0, 1, Some(&key), Some(&value.to_bytes(1).unwrap()), &[]);
    let bytes = batch.build().unwrap();
    let header = esker_protocol::records::BatchHeader::parse(&bytes).unwrap();
    let log = running.broker.replicas.partition(&TopicRef::by_name(&"__transaction_state".into()), 0).unwrap();
    log.append(&header, &bytes, Origin::Coordinator { transaction_v2: false }, true, 1).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_before_a_restart_is_brought_to_its_end() {
    for (status, expected, seen) in [(2, "CompleteCommit", 1), (3, "CompleteAbort", 0)] {
        let (running, dir) = broker(SETTINGS).await;
        let mut client = Client::to(&running).await;
        create_topic_with(&mut client, "t", &[]).await;
        let producer = init(&mut client, "tx").await;
        let answer = client.ask(12, &produce("tx", "t", batch(&producer, 0))).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
        decide(&running, "tx", &producer, status);
        running.stop().await.unwrap();
        let settings = [("log.dirs", dir.path().to_str().unwrap()), SETTINGS[0]];
        let (running, _other) = broker(&settings).await;
        let mut client = Client::to(&running).await;
        while state(&mut client, "tx").await != expected {}
        assert_eq!(committed(&mut client, "t").await.len(), seen, "{expected}");
        running.stop().await.unwrap();
    }
}
