//! Consumer groups, pure: what a group coordinator decides for one partition of `__consumer_offsets`.
//!
//! A [`GroupShard`] holds the groups and committed offsets of one partition. A request goes in with `now`, and out come
//! records to append and answers to give. It is a [`StateMachine`](crate::coordinator::StateMachine): loaded by replay, called
//! when records are applied or committed, and when a deadline passes. Parked joins and syncs are named by tokens.
//!
//! From the bottom: types (`record`, `request`, `member`, `classic`, `history`, `decision`), the state (`state`, and for consumer groups
//! `consumer::state`), what several requests lead to (`rebalance`, `consumer::draft`, `consumer::migrate`), one file a request, and the
//! state machine (`shard`). A file imports those below it.

mod classic;
mod committed_offset;
pub mod consumer;
mod decision;
mod expiry;
mod hash;
mod history;
mod join;
mod limits;
mod member;
mod offsets;
mod pending;
mod rebalance;
mod record;
mod request;
mod shard;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod txn_commit;
mod view;

pub use crate::coordinator::Token;
pub use classic::{ClassicGroup, State};
pub use committed_offset::Committed;
pub use decision::{Effects, Reply, Stored, Update};
pub use hash::{java_hash, partition_for};
pub use history::{Cause, DEFAULT_HISTORY, GroupEvent, Kind, Leaving, MemberInfo, Reason, Rebalance};
pub use limits::GroupLimits;
pub use member::{Member, Protocol};
pub use record::GroupRecord;
pub use request::{
    Identity, JoinReply, JoinRequest, LeaveReply, OffsetCommit, OffsetCommitRequest, OffsetSelection, SyncReply,
    SyncRequest,
};
pub use state::GroupShard;
pub use view::{GroupDescription, GroupOverview, GroupSummary, MemberDescription};
