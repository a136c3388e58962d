//! Requests by which the nodes of the cluster, not its clients, change the metadata: brokers join, leave and report, leaders propose in-sync
//! replicas, and the active controller fences.
//!
//! Each holds what its decision needs, as all requests do (see [`super::request`]); the one exception is [`JoinBroker::alive`], which the
//! active controller alone knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use esker_protocol::primitives::Uuid;

use super::alter_configs::change_partitions;
use super::alter_partition::alter_partition;
use super::balance::{Balanced, balance_leaders};
use super::decision::{Decision, Refusal};
use super::directories::{assign_directory, fail_directories};
use super::elections::ElectionRules;
use super::fence::{fence_broker, unfence_broker};
use super::grow::grow_internal_topics;
use super::identity::{allocate_node_id, forget_removed_voter, remove_voter_identity, reserve};
use super::join::{JoinRequest, join_broker};
use super::min_isr::settle_min_isr;
use super::shutdown::shut_down_broker;
use super::unregister::unregister_broker;
use crate::config::Statics;
use crate::metadata::{MetadataImage, PartitionId};

/// The configs of the node that made a request: elections depend on them where a topic sets none.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfigs {
    /// The node.
    pub node_id: i32,
    /// What it was started with.
    pub statics: Arc<Statics>,
}

impl NodeConfigs {
    fn rules(&self) -> ElectionRules<'_> {
        ElectionRules { node_id: self.node_id, statics: &self.statics }
    }
}

/// A broker joins a cluster of several, or comes back: it is fenced until it has caught up. The answer is its broker epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinBroker {
    /// The broker's registration.
    pub join: JoinRequest,
    /// `directory.id` of its metadata folder: the node id must be that folder's.
    pub directory: Uuid,
    /// The configs of the broker.
    pub configs: NodeConfigs,
    /// The incarnation that is registered has a session. The active controller sets it ([`super::Request::set_alive`]); it does not travel, and a
    /// request that was received has `true`, so that a controller that forgets it refuses rather than admits.
    pub alive: bool,
}

/// The session of a broker ended. The answer is whether that changes anything.
#[derive(Debug, Clone, PartialEq)]
pub struct FenceBroker {
    /// The broker.
    pub node_id: i32,
    /// Its epoch.
    pub epoch: i64,
    /// The configs of the active controller.
    pub configs: NodeConfigs,
}

/// A fenced broker has caught up with the metadata log. The answer is whether it is unfenced.
#[derive(Debug, Clone, PartialEq)]
pub struct UnfenceBroker {
    /// The broker.
    pub node_id: i32,
    /// Its epoch.
    pub epoch: i64,
    /// The offset up to which it has applied the log.
    pub applied: u64,
    /// The configs of the active controller.
    pub configs: NodeConfigs,
}

/// A broker begins or continues its controlled shutdown. The answer is the number of partitions that this leaves without a leader.
#[derive(Debug, Clone, PartialEq)]
pub struct ShutDownBroker {
    /// The broker.
    pub node_id: i32,
    /// Its epoch.
    pub epoch: i64,
    /// The configs of the broker.
    pub configs: NodeConfigs,
}

/// UnregisterBroker: a broker leaves the cluster for good.
#[derive(Debug, Clone, PartialEq)]
pub struct UnregisterBroker {
    /// The broker.
    pub node_id: i32,
    /// The configs of the node that received the request.
    pub configs: NodeConfigs,
}

/// AlterPartition: a leader proposes in-sync replicas, in the form of version 3 or later (`new_isr_with_epochs`).
#[derive(Debug, Clone, PartialEq)]
pub struct AlterPartition {
    /// The leader's request.
    pub request: AlterPartitionRequest,
    /// The configs of the leader.
    pub configs: NodeConfigs,
}

/// A broker reports the log dirs of replicas. One answer each, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignDirectories {
    /// The broker.
    pub node_id: i32,
    /// Its epoch.
    pub epoch: i64,
    /// Partitions and the log dir of their replica; a partition stands once.
    pub replicas: Vec<(PartitionId, Uuid)>,
    /// The configs of the broker.
    pub configs: NodeConfigs,
}

/// A broker reports log dirs that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct FailDirectories {
    /// The broker.
    pub node_id: i32,
    /// Its epoch.
    pub epoch: i64,
    /// The log dirs.
    pub failed: Vec<Uuid>,
    /// The configs of the broker.
    pub configs: NodeConfigs,
}

/// A node that joins asks for its id. The answer is the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocateNodeId {
    /// The id that the node is configured to have.
    pub wanted: Option<i32>,
    /// `directory.id` of its metadata folder.
    pub directory: Uuid,
    /// Reservations that may end if there are too many: the active controller has seen nothing of their nodes for long. It decides by what it
    /// has seen itself, so they are never sent.
    pub abandoned: Vec<(i32, Uuid)>,
}

/// A controller is removed from the voters, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoveVoterIdentity {
    /// The node.
    pub node_id: i32,
    /// `directory.id` of its metadata folder.
    pub directory: Uuid,
}

/// A removed controller may be added to the voters again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgetRemovedVoter {
    /// `directory.id` of its metadata folder.
    pub directory: Uuid,
}

/// Preferred replicas lead again, a few at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct BalanceLeaders {
    /// Leaderships that move at most.
    pub limit: u32,
    /// The configs of the active controller.
    pub configs: NodeConfigs,
}

/// The topics of coordinators get more replicas, a few partitions at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct GrowInternalTopics {
    /// Partitions that are being reassigned at most.
    pub limit: u32,
    /// The configs of the active controller.
    pub configs: NodeConfigs,
}

/// The cluster has a `min.insync.replicas`, and no broker one of its own. Decided whenever a controller begins to lead.
#[derive(Debug, Clone, PartialEq)]
pub struct SettleMinIsr {
    /// The configs of the active controller.
    pub configs: NodeConfigs,
}

/// A refusal is an answer without records.
fn settle<T>(decided: Result<Decision<T>, Refusal>) -> Decision<Result<T, Refusal>> {
    match decided {
        Ok(decision) => decision.map(Ok),
        Err(refusal) => Decision { records: Vec::new(), reply: Err(refusal) },
    }
}

impl JoinBroker {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<i64, Refusal>> {
        let registration = &self.join.registration;
        let reserved = reserve(image, registration.node_id, self.directory, &registration.log_dirs);
        settle(reserved.and_then(|reserved| {
            let mut joined = join_broker(image, self.configs.rules(), &self.join, self.alive)?;
            joined.records.extend(reserved);
            Ok(joined)
        }))
    }
}

impl FenceBroker {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<bool, Refusal>> {
        settle(fence_broker(image, self.configs.rules(), self.node_id, self.epoch))
    }
}

impl UnfenceBroker {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<bool, Refusal>> {
        settle(unfence_broker(image, self.configs.rules(), self.node_id, self.epoch, self.applied))
    }
}

impl ShutDownBroker {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<usize, Refusal>> {
        settle(shut_down_broker(image, self.configs.rules(), self.node_id, self.epoch))
    }
}

impl UnregisterBroker {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<(), Refusal>> {
        settle(unregister_broker(image, self.configs.rules(), self.node_id))
    }
}

impl AlterPartition {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<AlterPartitionResponse> {
        alter_partition(image, self.configs.rules(), &self.request)
    }
}

impl AssignDirectories {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Vec<Result<(), Refusal>>> {
        let (mut records, mut reply, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (replica, dir) in &self.replicas {
            let decided = if seen.insert(*replica) {
                assign_directory(image, self.configs.rules(), self.node_id, self.epoch, *replica, *dir)
            } else {
                // The second one would be over a state that the first one leaves.
                Err(Refusal::new(ErrorCode::INVALID_REQUEST, "A partition stands more than once in the request."))
            };
            reply.push(decided.map(|decision| records.extend(decision.records)));
        }
        Decision { records, reply }
    }
}

impl FailDirectories {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<(), Refusal>> {
        settle(fail_directories(image, self.configs.rules(), self.node_id, self.epoch, &self.failed))
    }
}

impl AllocateNodeId {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<i32, Refusal>> {
        settle(allocate_node_id(image, self.wanted, self.directory, &self.abandoned))
    }
}

impl RemoveVoterIdentity {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<(), Refusal>> {
        settle(remove_voter_identity(image, self.node_id, self.directory))
    }
}

impl ForgetRemovedVoter {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Result<(), Refusal>> {
        settle(forget_removed_voter(image, self.directory))
    }
}

impl SettleMinIsr {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<()> {
        let rules = self.configs.rules();
        let mut records = settle_min_isr(image, rules);
        // A lower minimum ends what replicas were eligible for under a higher one.
        records.extend(change_partitions(image, rules.node_id, rules.statics, &records));
        Decision { records, reply: () }
    }
}

impl GrowInternalTopics {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<i64> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        grow_internal_topics(image, self.configs.rules(), limit)
    }
}

impl BalanceLeaders {
    pub(super) fn decide(&self, image: &MetadataImage) -> Decision<Balanced> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        balance_leaders(image, self.configs.rules(), limit)
    }
}
