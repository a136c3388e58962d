//! What can go wrong, with what to do about it.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{DecodeError, EncodeError};
use thiserror::Error;

/// Why a request did not succeed.
#[derive(Debug, Clone, Error)]
pub enum ClientError {
    /// No broker could be reached.
    #[error("cannot connect to {address}: {reason}; is a broker running there?")]
    Connect {
        /// Where.
        address: String,
        /// The system's answer.
        reason: String,
    },
    /// The connection was lost while an answer was awaited.
    #[error("the connection to {address} was lost")]
    Disconnected {
        /// Where.
        address: String,
    },
    /// No answer in time.
    #[error("no answer from {address} within {ms} ms")]
    TimedOut {
        /// Where.
        address: String,
        /// How long was waited.
        ms: u64,
    },
    /// The broker refused, in Kafka's words.
    #[error("{what}: {code}{}", message.as_ref().map(|m| format!(": {m}")).unwrap_or_default())]
    Broker {
        /// What was asked.
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's message.
        message: Option<String>,
    },
    /// The broker does not know the API, or no common version.
    #[error("the broker does not serve {0}")]
    Unsupported(&'static str),
    /// The request cannot be written.
    #[error("the request cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// The answer cannot be read.
    #[error("the answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Records that came cannot be read.
    #[error("records of {topic}-{partition} at offset {offset} cannot be read: {reason}")]
    Records {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where.
        offset: i64,
        /// Why.
        reason: String,
    },
    /// The producer or consumer was closed.
    #[error("closed")]
    Closed,
}

impl ClientError {
    /// A broker's refusal.
    pub fn broker(what: impl Into<String>, code: ErrorCode) -> Self {
        Self::Broker { what: what.into(), code, message: None }
    }

    /// Whether trying again may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } => true,
            Self::Broker { code, .. } => code.is_retriable(),
            Self::Unsupported(_) | Self::Encode(_) | Self::Decode(_) | Self::Records { .. } | Self::Closed => false,
        }
    }

    /// `Ok` for no error, else a refusal of `what`.
    pub fn check(what: &str, code: ErrorCode, message: Option<&str>) -> Result<(), Self> {
        if !code.is_error() {
            return Ok(());
        }
        let message = message.filter(|m| !m.is_empty()).map(str::to_owned);
        Err(Self::Broker { what: what.to_owned(), code, message })
    }
}
