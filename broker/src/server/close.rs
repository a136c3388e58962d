//! Why connections end: the text of the log line, and the label of the metric.

use std::io::ErrorKind;

use esker_protocol::api::ApiKey;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::DecodeError;
use thiserror::Error;

use super::frame_error::FrameError;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloseReason {
    /// The client hung up between requests.
    #[error("closed by the client")]
    ByClient,
    /// The client hung up in the middle of a request.
    #[error("closed by the client in the middle of a request")]
    HalfRequest,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(ErrorKind),
    /// No bytes arrived for `connections.max.idle.ms`.
    #[error("idle for longer than connections.max.idle.ms")]
    Idle,
    /// A request was read for too long while others waited for its memory.
    #[error("a request came too slowly while others waited for memory (queued.max.request.bytes)")]
    SlowRequest,
    /// The broker stops.
    #[error("the broker is stopping")]
    Stopping,
    /// No frame of Kafka's protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The request could not be read.
    #[error("malformed request{}: {}", .0.map(|key| format!(" ({key})")).unwrap_or_default(), .1)]
    Malformed(Option<ApiKey>, DecodeError),
    /// The API is not served here, or there is none of that key.
    #[error("{0} (API key {key}) is not served", key = .0.0)]
    UnknownApi(ApiKey),
    /// The API is not served in that version.
    #[error("{0} version {1} is not served")]
    UnsupportedVersion(ApiKey, i16),
    /// A request of a node on a connection that did not prove to be one.
    #[error("a request between nodes without a hello before it")]
    NoHello,
    /// A connection of a node whose hello did not come.
    #[error("a connection between nodes without a hello in time")]
    NoProof,
    /// A produce without acks failed; it has no answer that could carry the error.
    #[error("a produce with acks=0 failed: {0}")]
    ProduceWithoutAcks(ErrorCode),
    /// An answer could not be encoded in the requested version.
    #[error("the answer to {0} version {1} cannot be encoded")]
    Unencodable(ApiKey, i16),
    /// More connections than `max.connections`, `max.connections.per.ip` or the descriptors of this process.
    #[error("too many connections{0}")]
    TooMany(&'static str),
    /// A fault of this broker: a handler panicked.
    #[error("a fault of this broker: {0}")]
    Panic(String),
}

impl CloseReason {
    /// The label of the metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ByClient => "client",
            Self::HalfRequest => "half_request",
            Self::Io(_) => "io",
            Self::Idle => "idle",
            Self::SlowRequest => "slow_request",
            Self::Stopping => "stopping",
            Self::Frame(FrameError::Negative(_)) => "negative_size",
            Self::Frame(FrameError::TooLarge { .. } | FrameError::PeerTooLarge { .. }) => "too_large",
            Self::Frame(FrameError::Tls) => "tls",
            Self::Frame(FrameError::Http) => "http",
            Self::Malformed(..) => "malformed",
            Self::UnknownApi(_) => "unknown_api",
            Self::UnsupportedVersion(..) => "unsupported_version",
            Self::NoHello | Self::NoProof => "no_hello",
            Self::ProduceWithoutAcks(_) => "produce_without_acks",
            Self::Unencodable(..) => "unencodable",
            Self::TooMany(_) => "too_many",
            Self::Panic(_) => "panic",
        }
    }

    /// Whether the broker itself is to blame.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Panic(_) | Self::Unencodable(..))
    }

    /// Whether it is the client's doing and worth a line in the log.
    pub fn is_misuse(&self) -> bool {
        !matches!(self, Self::ByClient | Self::Io(_) | Self::Idle | Self::Stopping)
    }
}
