//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455, KIP-860): a partition moves to other replicas, or its replicas change their order.
//!
//! The replicas that are added join the assignment at once, those that go stay in it until all the others are in sync; the change of the
//! in-sync set that makes it so completes the reassignment. A new order alone is complete at once.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use esker_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};

use super::create_topics::check_replicas;
use super::decision::{Decision, Refusal};
use super::elections::{ElectionRules, is_available};
use super::partition_change::PartitionChange;
use crate::metadata::{MetadataImage, MetadataRecord, PartitionChangeRecord, PartitionImage, TopicImage};

/// Decides an AlterPartitionReassignments request.
pub fn alter_partition_reassignments(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    request: &AlterPartitionReassignmentsRequest,
) -> Decision<AlterPartitionReassignmentsResponse> {
    let mut records = Vec::new();
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let mut response =
                ReassignablePartitionResponse { partition_index: partition.partition_index, ..Default::default() };
            match reassign(image, rules, &topic.name, partition, request.allow_replication_factor_change) {
                Ok(record) => records.extend(record.map(MetadataRecord::PartitionChange)),
                Err(refusal) => {
                    response.error_code = refusal.code;
                    response.error_message = Some(refusal.message);
                }
            }
            response
        });
        ReassignableTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    let responses = responses.collect();
    let reply = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses,
        error_message: None,
        ..AlterPartitionReassignmentsResponse::default()
    };
    Decision { records, reply }
}

/// The reassignments that are in progress: of the partitions that the request names, or all.
pub fn list_partition_reassignments(
    image: &MetadataImage,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let ongoing = |partition: &PartitionImage| {
        partition.is_reassigning().then(|| OngoingPartitionReassignment {
            partition_index: partition.partition,
            replicas: partition.replicas.clone(),
            adding_replicas: partition.adding.clone(),
            removing_replicas: partition.removing.clone(),
        })
    };
    let of = |topic: &TopicImage, partitions: Vec<OngoingPartitionReassignment>| {
        (!partitions.is_empty()).then(|| OngoingTopicReassignment { name: topic.name.clone(), partitions })
    };
    let topics = match &request.topics {
        None => image
            .topics()
            .filter_map(|topic| of(topic, topic.partitions.iter().filter_map(ongoing).collect()))
            .collect(),
        Some(named) => named
            .iter()
            .filter_map(|wanted| {
                let topic = image.topic(&wanted.name)?;
                let numbers = wanted.partition_indexes.iter().filter_map(|index| usize::try_from(*index).ok());
                of(topic, numbers.filter_map(|at| topic.partitions.get(at)).filter_map(ongoing).collect())
            })
            .collect(),
    };
    ListPartitionReassignmentsResponse { topics, error_message: None, ..ListPartitionReassignmentsResponse::default() }
}

/// The change that begins a reassignment, or cancels one when the target has no replicas.
fn reassign(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    topic: &str,
    target: &ReassignablePartition,
    any_factor: bool,
) -> Result<Option<PartitionChangeRecord>, Refusal> {
    let partition = target.partition_index;
    let unknown = |message: String| Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message);
    let known = image.topic(topic).ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?;
    let found = usize::try_from(partition).ok().and_then(|at| known.partitions.get(at));
    let found = found.ok_or_else(|| unknown(format!("Unable to find partition {topic}:{partition}.")))?;
    let available = |replica: i32| is_available(image, found, replica);
    let mut change = PartitionChange::new(found, rules.of_topic(image, topic).min_isr, &available);
    let Some(replicas) = &target.replicas else {
        cancel(&mut change, found, topic)?;
        return Ok(change.build());
    };
    check_replicas(image, partition, replicas)?;
    let leaving = found.replicas.iter().filter(|id| !replicas.contains(id));
    let factor = found.replicas.iter().filter(|id| !found.removing.contains(id)).count();
    if !any_factor && factor != replicas.len() {
        let message = format!("The replication factor is changed from {factor} to {}", replicas.len());
        return Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
    }
    // A replica that an earlier reassignment adds is still one that is added, so that a cancellation takes it out.
    let original = |id: &&i32| found.replicas.contains(id) && !found.adding.contains(id);
    change.adding = replicas.iter().filter(|id| !original(id)).copied().collect();
    change.removing = leaving.copied().collect();
    change.replicas = replicas.iter().chain(&change.removing).copied().collect();
    Ok(change.build())
}

/// Takes out what a reassignment added: the partition is as before.
fn cancel(change: &mut PartitionChange<'_>, found: &PartitionImage, topic: &str) -> Result<(), Refusal> {
    if !found.is_reassigning() {
        let message = "No partition reassignment is in progress.";
        return Err(Refusal::new(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, message));
    }
    change.replicas.retain(|id| !found.adding.contains(id));
    change.isr.retain(|id| !found.adding.contains(id));
    change.adding.clear();
    change.removing.clear();
    if change.isr.is_empty() && !found.isr.is_empty() {
        let message = format!(
            "Unable to revert partition assignment for {topic}:{} because it would require an unclean leader election.",
            found.partition
        );
        return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    }
    Ok(())
}
