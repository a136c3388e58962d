//! Transactions of version 2, each begun at once when the end of the one before is answered: its markers are written meanwhile.

use std::future::Future;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use esker_protocol::primitives::Str;
use esker_protocol::records::BatchBuilder;

use super::*;
use crate::serve::Running;

const PRODUCERS: i32 = 8;
const TRANSACTIONS: i32 = 100;

/// Retries until the answer's code is no longer a temporary one.
async fn until_it_holds<F: Future<Output = (ErrorCode, T)>, T>(what: &str, mut ask: impl FnMut() -> F) -> T {
    loop {
        match ask().await {
            (ErrorCode::NONE, answer) => return answer,
            (code, _) => assert!(code.is_retriable(), "{what}: {code:?}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn producer(client: Client, number: i32) {
    let client = &tokio::sync::Mutex::new(client);
    let id = Str::copy(&format!("back-to-back-{number}"));
    let init = InitProducerIdRequest {
        transactional_id: Some(id.clone()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    let (mut producer_id, mut producer_epoch) = until_it_holds("InitProducerId", || async {
        let answer = client.lock().await.ask(5, &init).await;
        (answer.error_code, (answer.producer_id, answer.producer_epoch))
    })
    .await;
    for _ in 0..TRANSACTIONS {
        let mut batch = BatchBuilder::new(esker_protocol::compression::Compression::None)
            .producer(producer_id, producer_epoch, 0)
            .transactional(true);
        batch.append(0, 1, None, Some(b"value"), &[]);
        let partition = PartitionProduceData { records: Some(batch.build().unwrap()), ..Default::default() };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![partition], ..Default::default() };
        let produce = ProduceRequest {
            transactional_id: Some(id.clone()),
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic],
        };
        until_it_holds("Produce", || async {
            let answer = client.lock().await.ask(12, &produce).await;
            (answer.responses[0].partition_responses[0].error_code, ())
        })
        .await;
        let topic = TxnOffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![TxnOffsetCommitRequestPartition::default()],
            ..Default::default()
        };
        let commit = TxnOffsetCommitRequest {
            transactional_id: id.clone(),
            group_id: "g".into(),
            producer_id,
            producer_epoch,
            topics: vec![topic],
            ..TxnOffsetCommitRequest::default()
        };
        until_it_holds("TxnOffsetCommit", || async {
            let answer = client.lock().await.ask(5, &commit).await;
            (answer.topics[0].partitions[0].error_code, ())
        })
        .await;
        let end = EndTxnRequest { transactional_id: id.clone(), producer_id, producer_epoch, committed: true };
        (producer_id, producer_epoch) = until_it_holds("EndTxn", || async {
            let answer = client.lock().await.ask(5, &end).await;
            (answer.error_code, (answer.producer_id, answer.producer_epoch))
        })
        .await;
    }
}

async fn wait_for_coordinators(client: &mut Client) {
    for (key, key_type) in [("g", 0), ("back-to-back-0", 1)] {
        let find = FindCoordinatorRequest { key: key.into(), key_type, ..FindCoordinatorRequest::default() };
        while client.ask(1, &find).await.error_code.is_error() {}
    }
}

async fn clients(running: &Running) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..PRODUCERS {
        clients.push(Client::to(running).await);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_of_the_transaction_before_does_not_refuse_the_next() {
    let (running, _dir) = broker(&[
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("log.durability", "page-cache"),
    ])
    .await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    wait_for_coordinators(&mut client).await;
    let producers = clients(&running).await.into_iter().zip(0..).map(|(client, number)| producer(client, number));
    futures_util::future::join_all(producers).await;
    running.stop().await.unwrap();
}
