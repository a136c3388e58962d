//! The health of a node and of its cluster, as operators ask for it: what keeps a node from serving, whether it may be stopped, and how many
//! partitions lack replicas.
//!
//! Each is a function of a state that the caller gathers. Must never: decide anything that the controller decides.

mod counts;
mod service;
mod start;
mod stop;

pub use counts::{ClusterCounts, ElectionCounts, count_cluster, count_elections};
pub use service::{ControllerContact, ServiceState, obstacle};
pub use start::{Done, StartStep, describe_start};
pub use stop::{AffectedPartition, QuorumEffect, ReplicaSet, StopAssessment, StopEffect, assess_stop, assess_stop_of};
