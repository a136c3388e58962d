//! Why a record is not produced: the one error of `send`, of a delivery and of `flush`.

use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_protocol::records::BatchError;
use thiserror::Error;

use crate::error::{Error, refusal};

/// Why a record was not produced.
#[derive(Debug, Clone, Error)]
pub enum ProduceError {
    /// It is larger than the whole buffer.
    #[error("a record of {size} bytes does not fit into the producer's buffer of {limit} bytes: raise buffer_bytes")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The buffer's.
        limit: usize,
    },
    /// The buffer stayed full for too long: brokers take records more slowly than they are sent.
    #[error("the producer's buffer stayed full for {after:?}: send more slowly, or raise buffer_bytes or max_block")]
    BufferFull {
        /// How long was waited.
        after: Duration,
    },
    /// The topic has no such partition.
    #[error("topic '{topic}' has no partition {partition}; it has {count}, counted from 0")]
    NoPartition {
        /// Topic.
        topic: String,
        /// The requested partition.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// Not acknowledged in time. It may have been written.
    #[error("{topic} partition {partition} did not acknowledge within {after:?}; the last failure: {reason}")]
    Expired {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The delivery timeout.
        after: Duration,
        /// What failed last.
        reason: String,
    },
    /// The broker refused.
    #[error("{topic} partition {partition}: {}", refusal(*code, message.as_deref()))]
    Refused {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
    /// The batch could not be built.
    #[error("the batch cannot be built: {0}")]
    Batch(#[from] BatchError),
    /// The topic, or the cluster.
    #[error(transparent)]
    Client(#[from] Error),
    /// The producer was closed.
    #[error("the producer was closed")]
    Closed,
}

impl ProduceError {
    /// Kafka's code, where a broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Client(error) => error.code(),
            _ => None,
        }
    }
}
