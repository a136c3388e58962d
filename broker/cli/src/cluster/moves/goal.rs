//! What a command is to reach.

use std::fmt;

use esker_client::admin::Reassignment;
use esker_core::plan::{Layout, Move, PlanError, plan_drain, plan_rebalance, plan_replacement};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// No replica is on the node.
    Drain(i32),
    /// As `Drain`, and the node leaves the cluster.
    Remove(i32),
    /// As `Drain`, and another node has the replicas.
    Replace {
        /// The node.
        node_id: i32,
        /// The other node.
        replacement: i32,
    },
    /// The brokers have equal load.
    Rebalance,
}

impl Goal {
    /// The node that is emptied.
    pub(super) fn emptied(self) -> Option<i32> {
        match self {
            Self::Drain(node_id) | Self::Remove(node_id) | Self::Replace { node_id, .. } => Some(node_id),
            Self::Rebalance => None,
        }
    }

    /// The moves that are left.
    pub(super) fn plan(self, layout: &Layout) -> Result<Vec<Move>, PlanError> {
        match self {
            Self::Drain(node_id) | Self::Remove(node_id) => plan_drain(layout, node_id),
            Self::Replace { node_id, replacement } => plan_replacement(layout, node_id, replacement),
            Self::Rebalance => Ok(plan_rebalance(layout)),
        }
    }

    /// Whether a reassignment in progress leads to it: an earlier run has begun it.
    pub(super) fn covers(self, found: &Reassignment) -> bool {
        self.emptied().is_none_or(|node_id| found.removing.contains(&node_id))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain(node_id) => write!(f, "drain {node_id}"),
            Self::Remove(node_id) => write!(f, "remove {node_id}"),
            Self::Replace { node_id, replacement } => write!(f, "replace {node_id} {replacement}"),
            Self::Rebalance => f.write_str("rebalance"),
        }
    }
}
