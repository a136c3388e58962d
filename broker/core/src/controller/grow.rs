//! The topics of coordinators get the replicas that they could not get when they were made: a cluster of one that grows keeps its groups and
//! transactions when its first broker dies.
//!
//! `offsets.topic.replication.factor` and `transaction.state.log.replication.factor` say how many replicas they are to have; until there are so
//! many brokers, they have one on each. Replicas are added as a reassignment adds them, a few partitions at a time. Must never: take a replica
//! away, touch a reassignment that is in progress, or place a replica on a broker that is fenced, leaves, or is cordoned.

use super::decision::Decision;
use super::elections::{ElectionRules, is_available};
use super::partition_change::PartitionChange;
use super::place::{broker_order, fresh_replicas};
use crate::config::{Scope, lookup, resolve_broker};
use crate::internal_topics::{OFFSETS_TOPIC, TRANSACTION_TOPIC};
use crate::metadata::{BrokerImage, MetadataImage, MetadataRecord, NO_LEADER, PartitionImage};

/// The topics, and what says how many replicas they have.
const FACTORS: [(&str, &str); 2] = [
    (OFFSETS_TOPIC, "offsets.topic.replication.factor"),
    (TRANSACTION_TOPIC, "transaction.state.log.replication.factor"),
];

/// Partitions that lack replicas, and how many they are to have.
fn lacking<'a>(image: &'a MetadataImage, rules: ElectionRules<'_>) -> Vec<(&'a PartitionImage, usize)> {
    let takers = broker_order(image, BrokerImage::is_active).len();
    let factor = |name: &str| -> Option<usize> {
        let key = lookup(Scope::Broker, name)?;
        resolve_broker(image, rules.node_id, rules.statics, key).value()?.trim().parse().ok()
    };
    let of_topic = |(topic, name): &(&str, &str)| {
        let wanted = factor(name).unwrap_or_default().min(takers);
        let partitions = image.topic(topic).map(|topic| topic.partitions.iter()).into_iter().flatten();
        let lacks = move |partition: &&PartitionImage| {
            partition.replicas.len() < wanted && partition.leader != NO_LEADER && !partition.is_reassigning()
        };
        partitions.filter(lacks).map(move |partition| (partition, wanted))
    };
    FACTORS.iter().flat_map(of_topic).collect()
}

/// Whether a topic of coordinators lacks replicas that brokers could take.
pub fn lacks_internal_replicas(image: &MetadataImage, rules: ElectionRules<'_>) -> bool {
    !lacking(image, rules).is_empty()
}

/// Adds replicas to such partitions, so that `limit` are being reassigned at most; the answer is to how many.
pub fn grow_internal_topics(image: &MetadataImage, rules: ElectionRules<'_>, limit: usize) -> Decision<i64> {
    let partitions =
        FACTORS.iter().filter_map(|(topic, _)| image.topic(topic)).flat_map(|topic| topic.partitions.iter());
    let under_way = partitions.filter(|partition| partition.is_reassigning()).count();
    let order = broker_order(image, BrokerImage::is_active);
    let mut records = Vec::new();
    for (partition, wanted) in lacking(image, rules).into_iter().take(limit.saturating_sub(under_way)) {
        let Some(topic) = image.topic_by_id(partition.topic_id) else { continue };
        let available = |replica: i32| is_available(image, partition, replica);
        let min_isr = rules.of_topic(image, &topic.name).min_isr;
        let mut change = PartitionChange::new(partition, min_isr, &available);
        let rack = |id: i32| image.broker(id).and_then(|broker| broker.rack.as_deref()).unwrap_or_default();
        let held = partition.replicas.iter().map(|id| (*id, rack(*id))).collect();
        let begin = usize::try_from(partition.partition).unwrap_or_default();
        change.adding = fresh_replicas(&order, held, begin, wanted);
        change.replicas.extend(&change.adding);
        records.extend(change.build().map(MetadataRecord::PartitionChange));
    }
    let grown = i64::try_from(records.len()).unwrap_or(i64::MAX);
    Decision { records, reply: grown }
}
