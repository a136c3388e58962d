//! AlterPartition (KIP-497, KIP-704, KIP-903): a leader proposes the in-sync replicas of a partition. Leader epoch and partition epoch say
//! which state the proposal is based on. A proposal based on another state is refused, and the leader retries on the current state.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, PartitionData, PartitionDataResult, TopicDataResult,
};

use super::decision::Decision;
use super::elections::{ElectionRules, TopicRules, check_epoch, is_available};
use super::partition_change::PartitionChange;
use crate::metadata::{BrokerImage, MetadataImage, MetadataRecord, PartitionChangeRecord, PartitionId, PartitionImage};

/// Decides an AlterPartition request; each partition stands alone.
pub fn alter_partition(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    request: &AlterPartitionRequest,
) -> Decision<AlterPartitionResponse> {
    let (mut records, mut reply) = (Vec::new(), AlterPartitionResponse::default());
    if let Err(stale) = check_epoch(image, request.broker_id, request.broker_epoch) {
        reply.error_code = stale.code;
        return Decision { records, reply };
    }
    let mut seen = BTreeSet::new();
    for topic in &request.topics {
        let known = image.topic_by_id(topic.topic_id);
        let topic_rules = known.map(|known| rules.of_topic(image, &known.name));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for data in &topic.partitions {
            let id = PartitionId { topic: topic.topic_id, partition: data.partition_index };
            let decided = match &topic_rules {
                None => Err(ErrorCode::UNKNOWN_TOPIC_ID),
                // The second one would be over a state that the first one leaves.
                Some(_) if !seen.insert(id) => Err(ErrorCode::INVALID_REQUEST),
                Some(topic_rules) => alter(image, topic_rules, request.broker_id, id, data),
            };
            let mut result = PartitionDataResult { partition_index: data.partition_index, ..Default::default() };
            match decided {
                Ok((record, now)) => {
                    // Only a reassignment that this change completes moves the leadership.
                    if now.leader != request.broker_id {
                        result.error_code = ErrorCode::NEW_LEADER_ELECTED;
                    } else {
                        result.leader_id = now.leader;
                        result.leader_epoch = now.leader_epoch;
                        result.leader_recovery_state = i8::from(now.recovering);
                        result.partition_epoch = now.partition_epoch;
                        result.isr = now.isr;
                    }
                    records.extend(record.map(MetadataRecord::PartitionChange));
                }
                Err(code) => result.error_code = code,
            }
            partitions.push(result);
        }
        reply.topics.push(TopicDataResult { topic_id: topic.topic_id, partitions });
    }
    Decision { records, reply }
}

/// The change and the partition as it is then.
fn alter(
    image: &MetadataImage,
    rules: &TopicRules,
    leader: i32,
    id: PartitionId,
    data: &PartitionData,
) -> Result<(Option<PartitionChangeRecord>, PartitionImage), ErrorCode> {
    let partition = image.partition(id).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    // Before version 3 replicas come without their epochs.
    let plain = data.new_isr.iter().map(|id| BrokerState { broker_id: *id, broker_epoch: -1 });
    let proposed: Vec<BrokerState> = plain.chain(data.new_isr_with_epochs.iter().cloned()).collect();
    check(image, partition, leader, data, &proposed)?;
    let available = |replica: i32| is_available(image, partition, replica);
    let mut change = PartitionChange::new(partition, rules.min_isr, &available);
    change.election = rules.election;
    change.isr = proposed.iter().map(|state| state.broker_id).collect();
    change.recovering = data.leader_recovery_state > 0;
    let record = change.build();
    let now = record.as_ref().map_or_else(|| partition.clone(), |record| partition.changed(record));
    Ok((record, now))
}

fn check(
    image: &MetadataImage,
    partition: &PartitionImage,
    leader: i32,
    data: &PartitionData,
    proposed: &[BrokerState],
) -> Result<(), ErrorCode> {
    let refuse = |wrong: bool, code: ErrorCode| if wrong { Err(code) } else { Ok(()) };
    // The leader knows of later changes: this controller is not the active one any more.
    let ahead = data.leader_epoch > partition.leader_epoch || data.partition_epoch > partition.partition_epoch;
    refuse(ahead, ErrorCode::NOT_CONTROLLER)?;
    refuse(data.leader_epoch < partition.leader_epoch, ErrorCode::FENCED_LEADER_EPOCH)?;
    refuse(leader != partition.leader, ErrorCode::INVALID_REQUEST)?;
    refuse(data.partition_epoch < partition.partition_epoch, ErrorCode::INVALID_UPDATE_VERSION)?;
    let mut seen = BTreeSet::new();
    let strange = |state: &BrokerState| !partition.replicas.contains(&state.broker_id) || !seen.insert(state.broker_id);
    refuse(proposed.iter().any(strange), ErrorCode::INVALID_REQUEST)?;
    refuse(!proposed.iter().any(|state| state.broker_id == leader), ErrorCode::INVALID_REQUEST)?;
    refuse(!(0..=1).contains(&data.leader_recovery_state), ErrorCode::INVALID_REQUEST)?;
    let recovering = data.leader_recovery_state > 0;
    refuse(recovering && (proposed.len() > 1 || !partition.recovering), ErrorCode::INVALID_REQUEST)?;
    let fits = |broker: &BrokerImage, epoch: i64| broker.is_active() && (epoch == -1 || epoch == broker.epoch);
    let eligible = |state: &BrokerState| {
        is_available(image, partition, state.broker_id)
            && image.broker(state.broker_id).is_some_and(|broker| fits(broker, state.broker_epoch))
    };
    refuse(!proposed.iter().all(eligible), ErrorCode::INELIGIBLE_REPLICA)
}
