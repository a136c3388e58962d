//! What brokers send each other for transactions: private APIs with the content of Kafka's WriteTxnMarkers and AddPartitionsToTxn.
//!
//! The version of each request is that of Kafka's answer, because an answer is encoded in the version of its request. Must never: have a
//! field that a client could set through Kafka's own API.

use esker_protocol::Message;
use esker_protocol::messages::add_partitions_to_txn::{AddPartitionsToTxnResponse, AddPartitionsToTxnTransaction};
use esker_protocol::messages::write_txn_markers::{WritableTxnMarker, WriteTxnMarkersResponse};
use esker_protocol::primitives::Str;

/// A transaction coordinator has the leader of partitions write markers.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32030, kind = "request", versions = "2", flexible = "2+", response = WriteTxnMarkersResponse)]
pub struct WriteMarkersRequest {
    /// How long the leader may wait for the commit of the markers.
    pub timeout_ms: i32,
    /// As in WriteTxnMarkers.
    pub markers: Vec<WritableTxnMarker>,
    /// The trace that the request is part of, as in a `traceparent` header (W3C); empty for none.
    #[field(tag = 0, tagged = "2+")]
    pub traceparent: Str,
}

/// The leader of a partition has the transaction coordinator add the partition to a transaction, or verify that it was added (KIP-890).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32031, kind = "request", versions = "5", flexible = "5+", response = AddPartitionsToTxnResponse)]
pub struct AddPartitionsRequest {
    /// As in AddPartitionsToTxn.
    pub transactions: Vec<AddPartitionsToTxnTransaction>,
    /// The trace that the request is part of, as in a `traceparent` header (W3C); empty for none.
    #[field(tag = 0, tagged = "5+")]
    pub traceparent: Str,
}

#[cfg(test)]
mod tests {
    use esker_protocol::Request;
    use esker_protocol::messages::add_partitions_to_txn::AddPartitionsToTxnTopic;
    use esker_protocol::messages::write_txn_markers::WritableTxnMarkerTopic;
    use esker_protocol::primitives::{Reader, Writer};

    use super::*;

    fn assert_round_trip<R: Request + PartialEq>(request: &R, version: i16) {
        assert_eq!(R::VERSIONS, version..=version);
        let mut writer = Writer::new();
        request.encode(&mut writer, version).unwrap();
        let mut reader = Reader::new(writer.finish().into_bytes());
        assert_eq!(&R::decode(&mut reader, version).unwrap(), request);
    }

    #[test]
    fn requests_survive_the_wire() {
        let marker = WritableTxnMarker {
            producer_id: 7,
            producer_epoch: 3,
            transaction_result: true,
            topics: vec![WritableTxnMarkerTopic { name: "t".into(), partition_indexes: vec![0, 4] }],
            coordinator_epoch: 5,
            transaction_version: 2,
        };
        assert_round_trip(&WriteMarkersRequest { timeout_ms: 100, markers: vec![marker], traceparent: "t".into() }, 2);
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: "tx".into(),
            producer_id: 7,
            producer_epoch: 3,
            verify_only: true,
            topics: vec![AddPartitionsToTxnTopic { name: "t".into(), partitions: vec![0, 4] }],
        };
        assert_round_trip(&AddPartitionsRequest { transactions: vec![transaction], traceparent: "t".into() }, 5);
    }
}
