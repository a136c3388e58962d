//! Requests to other brokers and what is made of their answers, without a network.

use esker_core::transaction::Producer;
use esker_protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use esker_protocol::messages::write_txn_markers::{WritableTxnMarkerPartitionResult, WritableTxnMarkerTopicResult};
use parking_lot::Mutex;

use super::*;
use crate::coordinator::peers::{PeerAnswer, PeerUnavailable};

type MarkerReply = Result<WriteTxnMarkersResponse, PeerUnavailable>;
type AddReply = Result<AddPartitionsToTxnResponse, PeerUnavailable>;

/// Another broker that answers as it was told, and keeps what it was sent.
#[derive(Debug, Default)]
struct Peer {
    markers: Mutex<Option<MarkerReply>>,
    additions: Mutex<Option<AddReply>>,
    sent_markers: Mutex<Vec<(i32, WriteMarkersRequest)>>,
    sent_additions: Mutex<Vec<(i32, AddPartitionsRequest)>>,
}

fn silent<R>(node_id: i32) -> Result<R, PeerUnavailable> {
    Err(PeerUnavailable { node_id, reason: "it is gone".to_owned() })
}

impl TransactionPeers for Peer {
    fn write_markers(
        &self,
        node_id: i32,
        request: WriteMarkersRequest,
        _: Vec<TraceContext>,
        _: Duration,
    ) -> PeerAnswer<WriteTxnMarkersResponse> {
        self.sent_markers.lock().push((node_id, request));
        let reply = self.markers.lock().take().unwrap_or_else(|| silent(node_id));
        async move { reply }.boxed()
    }

    fn add_partitions(
        &self,
        node_id: i32,
        request: AddPartitionsRequest,
        _: Vec<TraceContext>,
        _: Duration,
    ) -> PeerAnswer<AddPartitionsToTxnResponse> {
        self.sent_additions.lock().push((node_id, request));
        let reply = self.additions.lock().take().unwrap_or_else(|| silent(node_id));
        async move { reply }.boxed()
    }
}

fn write(producer_id: i64, topic: &'static str, partition: i32) -> MarkerWrite {
    let marker = Marker { producer_id, producer_epoch: 1, commit: true, coordinator_epoch: 3, version: 2 };
    MarkerWrite { marker, topic: topic.into(), partition, cause: None }
}

fn result(producer_id: i64, topics: &[(&'static str, &[(i32, ErrorCode)])]) -> WritableTxnMarkerResult {
    let topics = topics.iter().map(|(name, partitions)| WritableTxnMarkerTopicResult {
        name: (*name).into(),
        partitions: partitions
            .iter()
            .map(|(partition_index, error_code)| WritableTxnMarkerPartitionResult {
                partition_index: *partition_index,
                error_code: *error_code,
            })
            .collect(),
    });
    WritableTxnMarkerResult { producer_id, topics: topics.collect() }
}

#[tokio::test]
async fn markers_for_one_broker_travel_together_and_each_gets_its_own_code() {
    let peer = Arc::new(Peer::default());
    let remote = RemoteTransactions::new(Arc::clone(&peer) as _);
    *peer.markers.lock() = Some(Ok(WriteTxnMarkersResponse {
        markers: vec![
            result(7, &[("a", &[(0, ErrorCode::NONE), (1, ErrorCode::NOT_LEADER_OR_FOLLOWER)])]),
            // It names another partition than the request, and lacks one.
            result(8, &[("b", &[(5, ErrorCode::NONE)])]),
        ],
    }));
    let writes = [write(7, "a", 0), write(7, "a", 1), write(8, "b", 4), write(8, "c", 0)];
    let codes = writes.map(|write| remote.write_marker(2, write));
    let codes = futures_util::future::join_all(codes).await;
    let unconfirmed = ErrorCode::UNKNOWN_SERVER_ERROR;
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::NOT_LEADER_OR_FOLLOWER, unconfirmed, unconfirmed]);
    let sent = std::mem::take(&mut *peer.sent_markers.lock());
    let [(2, request)] = sent.as_slice() else { panic!("{sent:?}") };
    let of = |at: usize| {
        let marker = &request.markers[at];
        let topics = marker.topics.iter().map(|topic| (topic.name.to_string(), topic.partition_indexes.clone()));
        (marker.producer_id, marker.coordinator_epoch, marker.transaction_version, topics.collect::<Vec<_>>())
    };
    assert_eq!(of(0), (7, 3, 2, vec![("a".to_owned(), vec![0, 1])]));
    assert_eq!(of(1), (8, 3, 2, vec![("b".to_owned(), vec![4]), ("c".to_owned(), vec![0])]));
    assert_eq!(remote.write_marker(2, write(7, "a", 0)).await, ErrorCode::NETWORK_EXCEPTION, "it is silent");
}

fn request() -> AddRequest {
    let partitions = vec![("a".into(), 0), ("a".into(), 3), ("b".into(), 1)];
    AddRequest { id: "tx".into(), producer: Producer { id: 7, epoch: 2 }, partitions, client_version: 2 }
}

fn added(id: &'static str, codes: &[(&'static str, i32, ErrorCode)]) -> AddReply {
    let topic_results = codes.iter().map(|(topic, partition_index, partition_error_code)| {
        let partition = AddPartitionsToTxnPartitionResult {
            partition_index: *partition_index,
            partition_error_code: *partition_error_code,
        };
        AddPartitionsToTxnTopicResult { name: (*topic).into(), results_by_partition: vec![partition] }
    });
    let result = AddPartitionsToTxnResult { transactional_id: id.into(), topic_results: topic_results.collect() };
    Ok(AddPartitionsToTxnResponse { results_by_transaction: vec![result], ..AddPartitionsToTxnResponse::default() })
}

#[tokio::test]
async fn a_verification_gets_a_code_for_each_partition() {
    let peer = Arc::new(Peer::default());
    let remote = RemoteTransactions::new(Arc::clone(&peer) as _);
    // In another order than the request.
    let codes = [
        ("b", 1, ErrorCode::TRANSACTION_ABORTABLE),
        ("a", 3, ErrorCode::NONE),
        ("a", 0, ErrorCode::OPERATION_NOT_ATTEMPTED),
    ];
    *peer.additions.lock() = Some(added("tx", &codes));
    let codes = remote.verify(3, &request()).await.unwrap();
    assert_eq!(codes, [ErrorCode::NETWORK_EXCEPTION, ErrorCode::NONE, ErrorCode::TRANSACTION_ABORTABLE]);
    let (node_id, sent) = peer.sent_additions.lock().pop().unwrap();
    let transaction = &sent.transactions[0];
    assert_eq!(
        (node_id, transaction.verify_only, transaction.producer_id, transaction.producer_epoch),
        (3, true, 7, 2)
    );
    let topics: Vec<_> = transaction.topics.iter().map(|t| (t.name.to_string(), t.partitions.clone())).collect();
    assert_eq!(topics, [("a".to_owned(), vec![0, 3]), ("b".to_owned(), vec![1])]);
}

#[tokio::test]
async fn no_answer_is_no_addition() {
    let peer = Arc::new(Peer::default());
    let remote = RemoteTransactions::new(Arc::clone(&peer) as _);
    assert_eq!(remote.add(3, &request()).await, ErrorCode::NETWORK_EXCEPTION, "it is silent");
    *peer.additions.lock() = Some(added("another", &[("a", 0, ErrorCode::NONE)]));
    assert_eq!(remote.add(3, &request()).await, ErrorCode::NETWORK_EXCEPTION, "the answer is to another transaction");
    *peer.additions.lock() = Some(added("tx", &[("a", 0, ErrorCode::NONE), ("a", 3, ErrorCode::NONE)]));
    assert_eq!(remote.add(3, &request()).await, ErrorCode::NETWORK_EXCEPTION, "a partition is missing");
    let refused = AddPartitionsToTxnResponse { error_code: ErrorCode::NOT_COORDINATOR, ..Default::default() };
    *peer.additions.lock() = Some(Ok(refused));
    assert_eq!(remote.add(3, &request()).await, ErrorCode::NOT_COORDINATOR);
    let codes = [("a", 0, ErrorCode::NONE), ("a", 3, ErrorCode::NONE), ("b", 1, ErrorCode::NONE)];
    *peer.additions.lock() = Some(added("tx", &codes));
    assert_eq!(remote.add(3, &request()).await, ErrorCode::NONE);
    assert!(peer.sent_additions.lock().iter().all(|(_, sent)| !sent.transactions[0].verify_only));
}
