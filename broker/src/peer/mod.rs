//! Connections to the other nodes of the cluster: who they are, and requests to them with a deadline.
//!
//! A connection stands for one purpose ([`Lane`]): answers come in the order of the requests, so that a fetch that waits for records must not
//! delay a vote. It begins with a hello by which each side proves its identity (cluster, node id, metadata folder, incarnation): what answers on
//! an old address is never taken for the node that was there. Must never: send a request without a deadline, or know what a
//! message does.

mod identity;
mod link;
pub mod messages;
mod traced;
mod traffic;

pub use identity::{LocalNode, PeerId};
pub use link::{Lane, PeerError, PeerLink, ask};
pub use traced::TracedRequest;
