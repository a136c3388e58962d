//! CreatePartitions: a topic only grows; keys then hash elsewhere, so nobody but a user asks for it.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};

use super::create_topics::{MAX_PARTITIONS as MAX_AT_ONCE, check_replicas, excessive, new_partition};
use super::decision::{Decision, Refusal};
use super::place::place;
use crate::metadata::{MetadataImage, MetadataRecord};

/// The most partitions that a topic may have.
const MAX_PARTITIONS: usize = 100_000;

/// Decides a CreatePartitions request. `seed` says where placement begins.
pub fn create_partitions(
    image: &MetadataImage,
    request: &CreatePartitionsRequest,
    seed: u64,
) -> Decision<CreatePartitionsResponse> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> = request.topics.iter().map(|t| &t.name).filter(|name| !seen.insert(*name)).collect();
    let (mut records, mut results, mut answered) = (Vec::new(), Vec::new(), BTreeSet::new());
    for topic in &request.topics {
        let decided = if twice.contains(&topic.name) {
            if !answered.insert(&topic.name) {
                continue;
            }
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name."))
        } else {
            grow(image, topic, seed)
        };
        let mut result = CreatePartitionsTopicResult { name: topic.name.clone(), ..Default::default() };
        match decided {
            Ok(made) => records.extend(made),
            Err(refusal) => {
                result.error_code = refusal.code;
                result.error_message = Some(refusal.message);
            }
        }
        results.push(result);
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, reply: CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() } }
}

fn grow(image: &MetadataImage, topic: &CreatePartitionsTopic, seed: u64) -> Result<Vec<MetadataRecord>, Refusal> {
    let known = image.topic(&topic.name).ok_or_else(|| {
        Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
    })?;
    let has = known.partitions.len();
    let invalid = |message: String| Refusal::new(ErrorCode::INVALID_PARTITIONS, message);
    let wants = usize::try_from(topic.count).unwrap_or_default();
    if wants == has {
        return Err(invalid(format!("Topic already has {has} partition(s).")));
    }
    if wants < has {
        return Err(invalid(format!(
            "The topic {} currently has {has} partition(s); {} would not be an increase.",
            topic.name, topic.count
        )));
    }
    if wants > MAX_PARTITIONS {
        return Err(invalid(format!("A topic cannot have more than {MAX_PARTITIONS} partitions.")));
    }
    let more = wants - has;
    if more > MAX_AT_ONCE {
        return Err(excessive());
    }
    let factor = known.partitions.first().map_or(1, |p| p.replicas.len());
    let lists = match &topic.assignments {
        Some(assignments) => {
            let invalid = |message: String| Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
            if assignments.len() != more {
                return Err(invalid(format!(
                    "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
                    assignments.len()
                )));
            }
            for (at, assignment) in assignments.iter().enumerate() {
                let partition = i32::try_from(has + at).unwrap_or(i32::MAX);
                check_replicas(image, partition, &assignment.broker_ids)?;
                if assignment.broker_ids.len() != factor {
                    return Err(invalid(format!(
                        "The manual partition assignment for partition {partition} has {} replica(s), the topic has {factor}.",
                        assignment.broker_ids.len()
                    )));
                }
            }
            assignments.iter().map(|a| a.broker_ids.clone()).collect()
        }
        None => place(image, more, factor, seed.wrapping_add(has as u64)).ok_or_else(|| {
            let live = image.live_brokers().count();
            Refusal::new(
                ErrorCode::INVALID_REPLICATION_FACTOR,
                format!("Unable to replicate the partition {factor} time(s): only {live} broker(s) are registered."),
            )
        })?,
    };
    lists
        .into_iter()
        .enumerate()
        .map(|(at, replicas)| new_partition(image, known.id, i32::try_from(has + at).unwrap_or(i32::MAX), replicas))
        .collect()
}
