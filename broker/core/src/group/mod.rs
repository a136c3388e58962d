//! Consumer groups, pure: what a group coordinator decides for one partition of `__consumer_offsets`.
//!
//! A [`GroupShard`] holds the groups and committed offsets of one partition. A request goes in with `now`, and out come
//! records to append and answers to give. It is a [`StateMachine`](crate::coordinator::StateMachine): loaded by replay, told
//! when records are applied and committed, and that time passes. Parked joins and syncs are named by tokens.

mod classic;
pub mod consumer;
mod expiry;
mod hash;
mod history;
mod join;
mod member;
mod offsets;
mod pending;
mod rebalance;
mod shard;
mod sync;
#[cfg(test)]
mod tests;
mod txn_commit;
mod view;

pub use crate::coordinator::Token;
pub use classic::{ClassicGroup, State};
pub use hash::{java_hash, partition_for};
pub use history::{Cause, DEFAULT_HISTORY, GroupEvent, Kind, Leaving, Reason, Rebalance, Who};
pub use join::{JoinReply, JoinRequest};
pub use member::{Member, Protocol};
pub use offsets::{Committed, OffsetCommit, OffsetCommitRequest, OffsetWish};
pub use shard::{Effects, GroupLimits, GroupRecord, GroupShard, Reply, Stored, Update};
pub use sync::{Identity, LeaveReply, SyncReply, SyncRequest};
pub use view::{GroupDescription, GroupSummary, MemberDescription};
