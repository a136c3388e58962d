//! One runtime for all coordinators: it loads shards, appends what they decide, and answers when that is committed.
//!
//! A coordinator is a state machine ([`esker_core::coordinator`]) over a partition of an internal topic that this broker leads. A
//! request locks its shard, decides, appends, applies and leaves: the order of decisions is the order of records, and the
//! lock is held for microseconds and never across an await. Answers that depend on records wait for the high watermark
//! outside of the lock. One task a coordinator lets time pass.
//!
//! In a cluster the leader of the partition coordinates: a shard is loaded when its leadership begins, appends in that leader epoch alone, and is
//! dropped when the leadership ends. What a transaction needs of other brokers (markers in partitions that they lead, verification by the
//! coordinator that they are) goes through [`TransactionPeers`].
//!
//! Order of locks: a shard, then (by appending) its partition. No shard's lock is taken while another's is held.

mod batcher;
mod batches;
mod calls;
mod commit;
mod end_traces;
mod events;
mod group_coordinator;
mod location;
mod marker;
mod markers;
mod peers;
mod regexes;
mod remote;
mod replay;
mod routing;
mod runtime;
mod scope;
mod shard;
mod tasks;
#[cfg(test)]
mod tests;
mod transaction_coordinator;
mod transactions;

pub use calls::{CoordinatorError, Fetched, GroupLag};
pub use group_coordinator::{GroupConfig, GroupCoordinator};
pub use marker::Marker;
pub use markers::write_marker;
pub use peers::{PeerAnswer, PeerUnavailable, TransactionPeers};
pub use remote::RemoteTransactions;
pub use scope::CoordinatorScope;
pub use tasks::start;
pub use transaction_coordinator::TransactionCoordinator;
