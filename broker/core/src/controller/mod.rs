//! What the active controller decides: one file a request, each `decide(image, ..., request) -> records + answer`.
//!
//! Nothing here changes state: the records do, once they are committed. Randomness (topic ids, a seed for placement) and
//! what the broker was started with come in as arguments.

mod adopt;
mod alter_configs;
mod alter_partition;
mod balance;
mod checks;
mod create_partitions;
mod create_topics;
mod decision;
mod delete_topics;
mod directories;
mod elect_leaders;
mod elections;
mod features;
mod fence;
mod grow;
mod identity;
mod join;
mod lease;
mod min_isr;
mod observers;
mod partition_change;
mod peer_requests;
mod place;
mod producer_ids;
mod pull;
mod reassign;
mod recovery;
mod register;
mod request;
mod scram;
mod sessions;
mod shutdown;
#[cfg(test)]
mod tests;
mod unregister;
mod voters;
pub mod wire;

pub use adopt::{Adopted, FoundPartition, register_and_adopt};
pub use alter_configs::{ConfigChange, ConfigOp, ConfigOutcome, ConfigTarget, alter_configs};
pub use alter_partition::alter_partition;
pub use balance::{Balanced, balance_interval, balance_leaders, preferred_moves};
pub use create_partitions::create_partitions;
pub use create_topics::{CreateTopicsContext, create_topics};
pub use decision::{Decision, Refusal};
pub use delete_topics::delete_topics;
pub use directories::{assign_directory, fail_directories, is_misplaced};
pub use elect_leaders::elect_leaders;
pub use elections::{ElectionRules, is_online};
pub use features::{new_cluster_features, update_features};
pub use fence::{fence_broker, unfence_broker};
pub use grow::{grow_internal_topics, lacks_internal_replicas};
pub use identity::{
    MAX_NODES, MAX_UNREGISTERED, allocate_node_id, forget_removed_voter, may_allocate_ids, remove_voter_identity,
};
pub use join::{JoinRequest, join_broker};
pub use lease::Lease;
pub use min_isr::overridden_min_isr;
pub use observers::{Observer, Observers, ReceivedPull};
pub use peer_requests::{
    AllocateNodeId, AlterPartition, AssignDirectories, BalanceLeaders, FailDirectories, FenceBroker,
    ForgetRemovedVoter, GrowInternalTopics, JoinBroker, NodeConfigs, RemoveVoterIdentity, SettleMinIsr, ShutDownBroker,
    UnfenceBroker, UnregisterBroker,
};
pub use place::usable_brokers;
pub use producer_ids::{PRODUCER_ID_BLOCK, allocate_producer_ids};
pub use pull::{PullDecision, PullPosition, PulledLog, decide_pull};
pub use reassign::{alter_partition_reassignments, list_partition_reassignments};
pub use recovery::recover_metadata;
pub use register::{Registration, register_broker};
pub use request::{
    AllocateProducerIds, AlterConfigs, AlterPartitionReassignments, ControllerRequest, CreatePartitions, CreateTopics,
    DeleteTopics, ElectLeaders, InitializeFeatures, ReadMetadata, RegisterBroker, Reply, Request, TopicDefaults,
    UpdateFeatures, decide,
};
pub use scram::{alter_scram_credentials, describe_scram_credentials};
pub use sessions::{SessionTimes, Sessions};
pub use shutdown::shut_down_broker;
pub use unregister::unregister_broker;
pub use voters::{
    MemberChange, MemberKey, MemberRole, Quorum, QuorumMember, VoterRemoval, check_add_voter, check_remove_voter,
    folder_of, next_member_change,
};
