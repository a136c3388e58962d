//! What the command line and `/v1` read of a cluster and change in it, over the `client` crate: one rule, and one form of JSON, for both.
//!
//! Its functions return boxed futures (`#[boxed]`): they are compiled here, not again in the command line and in the broker.
//!
//! Must never: print, parse arguments, or know HTTP.

mod cluster;
mod configs;
mod drain;
mod error;
mod group_offsets;
mod groups;
mod nodes;
mod observe;
mod offsets;
mod page;
mod quorum;
mod reassignments;
mod stop;
mod survey;
mod throttle;
mod topics;
mod transactions;

pub use cluster::{ClusterStatus, NodeStatus, read_cluster_status};
pub use configs::{ConfigChange, ConfigReport, ResourceKind, alter_configs, parse_resource, read_configs};
pub use drain::{DrainReport, begin_drain, read_drain};
pub use error::AdminError;
pub use group_offsets::{OutOfRange, SeekReport, SeekTarget, plan_seek};
pub use groups::{GroupOffset, GroupReport, GroupSummary, list_groups, read_group};
pub use nodes::{NodeReport, NodeSummary, check_registered, list_nodes, read_node, set_cordoned};
pub use observe::{assignments, sizes};
pub use offsets::{committed_offsets, existing_offsets};
pub use page::{Page, PartitionKey};
pub use quorum::{describe_quorum, log_end};
pub use reassignments::{ReassignmentReport, WaitsFor, cancel_reassignments, check_begun, list_reassignments, move_of};
pub use stop::{StopReport, stop_report};
pub use survey::Survey;
pub use throttle::{CopyLimits, clear_limits};
pub use topics::{
    PartitionDetail, PartitionReport, TopicDetail, TopicReport, TopicSummary, list_topics, read_partitions, read_topic,
    read_topic_detail,
};
pub use transactions::{
    TransactionReport, TransactionSummary, abort_transaction, describe_transaction, list_transactions,
};
