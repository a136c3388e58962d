//! The role of this broker in a partition, as the metadata image gives it. A value: it is replaced whole.

use std::sync::Arc;

use super::error::{AccessError, LeaderHint};
use super::settings::TopicSettings;

/// What the metadata image says of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Node id of the leader, -1 for none.
    pub leader: i32,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// Replicas, in order of preference.
    pub replicas: Vec<i32>,
    /// Replicas in sync.
    pub isr: Vec<i32>,
}

/// The role of this broker in a partition, immutable; replaced whole when the image or the topic's config changes.
#[derive(Debug)]
pub struct Role {
    /// From the image.
    pub assignment: Assignment,
    /// This broker leads.
    pub leads: bool,
    /// The topic was deleted: what still holds the partition finds it gone.
    pub deleted: bool,
    /// The topic's configuration, resolved.
    pub settings: Arc<TopicSettings>,
}

impl Role {
    fn hint(&self) -> LeaderHint {
        LeaderHint { leader: self.assignment.leader, leader_epoch: self.assignment.leader_epoch }
    }

    /// Why a request for the leader is refused here.
    pub(super) fn not_leading(&self) -> AccessError {
        if self.deleted { AccessError::UnknownPartition } else { AccessError::NotLeader(self.hint()) }
    }

    /// `min.insync.replicas`, capped at the number of replicas.
    pub(super) fn min_in_sync(&self) -> usize {
        self.settings.min_insync_replicas.min(self.assignment.replicas.len().max(1))
    }

    /// Refuses a client's leader epoch that is not the current one (`-1`: it names none), and any request where this broker does not
    /// lead.
    pub(super) fn check_epoch(&self, requested: i32) -> Result<(), AccessError> {
        if self.deleted {
            return Err(AccessError::UnknownPartition);
        }
        let current = self.hint();
        if requested >= 0 && requested < current.leader_epoch {
            return Err(AccessError::FencedLeaderEpoch { requested, current });
        }
        if requested > current.leader_epoch {
            return Err(AccessError::UnknownLeaderEpoch { requested, current });
        }
        if !self.leads {
            return Err(self.not_leading());
        }
        Ok(())
    }
}
