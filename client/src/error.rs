//! The errors of this client. Each message names the remedy.

use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{DecodeError, EncodeError};
use esker_protocol::records::BatchError;
use thiserror::Error;

/// What can happen to one connection or one request on it.
#[derive(Debug, Clone, Error)]
pub enum ConnectionError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        reason: String,
    },
    /// Another broker, or one of another cluster, listens where this one was (KIP-1242).
    #[error(
        "{address} is no longer the broker that was meant, or belongs to another cluster: connect anew to go on with it"
    )]
    Misrouted {
        /// Where.
        address: String,
    },
    /// The connection ended before the answer came. The request may or may not have been carried out.
    #[error("the connection to {address} was lost: {reason}")]
    Lost {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// No answer in time; the connection was closed.
    #[error("{address} did not answer {api} within {after:?}")]
    Timeout {
        /// Where.
        address: String,
        /// Which request.
        api: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// Too many requests wait on the connection.
    #[error("too many requests are under way to {address}")]
    Busy {
        /// Where.
        address: String,
    },
    /// The broker does not serve a version of the API that this client knows.
    #[error("{address} does not serve {api} in a version that this client needs: is it too old, or no Kafka broker?")]
    Unsupported {
        /// Where.
        address: String,
        /// Which request.
        api: &'static str,
    },
    /// The answer does not read.
    #[error("{address} answered {api} with bytes that do not read: {source}")]
    Decode {
        /// Where.
        address: String,
        /// Which request.
        api: &'static str,
        /// What is wrong.
        source: DecodeError,
    },
    /// The request does not fit the version that the broker serves.
    #[error("{api} cannot be sent to {address}: {source}")]
    Encode {
        /// Where.
        address: String,
        /// Which request.
        api: &'static str,
        /// What is wrong.
        source: EncodeError,
    },
}

impl ConnectionError {
    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Misrouted { .. }
            | Self::Lost { .. }
            | Self::Timeout { .. }
            | Self::Busy { .. } => true,
            Self::Unsupported { .. } | Self::Decode { .. } | Self::Encode { .. } => false,
        }
    }
}

/// Why an operation of the client did not succeed.
#[derive(Debug, Clone, Error)]
pub enum Error {
    /// A connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// No broker could be reached at all.
    #[error("no broker answers at {addresses}: {reason}. Is one running there? `esker` starts one on 127.0.0.1:9092")]
    NoBroker {
        /// What was tried.
        addresses: String,
        /// The last failure.
        reason: String,
    },
    /// The brokers at the addresses belong to another cluster than before. A client never goes on with another cluster: what it has
    /// queued, and its offsets, are meant for the first one.
    #[error("the broker that answered belongs to cluster {found}, not to {meant}: connect anew to use it")]
    OtherCluster {
        /// The id of the cluster that the client connected to.
        meant: String,
        /// The id of the cluster that answered.
        found: String,
    },
    /// A broker refused.
    #[error("{what}: {}", refusal(*code, message.as_deref()))]
    Refused {
        /// The request.
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
    /// It was tried until the time was over.
    #[error("{what} did not succeed within {after:?}; the last failure: {last}")]
    TimedOut {
        /// What was tried.
        what: String,
        /// For how long.
        after: Duration,
        /// The last failure.
        last: Box<Error>,
    },
    /// Records that were fetched are damaged.
    #[error("{topic} partition {partition} at offset {offset}: {source}")]
    Corrupt {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The requested offset.
        offset: i64,
        /// What is wrong.
        source: BatchError,
    },
    /// A partition has no committed offset, or its offset is gone, and no reset is set.
    #[error(
        "{topic} partition {partition} has no offset {offset} to start from, and automatic reset is off: seek to an offset"
    )]
    NoOffset {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The offset that is not there, -1 for none.
        offset: i64,
    },
    /// Wrong use, in words.
    #[error("{0}")]
    Invalid(String),
    /// The producer or consumer was closed.
    #[error("it was closed")]
    Closed,
}

impl Error {
    /// A refusal.
    pub(crate) fn refused(what: impl Into<String>, code: ErrorCode, message: Option<&str>) -> Self {
        let message = message.filter(|m| !m.is_empty()).map(str::to_owned);
        Self::Refused { what: what.into(), code, message }
    }

    /// `Ok` for success, a refusal otherwise.
    pub(crate) fn check(what: impl FnOnce() -> String, code: ErrorCode, message: Option<&str>) -> Result<(), Self> {
        if code.is_error() { Err(Self::refused(what(), code, message)) } else { Ok(()) }
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connection(error) => error.is_retriable(),
            Self::NoBroker { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::OtherCluster { .. }
            | Self::TimedOut { .. }
            | Self::Corrupt { .. }
            | Self::NoOffset { .. }
            | Self::Invalid(_)
            | Self::Closed => false,
        }
    }

    /// Whether the broker that is meant is not in the cluster now (dead, stopped or not registered), or no connection to it could be made.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.is_absent() || matches!(self, Self::Connection(ConnectionError::Connect { .. }))
    }

    /// Whether the broker that is meant is not in the cluster now: dead, stopped or not registered.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { code: ErrorCode::BROKER_NOT_AVAILABLE, .. })
    }

    /// Kafka's code, where a broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::TimedOut { last, .. } => last.code(),
            _ => None,
        }
    }
}

pub(crate) fn refusal(code: ErrorCode, message: Option<&str>) -> String {
    let mut text = code.name().to_owned();
    if code.name() == "UNKNOWN" {
        text = format!("error {}", code.0);
    }
    if let Some(message) = message {
        text = format!("{} ({text})", message.trim_end_matches('.'));
    }
    let advice = advice(code);
    if advice.is_empty() { text } else { format!("{text}. {advice}") }
}

/// What a user can do about a code; empty where the code is clear.
#[must_use]
pub fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => "There is no such topic or partition: create it, or check the name",
        ErrorCode::TOPIC_ALREADY_EXISTS => "A topic of this name is there already",
        ErrorCode::INVALID_TOPIC_EXCEPTION => {
            "Topic names have 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-', and must not collide with internal ones"
        }
        ErrorCode::MESSAGE_TOO_LARGE => "Raise the topic's max.message.bytes, or send smaller records or batches",
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            "Fewer replicas are in sync than min.insync.replicas asks for: bring brokers back"
        }
        ErrorCode::INVALID_REPLICATION_FACTOR => "There must be as many brokers as replicas",
        ErrorCode::NON_EMPTY_GROUP => "Stop the group's members first",
        ErrorCode::GROUP_ID_NOT_FOUND => "There is no such group",
        ErrorCode::TRANSACTIONAL_ID_NOT_FOUND => "There is no such transactional id: `esker txn list` shows all",
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => "This user is not allowed to; ask for the permission",
        ErrorCode::INVALID_TIMESTAMP => {
            "The record's time is outside what the topic allows (message.timestamp.before.max.ms, message.timestamp.after.max.ms)"
        }
        ErrorCode::INVALID_RECORD => "The topic does not take such records; a compacted topic needs keys",
        ErrorCode::UNSUPPORTED_VERSION => "The broker is too old for this",
        ErrorCode::GROUP_MAX_SIZE_REACHED => "The group is full",
        ErrorCode::FENCED_INSTANCE_ID => "Another member with the same instance id took over",
        _ => "",
    }
}
