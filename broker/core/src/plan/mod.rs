//! Plans of reassignments: which replicas move when a broker is drained or replaced, or when the load of the brokers is rebalanced.
//!
//! A plan depends on the layout alone, so that a command which was interrupted goes on when it is run again: it plans what is left.
//!
//! Invariants of each plan: a partition keeps its number of replicas, on as many brokers; a replica moves only to a broker that is alive and
//! not cordoned; the replicas of a partition are in as many racks as before, where the brokers that are left allow it.

mod drain;
mod layout;
mod load;
mod rebalance;
mod removal;
#[cfg(test)]
mod tests;
mod throttle;
mod wave;

use esker_protocol::primitives::Str;
use thiserror::Error;

pub use drain::{plan_drain, plan_replacement};
pub use layout::{BrokerState, Layout, Move, PartitionState};
pub use load::{Load, loads};
pub use rebalance::plan_rebalance;
pub use removal::{NodeFacts, RemovalStep, next_removal_step};
pub use throttle::{ListChange, RateChange, ThrottleEntries, add_to_list, rate_at_end, remove_from_list};
pub use wave::{Assignment, Blocker, MoveState, find_blocker, move_state, next_wave};

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The cluster has no such broker.
    #[error("the cluster has no broker {broker}; its brokers are {}", list(known))]
    UnknownBroker {
        /// The broker.
        broker: i32,
        /// The brokers of the cluster.
        known: Vec<i32>,
    },
    /// A broker is to be replaced by itself.
    #[error("broker {0} cannot replace itself")]
    SameBroker(i32),
    /// The broker that is to take replicas is not alive.
    #[error("broker {0} is not alive: start it first")]
    NotAlive(i32),
    /// The broker that is to take replicas is cordoned.
    #[error("broker {0} is cordoned: run `esker cluster uncordon {0}` first")]
    Cordoned(i32),
    /// No broker is left for a replica.
    #[error(
        "{topic}-{partition} has {factor} replicas, and none of the brokers that are alive and not cordoned ({}) can take the one of broker {broker}: \
         add a broker, uncordon one, or lower the replication factor of the topic (partitions that are blocked: {blocked})",
        list(eligible)
    )]
    NoBrokerLeft {
        /// The first partition that is blocked.
        topic: Str,
        /// Its number.
        partition: i32,
        /// Its replicas.
        factor: usize,
        /// The broker that its replica is to leave.
        broker: i32,
        /// Brokers that may take replicas.
        eligible: Vec<i32>,
        /// How many partitions are blocked.
        blocked: usize,
    },
    /// The replacement is in a rack that has a replica already.
    #[error(
        "{topic}-{partition} would be in fewer racks on broker {replacement} (rack '{rack}'): replace broker {broker} by a broker of its own rack, or run \
         `esker cluster drain {broker}`, which takes brokers of all racks"
    )]
    FewerRacks {
        /// The first partition that would be in fewer racks.
        topic: Str,
        /// Its number.
        partition: i32,
        /// The broker that is replaced.
        broker: i32,
        /// The broker that was to replace it.
        replacement: i32,
        /// The rack of the replacement.
        rack: Str,
    },
}

fn list(brokers: &[i32]) -> String {
    match brokers {
        [] => "none".to_owned(),
        some => some.iter().map(i32::to_string).collect::<Vec<_>>().join(", "),
    }
}
