//! Log dirs of replicas (KIP-858): which dir a replica is in, and what becomes of the replicas of one that failed.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;

use super::decision::{Decision, Refusal};
use super::elections::{ElectionRules, Event, apply_event, check_epoch, is_available};
use super::partition_change::PartitionChange;
use crate::metadata::{BrokerChangeRecord, MetadataImage, MetadataRecord, PartitionId, directory};

/// A broker reports log dirs as failed: the replicas in them leave the in-sync sets at once, while the broker keeps serving the others.
pub fn fail_directories(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    node_id: i32,
    epoch: i64,
    failed: &[Uuid],
) -> Result<Decision<()>, Refusal> {
    let broker = check_epoch(image, node_id, epoch)?;
    let (offline, online): (Vec<Uuid>, Vec<Uuid>) = broker.log_dirs.iter().partition(|dir| failed.contains(dir));
    let Some(first) = offline.first().copied() else { return Ok(Decision { records: Vec::new(), reply: () }) };
    // Brokers with one log dir do not report where their replicas are.
    let is_hit = |dir: Uuid| offline.contains(&dir) || online.is_empty() && dir == directory::UNASSIGNED;
    let hit = image.replicated_by(node_id).filter(|partition| is_hit(partition.directory(node_id)));
    let mut records = apply_event(image, rules, hit, Event::LosesDirectory(node_id, first));
    let change = BrokerChangeRecord { node_id, epoch, log_dirs: Some(online), ..BrokerChangeRecord::default() };
    records.push(MetadataRecord::BrokerChange(change));
    Ok(Decision { records, reply: () })
}

/// Whether a broker has to report the log dir `held` of a replica that the metadata has in `known`. A broker with one log dir need not say that a
/// replica without a known one is there; where another one is known, the controller counts the replica as offline until it hears: that dir
/// failed or was lost with its disk.
pub fn is_misplaced(known: Uuid, held: Uuid, has_one_dir: bool) -> bool {
    known != held && !(has_one_dir && known == directory::UNASSIGNED)
}

/// A broker reports which log dir one of its replicas is in. A replica in a failed dir stops leading. A replica that was in a dir which the
/// broker does not have any more begins again with an empty log: it lost what it had.
pub fn assign_directory(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    node_id: i32,
    epoch: i64,
    replica: PartitionId,
    dir: Uuid,
) -> Result<Decision<()>, Refusal> {
    let broker = check_epoch(image, node_id, epoch)?;
    let topic = image.topic_by_id(replica.topic);
    let topic = topic.ok_or_else(|| Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "No topic has this id."))?;
    let Some(partition) = image.partition(replica) else {
        let message = format!("Unable to find partition {}:{}.", topic.name, replica.partition);
        return Err(Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message));
    };
    if !partition.replicas.contains(&node_id) {
        let message = format!("Broker {node_id} holds no replica of {}-{}.", topic.name, replica.partition);
        return Err(Refusal::new(ErrorCode::NOT_LEADER_OR_FOLLOWER, message));
    }
    if dir == directory::UNASSIGNED || dir.is_zero() {
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Reserved directory ID in request"));
    }
    let works = broker.log_dirs.contains(&dir);
    let former = partition.directory(node_id);
    let is_emptied = former != dir && !directory::is_reserved(former) && !broker.log_dirs.contains(&former);
    let available =
        |id: i32| if id == node_id { works && broker.is_active() } else { is_available(image, partition, id) };
    let topic_rules = rules.of_topic(image, &topic.name);
    let mut change = PartitionChange::new(partition, topic_rules.min_isr, &available);
    change.election = topic_rules.election;
    change.directories.push((node_id, dir));
    if is_emptied {
        change.erased.push(node_id);
    }
    if !works || is_emptied {
        change.isr.retain(|id| *id != node_id);
    }
    let records = change.build().map(MetadataRecord::PartitionChange).into_iter().collect();
    Ok(Decision { records, reply: () })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_reports_a_replica_that_is_not_where_the_metadata_has_it() {
        let (held, other) = (Uuid([1; 16]), Uuid([2; 16]));
        let cases = [
            (held, true, false),
            (held, false, false),
            (other, true, true),
            (other, false, true),
            (directory::LOST, true, true),
            (directory::UNASSIGNED, true, false),
            (directory::UNASSIGNED, false, true),
        ];
        for (known, has_one_dir, reports) in cases {
            assert_eq!(is_misplaced(known, held, has_one_dir), reports, "{known} {has_one_dir}");
        }
    }
}
