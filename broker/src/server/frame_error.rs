//! Why a stream cannot be cut into frames.
//!
//! A file of its own below `frames`, which reads a stream, and `close`, which reports why a connection ended.

use thiserror::Error;

/// Why a stream is no stream of Kafka requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("the request's length is negative ({0})")]
    Negative(i32),
    /// The length is over `socket.request.max.bytes`.
    #[error("the request has {size} bytes, socket.request.max.bytes is {limit}")]
    TooLarge {
        /// The size in the prefix.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The length is over what a request between nodes may have.
    #[error("the request of API key {key} has {size} bytes, and from this sender it may have {limit}")]
    PeerTooLarge {
        /// The API.
        key: i16,
        /// The size in the prefix.
        size: usize,
        /// What is allowed: little before the hello, and after it what the API needs.
        limit: usize,
    },
    /// It begins as a TLS handshake does.
    #[error(
        "this is a TLS handshake, but the listener speaks plaintext: set security.protocol=PLAINTEXT in the client"
    )]
    Tls,
    /// It begins as an HTTP request does.
    #[error("this is an HTTP request, but the port speaks Kafka's protocol: metrics are on the HTTP port")]
    Http,
}
