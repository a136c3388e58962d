//! ElectLeaders (KIP-183, KIP-460): the preferred replica leads again, or any live replica where no in-sync replica is live.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use esker_protocol::primitives::Str;

use super::decision::{Decision, Refusal};
use super::elections::{ElectionRules, is_available};
use super::partition_change::{Election, PartitionChange};
use crate::metadata::{MetadataImage, MetadataRecord, NO_LEADER, PartitionChangeRecord};

/// Kafka's numbers of the kinds of election.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Decides an ElectLeaders request. For a request for all partitions, the response leaves out those that need no election.
pub fn elect_leaders(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    request: &ElectLeadersRequest,
) -> Decision<ElectLeadersResponse> {
    let mut reply = ElectLeadersResponse::default();
    if ![PREFERRED, UNCLEAN].contains(&request.election_type) {
        reply.error_code = ErrorCode::INVALID_REQUEST;
        return Decision { records: Vec::new(), reply };
    }
    let all = request.topic_partitions.is_none();
    let wanted: Vec<(Str, Vec<i32>)> = match &request.topic_partitions {
        Some(topics) => topics.iter().map(|t| (t.topic.clone(), t.partitions.clone())).collect(),
        None => image
            .topics()
            .map(|t| (t.name.clone(), (0..i32::try_from(t.partitions.len()).unwrap_or(i32::MAX)).collect()))
            .collect(),
    };
    let mut records = Vec::new();
    for (topic, partitions) in wanted {
        let mut partition_result = Vec::new();
        for partition_id in partitions {
            let outcome = elect(image, rules, &topic, partition_id, request.election_type);
            let mut result = PartitionResult { partition_id, ..PartitionResult::default() };
            match outcome {
                Ok(record) => records.push(MetadataRecord::PartitionChange(record)),
                Err(refusal) if all && refusal.code == ErrorCode::ELECTION_NOT_NEEDED => continue,
                Err(refusal) => {
                    result.error_code = refusal.code;
                    result.error_message = Some(refusal.message);
                }
            }
            partition_result.push(result);
        }
        if !all || !partition_result.is_empty() {
            reply.replica_election_results.push(ReplicaElectionResult { topic, partition_result });
        }
    }
    Decision { records, reply }
}

/// The change that elects a leader. The in-sync set stays, unless its only clean or unclean leader is not in it.
fn elect(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    topic: &str,
    partition: i32,
    kind: i8,
) -> Result<PartitionChangeRecord, Refusal> {
    let unknown = |message: String| Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message);
    let known = image.topic(topic).ok_or_else(|| unknown(format!("No such topic as {topic}")))?;
    let found = usize::try_from(partition).ok().and_then(|at| known.partitions.get(at));
    let found = found.ok_or_else(|| unknown(format!("No such partition as {topic}-{partition}")))?;
    let (needed, election) = match kind {
        PREFERRED => (found.replicas.first() != Some(&found.leader), Election::Preferred),
        _ => (found.leader == NO_LEADER, Election::Unclean),
    };
    if !needed {
        let message = "Leader election not needed for topic partition.";
        return Err(Refusal::new(ErrorCode::ELECTION_NOT_NEEDED, message));
    }
    let available = |replica: i32| is_available(image, found, replica);
    let mut change = PartitionChange::new(found, rules.of_topic(image, topic).min_isr, &available);
    change.election = election;
    change.build().ok_or_else(|| match kind {
        PREFERRED => Refusal::new(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available."),
        _ => {
            let message = "Eligible topic partition leaders are not available.";
            Refusal::new(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE, message)
        }
    })
}
