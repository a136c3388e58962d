//! The APIs of transactions, in every version.

use esker_protocol::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use esker_protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use esker_protocol::messages::describe_transactions::DescribeTransactionsRequest;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::list_transactions::ListTransactionsRequest;
use esker_protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use esker_protocol::messages::write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest};

use super::*;

pub(super) async fn ask_all(a: &mut Asker, id: Uuid) {
    let find = FindCoordinatorRequest { key: "tx".into(), key_type: 1, ..FindCoordinatorRequest::default() };
    while a.client.ask(1, &find).await.error_code.is_error() {}
    a.ask(|_| InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 1000,
        ..InitProducerIdRequest::default()
    })
    .await;
    let topics = || vec![AddPartitionsToTxnTopic { name: "t".into(), partitions: vec![0, 9] }];
    a.ask(|v| match v {
        ..=3 => AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "tx".into(),
            v3_and_below_topics: topics(),
            ..AddPartitionsToTxnRequest::default()
        },
        _ => AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: "tx".into(),
                verify_only: v == 5,
                topics: topics(),
                ..AddPartitionsToTxnTransaction::default()
            }],
            ..AddPartitionsToTxnRequest::default()
        },
    })
    .await;
    a.ask(|_| AddOffsetsToTxnRequest { transactional_id: "tx".into(), group_id: "g".into(), ..Default::default() })
        .await;
    a.ask(|v| {
        let name = if v >= 6 { ("".into(), id) } else { ("t".into(), Uuid::ZERO) };
        let partitions = vec![TxnOffsetCommitRequestPartition::default()];
        let topic = TxnOffsetCommitRequestTopic { name: name.0, topic_id: name.1, partitions };
        TxnOffsetCommitRequest {
            transactional_id: "tx".into(),
            group_id: "g".into(),
            topics: vec![topic],
            ..TxnOffsetCommitRequest::default()
        }
    })
    .await;
    a.ask(|_| EndTxnRequest { transactional_id: "tx".into(), ..EndTxnRequest::default() }).await;
    a.ask(|_| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: 4711,
            topics: vec![WritableTxnMarkerTopic { name: "t".into(), partition_indexes: vec![0, 9] }],
            ..WritableTxnMarker::default()
        }],
    })
    .await;
    a.ask(|_| DescribeTransactionsRequest { transactional_ids: vec!["tx".into(), "none".into()] }).await;
    a.ask(|v| ListTransactionsRequest {
        transactional_id_pattern: (v >= 2).then(|| "t.".into()),
        ..ListTransactionsRequest::default()
    })
    .await;
}
