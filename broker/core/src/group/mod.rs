//! Consumer groups, pure: what a group coordinator decides for one partition of `__consumer_offsets`.
//!
//! A [`GroupShard`] holds the groups and committed offsets of one partition. A request goes in with `now`, and out come
//! records to append and answers to give. An answer that depends on records is given when they are committed: the shell
//! appends, waits, and then calls [`GroupShard::committed`] or [`GroupShard::apply_offsets`]. Parked joins and syncs are
//! named by tokens. Time passes by [`GroupShard::tick`]; [`GroupShard::next_deadline`] says when it must be called.
//!
//! Loading is [`GroupShard::replay`] of every record; then [`GroupShard::loaded`].

mod classic;
mod expiry;
mod hash;
mod join;
mod member;
mod offsets;
mod rebalance;
mod shard;
mod sync;
#[cfg(test)]
mod tests;
mod view;

pub use classic::{ClassicGroup, State};
pub use hash::{java_hash, partition_for};
pub use join::{JoinReply, JoinRequest};
pub use member::{Member, Protocol};
pub use offsets::{Committed, OffsetCommit, OffsetCommitRequest, OffsetWish};
pub use shard::{Effects, GroupLimits, GroupRecord, GroupShard, Reply, Stored, Token};
pub use sync::{Identity, LeaveReply, SyncReply, SyncRequest};
pub use view::{GroupDescription, GroupSummary, MemberDescription};
