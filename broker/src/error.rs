//! The one map from what goes wrong inside to Kafka's error codes. Exhaustive on purpose: a new error needs a decision here.

use esker_protocol::error::ErrorCode;
use esker_storage::validate::RejectReason;
use esker_storage::{AppendError, LogError, ProducerError, ReadError};

use crate::controller::SubmitError;
use crate::replica::{AccessError, DeleteRecordsError, FetchError, MoveError, ProduceError};

/// An error that clients are told by code.
pub trait KafkaError {
    /// Kafka's code for it.
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

impl KafkaError for ProduceError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Access(error) => error.code(),
            Self::InternalTopic(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            Self::InvalidAcks(_) => ErrorCode::INVALID_REQUIRED_ACKS,
            Self::NotInTransaction { code, .. } => *code,
            Self::NotEnoughReplicas { .. } => ErrorCode::NOT_ENOUGH_REPLICAS,
            Self::Rejected(rejected) => match rejected.reason {
                RejectReason::InvalidRecord(_) => ErrorCode::INVALID_RECORD,
                RejectReason::Corrupt(_) => ErrorCode::CORRUPT_MESSAGE,
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
