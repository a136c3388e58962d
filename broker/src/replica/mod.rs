//! The replicas of this broker: partitions with their logs and roles, and their pending requests.
//!
//! `manager` applies the metadata image to the partitions, `partition` is one of them, `read` reads one, `fetch` reads many for one
//! request, `purgatory` has the pending requests. The rules (when a record is committed, which replicas are in sync) are in
//! `esker_core::replication`.

mod cold_threads;
mod error;
mod fetch;
mod flusher;
mod follower;
mod foreground;
mod isr;
mod isr_requests;
mod manager;
mod moves;
mod partition;
mod purgatory;
mod quotas;
mod read;
mod role;
mod settings;
#[cfg(test)]
mod test_support;
mod watch;

pub use error::{AccessError, DeleteRecordsError, FetchError, FollowError, LeaderHint, ProduceError};
pub use fetch::{
    ColdGate, FetchLimits, Instead, ReadPass, ReadRequest, ReadyRequests, is_enough, read_cold, read_resident,
    wait_for_more, wait_for_ready,
};
pub use flusher::Flusher;
pub use follower::{FollowerFetchers, LeaderLink, LeaderLinks, LinkError};
pub use isr::{IsrManager, IsrProposer};
pub use isr_requests::IsrRequests;
pub use manager::{LeadershipChange, ReplicaManager, TopicRef, TopicReplicas};
pub use moves::{MoveError, MoveProgress, Moves, is_named};
pub use partition::{FollowerUpdate, Guarantee, Partition, PendingCommit, PendingDeletion, ReplicaFetch};
pub use purgatory::{CommitGate, ReadyList};
pub use quotas::{ReplicationQuota, ReplicationQuotas};
pub use read::{PartitionRead, ReadAt, ReadBound, ReadFrom};
pub use role::{Assignment, Follower, Leader, NoReplica, Role};
pub use settings::TopicSettings;
pub use watch::Watch;
