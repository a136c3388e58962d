//! CreatePartitions: partitions are only added; keys then hash to other partitions, so only users send this request.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};

use super::create_topics::{MAX_PARTITIONS as MAX_AT_ONCE, check_replicas, new_partition, too_many_partitions};
use super::decision::{Decision, Refusal};
use super::place::place;
use crate::internal_topics::{OFFSETS_TOPIC, SHARE_GROUP_TOPIC, TRANSACTION_TOPIC};
use crate::metadata::{MetadataImage, MetadataRecord};

/// The most partitions that a topic may have.
const MAX_PARTITIONS: usize = 100_000;

/// Topics of coordinators, whose keys are placed by the number of partitions, and what these keys are. Kafka takes more partitions,
/// and finds nothing of what is in the old ones after its next start.
const PLACED_BY_COUNT: [(&str, &str); 3] = [
    (OFFSETS_TOPIC, "groups and their committed offsets"),
    (TRANSACTION_TOPIC, "transactional ids"),
    (SHARE_GROUP_TOPIC, "share groups"),
];

/// Decides a CreatePartitions request. `seed` picks where placement begins.
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
            add_partitions(image, topic, seed)
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

fn add_partitions(
    image: &MetadataImage,
    topic: &CreatePartitionsTopic,
    seed: u64,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let known = image.topic(&topic.name).ok_or_else(|| {
        Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
    })?;
    if let Some((_, what)) = PLACED_BY_COUNT.iter().find(|(name, _)| topic.name == *name) {
        return Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            format!(
                "The partitions of {} cannot be increased: {what} are placed by their number, and would not be found any more.",
                topic.name
            ),
        ));
    }
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
        return Err(too_many_partitions());
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
        None => place(image, more, factor, seed.wrapping_add(has as u64))?,
    };
    lists
        .into_iter()
        .enumerate()
        .map(|(at, replicas)| new_partition(image, known.id, i32::try_from(has + at).unwrap_or(i32::MAX), replicas))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::TopicRecord;
    use esker_protocol::primitives::{Str, Uuid};

    #[test]
    fn topics_of_coordinators_do_not_grow() {
        for (name, _) in PLACED_BY_COUNT {
            let mut image = MetadataImage::default();
            let name = Str::from(name);
            image.apply(&MetadataRecord::Topic(TopicRecord { name: name.clone(), id: Uuid([1; 16]) }));
            let topics = vec![CreatePartitionsTopic { name, count: 60, assignments: None }];
            let request = CreatePartitionsRequest { topics, ..CreatePartitionsRequest::default() };
            let decision = create_partitions(&image, &request, 0);
            let result = &decision.reply.results[0];
            assert_eq!((result.error_code, decision.records.len()), (ErrorCode::INVALID_REQUEST, 0));
            assert!(result.error_message.as_ref().is_some_and(|message| message.contains("cannot be increased")));
        }
    }
}
