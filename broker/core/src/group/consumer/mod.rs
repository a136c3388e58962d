//! Consumer groups of the new protocol (KIP-848): members send one kind of heartbeat, and the coordinator assigns.
//!
//! A request is decided on a clone of the group (its maps are persistent, so that costs next to nothing): out come records,
//! an answer, and consequences that are in no record (timers). All are in force once the records are in the log:
//! [`ConsumerGroup::apply`] is the only mutation of a group, and serves loading too. An answer is given when its records
//! are committed.
//!
//! Epochs: the group's rises when members, subscriptions or topics change; the target assignment follows it; a member is
//! moved to the target's when it has revoked the partitions outside its target. `reconcile` ensures that a partition
//! never has two owners.

mod assignor;
mod classic;
mod draft;
mod embedded;
mod group;
mod hash;
mod heartbeat;
mod leave;
mod limits;
mod member;
mod migrate;
mod offsets;
mod reconcile;
mod regexes;
mod request;
mod shard;
mod state;
mod steps;
mod target;
#[cfg(test)]
mod tests;
mod timers;
mod view;

pub use assignor::Assignor;
pub(in crate::group) use embedded::subscribed_topics;
pub use group::{ConsumerGroup, ConsumerState, Resolved};
pub use limits::{Bounded, ConsumerLimits, MigrationPolicy};
pub use member::{ConsumerMember, LEFT, LEFT_FOR_A_WHILE, MemberState, Owned, Partitions};
pub use regexes::{check_regex, resolve_regexes};
pub use request::{HeartbeatReply, HeartbeatRequest, RegexJob};
pub use timers::Clock;
pub use view::{ConsumerDescription, ConsumerMemberDescription};

pub(super) use offsets::CommitCheck;
pub(super) use state::Consumers;
