//! The one map from the broker's errors to Kafka's error codes.
//!
//! Each match over an error enum is exhaustive, so that a new error needs a decision here. Handlers and coordinators never have a map of
//! their own; the rules in `esker-core` choose codes only where Kafka's protocol makes the code part of the rule.

use esker_protocol::error::ErrorCode;
use esker_storage::validate::RejectReason;
use esker_storage::{AppendError, LogError, ProducerError, ReadError};

use crate::cluster::ChangeVoterError;
use crate::controller::SubmitError;
use crate::replica::{AccessError, DeleteRecordsError, FetchError, MoveError, ProduceError};

/// An error that has a code of Kafka.
pub trait KafkaError {
    /// Kafka's code for the error.
    fn code(&self) -> ErrorCode;
}

impl KafkaError for AccessError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::UnknownTopicId => ErrorCode::UNKNOWN_TOPIC_ID,
            Self::InconsistentTopicId => ErrorCode::INCONSISTENT_TOPIC_ID,
            Self::NotLeader(_) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UNKNOWN_LEADER_EPOCH,
        }
    }
}

impl KafkaError for ChangeVoterError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code,
            // Clients do not see which node is the active controller. A change that may come later is as one that timed out.
            Self::NotController | Self::Unknown(_) => ErrorCode::REQUEST_TIMED_OUT,
            Self::Stopping => ErrorCode::BROKER_NOT_AVAILABLE,
        }
    }
}

impl KafkaError for ProduceError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Access(error) => error.code(),
            Self::InternalTopic(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            Self::InvalidAcks(_) => ErrorCode::INVALID_REQUIRED_ACKS,
            Self::NotInTransaction { code, .. } => *code,
            Self::NotEnoughReplicas { .. } => ErrorCode::NOT_ENOUGH_REPLICAS,
            Self::Rejected(rejected) => match rejected.reason {
                RejectReason::InvalidRecord(_) | RejectReason::MissingKey(_) => ErrorCode::INVALID_RECORD,
                RejectReason::Corrupt(_) | RejectReason::UnknownMagic(_) => ErrorCode::CORRUPT_MESSAGE,
                RejectReason::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
                RejectReason::InvalidTimestamp(_) => ErrorCode::INVALID_TIMESTAMP,
                RejectReason::UnsupportedCompression(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            },
            Self::Append(error) => error.code(),
            Self::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
            Self::NotFlushed => ErrorCode::KAFKA_STORAGE_ERROR,
            Self::NotEnoughReplicasAfterAppend => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        }
    }
}

/// The code for a coordinator's client whose request could not be written to the coordinator's partition, or was not committed there.
/// As in Kafka the code names the coordinator, not the partition: the client sent the request to a coordinator.
pub fn coordinator_code(error: &ProduceError) -> ErrorCode {
    match error {
        ProduceError::Access(AccessError::NotLeader(_)) | ProduceError::NotFlushed => ErrorCode::NOT_COORDINATOR,
        ProduceError::Access(AccessError::UnknownPartition)
        | ProduceError::NotEnoughReplicas { .. }
        | ProduceError::NotEnoughReplicasAfterAppend
        | ProduceError::TimedOut => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ProduceError::Append(error) => coordinator_append_code(error),
        ProduceError::Rejected(rejected) => match rejected.reason {
            RejectReason::TooLarge { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
            RejectReason::InvalidRecord(_)
            | RejectReason::MissingKey(_)
            | RejectReason::Corrupt(_)
            | RejectReason::UnknownMagic(_)
            | RejectReason::InvalidTimestamp(_)
            | RejectReason::UnsupportedCompression(_) => error.code(),
        },
        ProduceError::Access(
            AccessError::UnknownTopicId
            | AccessError::InconsistentTopicId
            | AccessError::FencedLeaderEpoch { .. }
            | AccessError::UnknownLeaderEpoch { .. },
        )
        | ProduceError::InternalTopic(_)
        | ProduceError::InvalidAcks(_)
        | ProduceError::NotInTransaction { .. } => error.code(),
    }
}

/// [`coordinator_code`] for an append that the log refused.
fn coordinator_append_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::LargerThanSegment { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
        AppendError::Offline { .. } | AppendError::File(_) => ErrorCode::NOT_COORDINATOR,
        // A full disk keeps its leaders, unlike in Kafka: another look-up would find the same coordinator.
        AppendError::DiskFull(_) => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        AppendError::Producer(_) | AppendError::OffsetsOutOfOrder { .. } | AppendError::Corrupt { .. } => error.code(),
    }
}

/// The code of a partition in a WriteTxnMarkers response when the group coordinator answered with `code`: as in Kafka transaction
/// coordinators retry NOT_LEADER_OR_FOLLOWER, and know no code of a group coordinator.
pub fn marker_code(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS | ErrorCode::NOT_COORDINATOR => {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        }
        code => code,
    }
}

/// The part of KIP-890 that the version of a request knows.
#[derive(Debug, Clone, Copy)]
pub struct TransactionSupport {
    /// The request adds its partitions to the transaction (transaction version 2).
    pub adds_partitions: bool,
    /// The client knows TRANSACTION_ABORTABLE.
    pub knows_abortable: bool,
}

/// The code of a partition in a Produce response when the transaction coordinator answered the verification with `code`. A temporary
/// error becomes NOT_ENOUGH_REPLICAS, as in Kafka: producers of every version retry it, without a refresh of their metadata.
pub fn produce_verification_code(code: ErrorCode, client: TransactionSupport) -> ErrorCode {
    match code {
        ErrorCode::CONCURRENT_TRANSACTIONS if !client.adds_partitions => ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::NETWORK_EXCEPTION => ErrorCode::NOT_ENOUGH_REPLICAS,
        code => transaction_code(code, client),
    }
}

/// The code of a TxnOffsetCommit when the transaction coordinator answered the verification with `code`. As in Kafka, NETWORK_EXCEPTION
/// becomes a code that clients of every version retry without another look-up of the group's coordinator.
pub fn commit_verification_code(code: ErrorCode, client: TransactionSupport) -> ErrorCode {
    match code {
        ErrorCode::NETWORK_EXCEPTION => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        code => transaction_code(code, client),
    }
}

/// A code of the transaction coordinator for a client that may know fewer codes.
fn transaction_code(code: ErrorCode, client: TransactionSupport) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if !client.knows_abortable => ErrorCode::INVALID_TXN_STATE,
        code => code,
    }
}

/// `code` for a client whose version of an API may be older than PRODUCER_FENCED, which came with version `first_with_code`.
pub fn producer_fenced_code(code: ErrorCode, version: i16, first_with_code: i16) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED if version < first_with_code => ErrorCode::INVALID_PRODUCER_EPOCH,
        code => code,
    }
}

impl KafkaError for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Producer(error) => error.code(),
            Self::LargerThanSegment { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
            Self::OffsetsOutOfOrder { .. } | Self::Corrupt { .. } => ErrorCode::CORRUPT_MESSAGE,
            // Retriable, as a failed log dir is not for good from a producer's point of view: space comes back.
            Self::DiskFull(_) | Self::Offline { .. } | Self::File(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}

impl KafkaError for ProducerError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            Self::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::InvalidTxnState { .. } | Self::NotVerified { .. } => ErrorCode::INVALID_TXN_STATE,
            Self::CoordinatorFenced { .. } => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
        }
    }
}

impl KafkaError for FetchError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Access(error) => error.code(),
            Self::Read(error) => error.code(),
            Self::UnsupportedCompression => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            Self::Conversion(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
            Self::UndefinedEpoch(_) => ErrorCode::OFFSET_OUT_OF_RANGE,
        }
    }
}

impl KafkaError for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::Corrupt { .. } | Self::Damaged { .. } => ErrorCode::CORRUPT_MESSAGE,
            Self::Closed | Self::File(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}

impl KafkaError for DeleteRecordsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Access(error) => error.code(),
            Self::Policy => ErrorCode::POLICY_VIOLATION,
            Self::InternalTopic => ErrorCode::INVALID_TOPIC_EXCEPTION,
            Self::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::Log(error) => error.code(),
        }
    }
}

impl KafkaError for MoveError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownDir(_) => ErrorCode::LOG_DIR_NOT_FOUND,
            Self::Cordoned(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            // As in Kafka: no leader is asked for, but a replica on this broker.
            Self::Access(AccessError::NotLeader(_)) => ErrorCode::REPLICA_NOT_AVAILABLE,
            Self::Access(error) => error.code(),
            Self::Log(error) => error.code(),
        }
    }
}

impl KafkaError for LogError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Offline { .. } | Self::File(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            Self::TopicIdMismatch { .. } => ErrorCode::INCONSISTENT_TOPIC_ID,
            Self::Unknown { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        }
    }
}

impl KafkaError for SubmitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable(_) | Self::Stopping | Self::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
            Self::NotController(_) => ErrorCode::NOT_CONTROLLER,
            Self::Encode(_) | Self::Fault(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_storage::validate::Rejected;

    use super::*;
    use crate::replica::LeaderHint;

    #[test]
    fn a_failed_write_of_a_coordinator_has_kafkas_code() {
        let not_leader = AccessError::NotLeader(LeaderHint { leader: 2, leader_epoch: 1 });
        let too_large = RejectReason::TooLarge { size: 2, max: 1 };
        let fenced = ProducerError::InvalidEpoch { producer_id: 1, epoch: 0, current: 1 };
        let cases = [
            (ProduceError::Access(not_leader), ErrorCode::NOT_COORDINATOR),
            (ProduceError::NotFlushed, ErrorCode::NOT_COORDINATOR),
            (ProduceError::TimedOut, ErrorCode::COORDINATOR_NOT_AVAILABLE),
            (ProduceError::NotEnoughReplicas { in_sync: 1, required: 2 }, ErrorCode::COORDINATOR_NOT_AVAILABLE),
            (ProduceError::NotEnoughReplicasAfterAppend, ErrorCode::COORDINATOR_NOT_AVAILABLE),
            (
                ProduceError::Rejected(Rejected { reason: too_large, record_errors: Vec::new() }),
                ErrorCode::UNKNOWN_SERVER_ERROR,
            ),
            (
                ProduceError::Append(AppendError::LargerThanSegment { size: 2, segment_bytes: 1 }),
                ErrorCode::UNKNOWN_SERVER_ERROR,
            ),
            (
                ProduceError::Append(AppendError::Offline { topic: "t".into(), partition: 0 }),
                ErrorCode::NOT_COORDINATOR,
            ),
            (ProduceError::Append(AppendError::Producer(fenced)), ErrorCode::INVALID_PRODUCER_EPOCH),
        ];
        for (error, code) in cases {
            assert_eq!(coordinator_code(&error), code, "{error}");
        }
    }

    #[test]
    fn a_move_needs_a_replica_on_this_broker() {
        let elsewhere = AccessError::NotLeader(LeaderHint { leader: 2, leader_epoch: 0 });
        assert_eq!(elsewhere.code(), ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(MoveError::Access(elsewhere).code(), ErrorCode::REPLICA_NOT_AVAILABLE);
        assert_eq!(MoveError::Access(AccessError::UnknownPartition).code(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }

    #[test]
    fn codes_of_another_coordinator_become_codes_that_the_caller_knows() {
        for code in
            [ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::NOT_COORDINATOR]
        {
            assert_eq!(marker_code(code), ErrorCode::NOT_LEADER_OR_FOLLOWER, "{code}");
        }
        assert_eq!(marker_code(ErrorCode::INVALID_PRODUCER_EPOCH), ErrorCode::INVALID_PRODUCER_EPOCH);

        let old = TransactionSupport { adds_partitions: false, knows_abortable: false };
        let new = TransactionSupport { adds_partitions: true, knows_abortable: true };
        let cases = [
            (ErrorCode::CONCURRENT_TRANSACTIONS, ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::CONCURRENT_TRANSACTIONS),
            (ErrorCode::NOT_COORDINATOR, ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::NOT_ENOUGH_REPLICAS),
            (ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH, ErrorCode::INVALID_PRODUCER_EPOCH),
            (ErrorCode::TRANSACTION_ABORTABLE, ErrorCode::INVALID_TXN_STATE, ErrorCode::TRANSACTION_ABORTABLE),
        ];
        for (code, for_old, for_new) in cases {
            assert_eq!(produce_verification_code(code, old), for_old, "{code}");
            assert_eq!(produce_verification_code(code, new), for_new, "{code}");
        }
        // Of a coordinator on another broker.
        let cases = [
            (ErrorCode::NETWORK_EXCEPTION, ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            (ErrorCode::NOT_COORDINATOR, ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::NOT_COORDINATOR),
            (
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ),
        ];
        for (code, for_produce, for_commit) in cases {
            assert_eq!(produce_verification_code(code, new), for_produce, "{code}");
            assert_eq!(commit_verification_code(code, new), for_commit, "{code}");
        }
    }
}
