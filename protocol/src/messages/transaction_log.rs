//! The records of `__transaction_state`, byte for byte as Kafka writes them.
//!
//! A key begins with its version as an `i16`, and so does a value; a null value is a tombstone.

use bytes::Bytes;
use esker_protocol_derive::Message;

use super::internal::prefixed;
use crate::Message as _;
use crate::primitives::{DecodeError, EncodeError, Reader, Str};

/// Names a transactional id.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "none")]
pub struct TransactionLogKey {
    /// The transactional id.
    pub transactional_id: Str,
}

/// What is known of a transactional id.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "1+")]
pub struct TransactionLogValue {
    /// Producer id in use.
    pub producer_id: i64,
    /// Producer id used by the last transaction.
    #[field(versions = "1+", tag = 0, tagged = "1+", default = -1, ignorable)]
    pub previous_producer_id: i64,
    /// The id that the producer was given while the end of its last transaction is still being written.
    #[field(versions = "1+", tag = 1, tagged = "1+", default = -1, ignorable)]
    pub next_producer_id: i64,
    /// Epoch of the producer id.
    pub producer_epoch: i16,
    /// `transaction.timeout.ms` of the producer.
    pub transaction_timeout_ms: i32,
    /// Its state, by number.
    pub transaction_status: i8,
    /// The partitions of the transaction; null when it is empty.
    #[field(nullable = "0+")]
    pub transaction_partitions: Option<Vec<TransactionLogPartitions>>,
    /// When it was last changed, in ms.
    pub transaction_last_update_timestamp_ms: i64,
    /// When the transaction began, in ms; -1 if none did.
    pub transaction_start_timestamp_ms: i64,
    /// The transaction version that the client used.
    #[field(versions = "1+", tag = 2, tagged = "1+", default = 0, ignorable)]
    pub client_transaction_version: i16,
    /// The epoch that the next transaction is given (two-phase commit).
    #[field(versions = "1+", tag = 3, tagged = "1+", default = -1, ignorable)]
    pub next_producer_epoch: i16,
}

/// One element of `transaction_partitions` in [`TransactionLogValue`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TransactionLogPartitions {
    /// The topic.
    pub topic: Str,
    /// Its partitions.
    pub partition_ids: Vec<i32>,
}

impl TransactionLogKey {
    /// The key's bytes.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        prefixed(self, 0)
    }

    /// Reads a key; `None` if something later wrote it.
    pub fn from_bytes(bytes: Bytes) -> Result<Option<Self>, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.i16()? {
            0 => Self::decode(&mut r, 0).map(Some),
            _ => Ok(None),
        }
    }
}

impl TransactionLogValue {
    /// The value's bytes in a version: 1 needs `transaction.version` 1.
    pub fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        prefixed(self, version)
    }

    /// Reads a value.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        Self::decode(&mut r, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kafkas() {
        let key = TransactionLogKey { transactional_id: "tx".into() };
        assert_eq!(&key.to_bytes().unwrap()[..], b"\0\0\0\x02tx");
        let value = TransactionLogValue {
            producer_id: 5,
            producer_epoch: 1,
            transaction_timeout_ms: 60_000,
            transaction_status: 1,
            transaction_partitions: Some(vec![TransactionLogPartitions { topic: "t".into(), partition_ids: vec![3] }]),
            transaction_last_update_timestamp_ms: 7,
            transaction_start_timestamp_ms: 6,
            client_transaction_version: 2,
            ..TransactionLogValue::default()
        };
        let bytes = value.to_bytes(1).unwrap();
        let expected = b"\0\x01\0\0\0\0\0\0\0\x05\0\x01\0\0\xea\x60\x01\x02\x02t\x02\0\0\0\x03\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x06\x01\x02\x02\0\x02";
        assert_eq!(&bytes[..], expected);
        assert_eq!(TransactionLogValue::from_bytes(bytes).unwrap(), value);
        let old = value.to_bytes(0).unwrap();
        assert_eq!(TransactionLogValue::from_bytes(old).unwrap().client_transaction_version, 0);
        let empty = TransactionLogValue { transaction_partitions: None, ..value };
        assert_eq!(TransactionLogValue::from_bytes(empty.to_bytes(1).unwrap()).unwrap().transaction_partitions, None);
    }
}
