//! Producer state of one log: idempotence (KIP-98, KIP-185), open transactions, last stable offset.

use thiserror::Error;

/// Why a producer's batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProducerError {
    /// The epoch is older than the one seen last (Kafka: INVALID_PRODUCER_EPOCH).
    #[error("producer {producer_id} epoch {epoch} is older than its last epoch {current}")]
    InvalidEpoch {
        /// Producer id.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// Epoch of the state.
        current: i16,
    },
    /// The sequence does not follow on the last one (Kafka: OUT_OF_ORDER_SEQUENCE_NUMBER).
    #[error("producer {producer_id} epoch {epoch} sent sequence {first_sequence}, the last one was {last_sequence}")]
    OutOfOrderSequence {
        /// Producer id.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// First sequence of the batch.
        first_sequence: i32,
        /// Last sequence of the state, -1 if none.
        last_sequence: i32,
    },
    /// A non-transactional batch while a transaction is open (Kafka: INVALID_TXN_STATE).
    #[error(
        "producer {producer_id} has an open transaction since offset {first_offset} but sent a non-transactional batch"
    )]
    InvalidTxnState {
        /// Producer id.
        producer_id: i64,
        /// First offset of the open transaction.
        first_offset: i64,
    },
    /// A marker of an older coordinator (Kafka: TRANSACTION_COORDINATOR_FENCED).
    #[error("marker for producer {producer_id} has coordinator epoch {epoch}, {current} was seen already")]
    CoordinatorFenced {
        /// Producer id.
        producer_id: i64,
        /// Epoch in the marker.
        epoch: i32,
        /// Epoch of the state.
        current: i32,
    },
}
