//! The side of the metadata log that observers pull from: brokers that are no members of the quorum.
//!
//! A member costs the leader tasks, timers and a place in each entry that names the members; a pull that waits costs a connection. An observer sends
//! the position up to which its log is committed; the leader answers with committed entries as an AppendEntries request, which the observer takes in
//! as if the leader had sent it. A pull without news waits for the next commit, for a change of the leader, or for its deadline. The entries of one
//! commit are encoded once for all that wait at the same position, and waiting pulls are released a few at a time, so that they do not delay
//! commits. What is answered is `esker_core::controller`'s rule (`decide_pull`). [`super::puller`] is the side of the observer.
//! Must never: send an entry that is not committed, or start a task for an observer.

mod encoded;
mod server;
mod waiters;
mod wire;

pub use server::ObserverStatus;
pub(super) use server::PullServer;
pub use wire::{MAX_PULL_WAIT, RaftPullRequest, RaftPullResponse, RaftPullSnapshotRequest, RaftPullSnapshotResponse};
