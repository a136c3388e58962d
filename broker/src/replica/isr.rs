//! Changes of the in-sync replicas of the partitions that this broker leads, through the controller (KIP-497).
//!
//! A partition enters the queue when a follower of it has caught up, and regularly so that followers that lag behind are found. One
//! AlterPartition request at a time carries all partitions that want a change. Each change is compared by the controller with the
//! partition epoch; from the proposal to the answer the high watermark waits for the members of both sets. An accepted change comes into
//! force with the image that has it. The rules are in `esker_core::replication`. Must never: take a proposal back before the controller refused it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::is_online;
use esker_core::metadata::{MetadataImage, PartitionId};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, PartitionData, TopicData,
};
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::{info, warn};

use super::manager::ReplicaManager;
use super::partition::{IsrProposal, IsrStep, Partition};
use crate::controller::SubmitError;
use crate::node::Node;
use crate::telemetry::RepeatLimiter;

/// Partitions of one request.
const MAX_PARTITIONS: usize = 5_000;
/// The first and the longest pause after a request that failed.
const RETRY_AFTER: Duration = Duration::from_millis(20);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// The way to the controller.
pub trait IsrProposer: Send + Sync {
    /// Submits the request. An error leaves open whether it was carried out.
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> BoxFuture<'_, Result<AlterPartitionResponse, SubmitError>>;
}

/// See the module.
pub struct IsrManager {
    node: Node,
    replicas: Arc<ReplicaManager>,
    proposer: Arc<dyn IsrProposer>,
    /// Partitions to look at again with the next image.
    deferred: BTreeMap<PartitionId, Arc<Partition>>,
    /// Requests that failed.
    failures: RepeatLimiter,
}

type Proposals = Vec<(Arc<Partition>, IsrProposal)>;

/// Brokers that may be in sync, with their epochs.
fn active_brokers(image: &MetadataImage) -> impl Iterator<Item = (i32, i64)> {
    image.brokers().filter(|broker| broker.is_active()).map(|broker| (broker.node_id, broker.epoch))
}

impl IsrManager {
    /// For the partitions of `replicas`.
    pub fn new(node: Node, replicas: Arc<ReplicaManager>, proposer: Arc<dyn IsrProposer>) -> Self {
        Self { node, replicas, proposer, deferred: BTreeMap::new(), failures: RepeatLimiter::default() }
    }

    /// Works until it is dropped.
    pub async fn run(mut self) {
        let max_lag = self.node.config().replication.lag_time_max;
        let interval = (max_lag / 2).max(Duration::from_millis(1));
        let mut images = self.replicas.applied();
        let mut next_check = Instant::now() + interval;
        let mut pause = RETRY_AFTER;
        let mut proposals = Proposals::new();
        let mut active = Vec::new();
        loop {
            let (image, is_new) = {
                let borrowed = images.borrow_and_update();
                (Arc::clone(&borrowed), borrowed.has_changed())
            };
            if is_new {
                self.replicas.isr_requests().extend(std::mem::take(&mut self.deferred).into_values());
            }
            let now_active: Vec<_> = active_brokers(&image).collect();
            let brokers_changed = now_active != active;
            active = now_active;
            if brokers_changed || next_check <= Instant::now() {
                // A fetch names only what has changed at the follower. A broker that was fenced for a moment fetches idle partitions without
                // naming them, and nothing else would add it to their ISR again.
                next_check = Instant::now() + interval;
                let led = self.replicas.partitions().into_iter().filter(|partition| partition.leads_followers());
                self.replicas.isr_requests().extend(led);
            }
            for (partition, _) in proposals.extract_if(.., |(partition, proposal)| !partition.is_current(proposal)) {
                self.replicas.isr_requests().add(&partition);
            }
            self.gather_proposals(&image, max_lag, &mut proposals);
            if proposals.is_empty() {
                tokio::select! {
                    biased;
                    () = self.replicas.isr_requests().notified() => {}
                    changed = images.changed() => match changed {
                        Ok(()) => images.mark_changed(),
                        Err(_) => return,
                    },
                    () = tokio::time::sleep_until(next_check) => {}
                }
                continue;
            }
            let request = request_of(&image, self.node.id(), &proposals);
            match self.proposer.alter_partition(request).await {
                Ok(answer) if !answer.error_code.is_error() => {
                    proposals = self.apply_results(&proposals, &answer);
                    if proposals.is_empty() {
                        pause = RETRY_AFTER;
                        continue;
                    }
                }
                Ok(answer) => self.report_failure(&format!("it answers {}", answer.error_code)),
                Err(error) => self.report_failure(&error.to_string()),
            }
            // What was asked for may have been carried out: the proposals stand, and the partition epoch tells.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_AFTER_MAX);
        }
    }

    fn report_failure(&self, why: &str) {
        if let Some(left_out) = self.failures.admit(why, Instant::now()) {
            warn!(
                why,
                left_out = left_out.field(),
                "the controller does not take changes of in-sync replicas; trying again"
            );
        }
    }

    /// Adds what the queued partitions propose.
    fn gather_proposals(&mut self, image: &MetadataImage, max_lag: Duration, proposals: &mut Proposals) {
        // As the controller sees it: it refuses what is not so, and each fetch of such a follower would ask it again.
        let is_active =
            |id: i32, epoch: i64| image.broker(id).is_some_and(|broker| broker.is_active() && broker.epoch == epoch);
        for partition in self.replicas.isr_requests().take_partitions(MAX_PARTITIONS.saturating_sub(proposals.len())) {
            let known = image.partition(partition.id());
            let is_eligible =
                |id, epoch| is_active(id, epoch) && known.is_some_and(|known| is_online(image, known, id));
            match partition.propose_isr(max_lag, is_eligible) {
                IsrStep::None => {}
                IsrStep::Later => drop(self.deferred.insert(partition.id(), partition)),
                IsrStep::Propose(proposal) => proposals.push((partition, proposal)),
            }
        }
    }

    /// Takes in the controller's answer; what is left has to be submitted again.
    fn apply_results(&mut self, proposals: &Proposals, answer: &AlterPartitionResponse) -> Proposals {
        let results = answer.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|result| {
                let id = PartitionId { topic: topic.topic_id, partition: result.partition_index };
                (id, result)
            })
        });
        let results: BTreeMap<_, _> = results.collect();
        let mut again = Proposals::new();
        for (partition, proposal) in proposals {
            let result = results.get(&partition.id());
            let code = result.map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |result| result.error_code);
            let (topic, index, isr) = (partition.topic(), partition.index(), &proposal.isr);
            if code.is_error() {
                self.replicas.metrics().replication.failed_isr_updates.inc();
            }
            match reaction_to(code) {
                Reaction::Accepted => {
                    let metrics = self.replicas.metrics();
                    match proposal.shrinks {
                        true => metrics.replication.isr_shrinks.inc(),
                        false => metrics.replication.isr_expands.inc(),
                    }
                    info!(topic, partition = index, ?isr, "the in-sync replicas changed");
                    // A follower may have caught up while its own shrink was on the way.
                    self.deferred.insert(partition.id(), Arc::clone(partition));
                    if result.is_some_and(|result| result.partition_epoch == proposal.partition_epoch) {
                        partition.withdraw_isr(proposal);
                    }
                }
                // Newer metadata came meanwhile.
                Reaction::AwaitImage if !partition.is_current(proposal) => self.replicas.isr_requests().add(partition),
                Reaction::AwaitImage => {
                    info!(topic, partition = index, ?isr, %code, "a change of in-sync replicas is refused; waiting for newer metadata");
                    self.deferred.insert(partition.id(), Arc::clone(partition));
                }
                Reaction::Withdraw => {
                    info!(topic, partition = index, ?isr, %code, "a change of in-sync replicas is refused");
                    partition.withdraw_isr(proposal);
                    self.deferred.insert(partition.id(), Arc::clone(partition));
                }
                Reaction::SubmitAgain => again.push((Arc::clone(partition), proposal.clone())),
            }
        }
        again
    }
}

/// What a leader does about the controller's code for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Accepted,
    /// The controller knows newer metadata than this broker: its image ends the proposal.
    AwaitImage,
    /// Nothing changed, and newer metadata may not come.
    Withdraw,
    SubmitAgain,
}

/// Kafka's `Partition.handleAlterPartitionError`.
fn reaction_to(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::NONE => Reaction::Accepted,
        ErrorCode::OPERATION_NOT_ATTEMPTED | ErrorCode::INELIGIBLE_REPLICA => Reaction::Withdraw,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::INVALID_UPDATE_VERSION
        | ErrorCode::INVALID_REQUEST
        | ErrorCode::NEW_LEADER_ELECTED => Reaction::AwaitImage,
        _ => Reaction::SubmitAgain,
    }
}

fn request_of(image: &MetadataImage, node_id: i32, proposals: &Proposals) -> AlterPartitionRequest {
    let epoch_of = |id: i32| image.broker(id).map_or(-1, |broker| broker.epoch);
    let mut topics: BTreeMap<_, Vec<PartitionData>> = BTreeMap::new();
    for (partition, proposal) in proposals {
        let own = |id: i32, epoch: i64| if id == node_id { epoch_of(id) } else { epoch };
        let state = |(id, epoch): (&i32, &i64)| BrokerState { broker_id: *id, broker_epoch: own(*id, *epoch) };
        topics.entry(partition.topic_id()).or_default().push(PartitionData {
            partition_index: partition.index(),
            leader_epoch: proposal.leader_epoch,
            new_isr_with_epochs: proposal.isr.iter().zip(&proposal.epochs).map(state).collect(),
            partition_epoch: proposal.partition_epoch,
            ..PartitionData::default()
        });
    }
    AlterPartitionRequest {
        broker_id: node_id,
        broker_epoch: epoch_of(node_id),
        topics: topics.into_iter().map(|(topic_id, partitions)| TopicData { topic_id, partitions }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactions_are_kafkas() {
        let cases = [
            (ErrorCode::NONE, Reaction::Accepted),
            (ErrorCode::INELIGIBLE_REPLICA, Reaction::Withdraw),
            (ErrorCode::OPERATION_NOT_ATTEMPTED, Reaction::Withdraw),
            (ErrorCode::INVALID_UPDATE_VERSION, Reaction::AwaitImage),
            (ErrorCode::FENCED_LEADER_EPOCH, Reaction::AwaitImage),
            (ErrorCode::NEW_LEADER_ELECTED, Reaction::AwaitImage),
            (ErrorCode::UNKNOWN_TOPIC_ID, Reaction::AwaitImage),
            (ErrorCode::NOT_CONTROLLER, Reaction::SubmitAgain),
            (ErrorCode::UNKNOWN_SERVER_ERROR, Reaction::SubmitAgain),
        ];
        for (code, reaction) in cases {
            assert_eq!(reaction_to(code), reaction, "{code}");
        }
    }
}
