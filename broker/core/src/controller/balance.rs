//! Preferred leaders: a broker that is back in sync leads its partitions again, a bounded number at a time.
//!
//! Each move ends the leadership of a broker that serves well, so clients look up the leader anew: many moves at once would be felt. A
//! preferred replica that is not in sync never leads for being preferred.

use std::time::Duration;

use super::decision::Decision;
use super::elections::{ElectionRules, is_available};
use super::partition_change::{Election, PartitionChange};
use crate::config::{Scope, lookup, resolve_broker};
use crate::metadata::{MetadataImage, MetadataRecord, NO_LEADER, PartitionId, PartitionImage};

/// What one round of leader balancing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balanced {
    /// Partitions whose preferred replica leads again.
    pub moved: i32,
    /// Partitions for later rounds: their preferred replica is in sync and does not lead.
    pub left: i32,
}

/// How often the leaders are balanced (`leader.imbalance.check.interval.seconds`); `None` where `auto.leader.rebalance.enable` is false.
pub fn balance_interval(image: &MetadataImage, rules: ElectionRules<'_>) -> Option<Duration> {
    let value = |name: &str| {
        let key = lookup(Scope::Broker, name)?;
        resolve_broker(image, rules.node_id, rules.statics, key).value().map(str::to_owned)
    };
    if value("auto.leader.rebalance.enable").is_some_and(|enabled| enabled == "false") {
        return None;
    }
    value("leader.imbalance.check.interval.seconds")?.trim().parse().ok().map(Duration::from_secs)
}

/// Up to `limit` partitions whose preferred replica is in sync and available, and does not lead.
pub fn preferred_moves(image: &MetadataImage, limit: usize) -> Vec<PartitionId> {
    imbalanced(image).take(limit).map(PartitionImage::id).collect()
}

/// Moves up to `limit` leaderships to the preferred replicas.
pub fn balance_leaders(image: &MetadataImage, rules: ElectionRules<'_>, limit: usize) -> Decision<Balanced> {
    let (mut records, mut left) = (Vec::new(), 0i32);
    for partition in imbalanced(image) {
        if records.len() >= limit {
            left = left.saturating_add(1);
            continue;
        }
        let Some(topic) = image.topic_by_id(partition.topic_id) else { continue };
        let available = |replica: i32| is_available(image, partition, replica);
        let min_isr = rules.of_topic(image, &topic.name).min_isr;
        let mut change = PartitionChange::new(partition, min_isr, &available);
        change.election = Election::Preferred;
        records.extend(change.build().map(MetadataRecord::PartitionChange));
    }
    let moved = i32::try_from(records.len()).unwrap_or(i32::MAX);
    Decision { records, reply: Balanced { moved, left } }
}

fn imbalanced(image: &MetadataImage) -> impl Iterator<Item = &PartitionImage> {
    let moves = |partition: &&PartitionImage| {
        partition.leader != NO_LEADER
            && partition.replicas.first().is_some_and(|preferred| {
                *preferred != partition.leader
                    && partition.isr.contains(preferred)
                    && is_available(image, partition, *preferred)
            })
    };
    image.topics().flat_map(|topic| topic.partitions.iter()).filter(moves)
}
