//! Listeners and connections.
//!
//! A listener accepts; each connection is one task of its own (see `connection`). What a connection may cost is bounded
//! here and there: how many there are, how large a request, how many in flight, how much unsent. A handler that panics
//! takes its own connection with it and nothing else.

mod accept;
mod answers;
mod close;
mod connection;
mod frame_error;
mod frames;
mod listener;
mod service;
#[cfg(test)]
mod tests;
mod transport;

pub use accept::{Admission, ServerScope};
pub use answers::Reply;
pub use close::CloseReason;
pub use connection::ConnectionLimits;
pub use frame_error::FrameError;
pub use listener::{BindError, Listeners};
pub use service::{ConnectionInfo, Incoming, Outcome, Service};
pub use transport::Transport;
