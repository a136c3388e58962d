//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455). Replicas that are there already are put in another order
//! of preference at once; a partition moves to other brokers only when those can copy it, which a broker alone cannot.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
    ReassignableTopicResponse,
};

use super::create_topics::check_replicas;
use super::decision::{Decision, Refusal};
use crate::metadata::{MetadataImage, MetadataRecord, PartitionImage};

/// Decides an AlterPartitionReassignments request.
pub fn alter_partition_reassignments(
    image: &MetadataImage,
    request: &AlterPartitionReassignmentsRequest,
) -> Decision<AlterPartitionReassignmentsResponse> {
    let mut records = Vec::new();
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let mut response =
                ReassignablePartitionResponse { partition_index: partition.partition_index, ..Default::default() };
            match reassign(image, &topic.name, partition.partition_index, partition.replicas.as_deref()) {
                Ok(record) => records.extend(record.map(MetadataRecord::Partition)),
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
        ..AlterPartitionReassignmentsResponse::default()
    };
    Decision { records, reply }
}

fn reassign(
    image: &MetadataImage,
    topic: &str,
    partition: i32,
    replicas: Option<&[i32]>,
) -> Result<Option<PartitionImage>, Refusal> {
    let unknown = |message: String| Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message);
    let known = image.topic(topic).ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?;
    let found = usize::try_from(partition).ok().and_then(|at| known.partitions.get(at));
    let found = found.ok_or_else(|| unknown(format!("Unable to find partition {topic}:{partition}.")))?;
    let Some(replicas) = replicas else {
        let message = "No partition reassignment is in progress.";
        return Err(Refusal::new(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, message));
    };
    check_replicas(image, partition, replicas)?;
    if replicas == found.replicas {
        return Ok(None);
    }
    let set = |ids: &[i32]| ids.iter().copied().collect::<BTreeSet<_>>();
    if set(replicas) != set(&found.replicas) {
        let message = "No broker of this cluster can copy the partition: only the order of its replicas can change.";
        return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    }
    Ok(Some(PartitionImage {
        replicas: replicas.to_vec(),
        partition_epoch: found.partition_epoch.saturating_add(1),
        ..found.clone()
    }))
}
