//! Listeners and connections.
//!
//! A listener accepts; each connection is one task of its own (see `connection`). What a connection may cost is bounded
//! here and there: how many there are, how large a request, how many in flight, how much unsent. A handler that panics
//! takes its own connection with it and nothing else.

mod answers;
mod close;
mod connection;
mod frame_error;
mod frames;
mod listener;
#[cfg(test)]
mod tests;
mod transport;

pub use answers::Reply;
pub use close::CloseReason;
pub use frame_error::FrameError;
pub use listener::{BindError, Listeners};
pub use transport::Transport;

use std::net::SocketAddr;
use std::sync::OnceLock;

use esker_protocol::primitives::Str;

/// What is known of a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The other end.
    pub peer: SocketAddr,
    /// The name of the listener it came in on, e.g. `PLAINTEXT`.
    pub listener: Str,
    /// Name and version of the client's software, once ApiVersions has told them (KIP-511).
    pub software: OnceLock<(Str, Str)>,
}
