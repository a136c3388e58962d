//! Listeners and connections.
//!
//! A listener accepts; each connection is one task of its own (see `connection`). What a connection may cost is bounded
//! here and there: how many there are, how large a request, how many in flight, how much unsent, and the requests of all together. A handler that panics
//! takes its own connection with it and nothing else.

mod accept;
mod admission;
mod answers;
mod close;
mod connection;
mod frame_error;
mod frames;
mod listener;
mod memory;
mod scope;
mod service;
#[cfg(test)]
mod tests;
mod transport;

pub use answers::Reply;
pub use close::CloseReason;
pub use frame_error::FrameError;
pub use listener::{BindError, Listeners};
pub use memory::RequestMemory;
pub use scope::{Admission, ConnectionLimits, NodeLanes, Patience, PeerLimits, ServerScope};
pub use service::{ConnectionInfo, Incoming, Outcome, Service};
pub use transport::Transport;
