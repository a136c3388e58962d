//! Whether a node may be stopped: which partitions would have too few in-sync replicas without it, and whether the metadata quorum would
//! keep its majority.
//!
//! A replica counts only while its broker is alive: a broker that is about to be fenced, or shuts down, is in an ISR for a moment longer. A
//! partition without this node in its ISR loses nothing by the stop.

use std::collections::BTreeSet;

use crate::controller::ElectionRules;
use crate::metadata::{BrokerImage, MetadataImage, PartitionImage};

/// Partitions that an assessment names; it counts the rest.
const MAX_NAMED: usize = 100;

/// What the stop does to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopEffect {
    /// No replica is in sync any more: the partition is offline.
    LastInSyncReplica,
    /// Fewer replicas are in sync than `min.insync.replicas`: `acks=all` is refused.
    BelowMinIsr,
}

impl StopEffect {
    /// A name for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::LastInSyncReplica => "last_in_sync_replica",
            Self::BelowMinIsr => "below_min_isr",
        }
    }
}

/// A partition that the stop harms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffectedPartition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// What happens to it.
    pub effect: StopEffect,
    /// Replicas that are in sync after the stop.
    pub in_sync: usize,
    /// `min.insync.replicas`, capped at the number of replicas.
    pub min_isr: usize,
}

/// What the stop does to the metadata quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumEffect {
    /// All voters.
    pub voters: usize,
    /// Voters that are alive after the stop.
    pub alive: usize,
    /// Voters that a majority takes.
    pub majority: usize,
    /// The node votes.
    pub is_voter: bool,
}

impl QuorumEffect {
    /// Whether a majority is alive after the stop.
    pub fn keeps_majority(&self) -> bool {
        self.alive >= self.majority
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopAssessment {
    /// How many partitions the stop harms.
    pub count: usize,
    /// The first of them.
    pub partitions: Vec<AffectedPartition>,
    /// The metadata quorum.
    pub quorum: QuorumEffect,
}

impl StopAssessment {
    /// Whether the node may be stopped.
    pub fn is_safe(&self) -> bool {
        self.count == 0 && self.quorum.keeps_majority()
    }
}

/// The replicas of a partition.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaSet<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its number.
    pub partition: i32,
    /// All replicas.
    pub replicas: &'a [i32],
    /// Those in sync.
    pub isr: &'a [i32],
    /// `min.insync.replicas` of the topic.
    pub min_isr: usize,
}

/// Assesses the stop of a node; `is_alive` says which brokers are, and each voter is the node of a broker.
pub fn assess_stop<'a>(
    node_id: i32,
    partitions: impl Iterator<Item = ReplicaSet<'a>>,
    voters: &BTreeSet<i32>,
    is_alive: impl Fn(i32) -> bool,
) -> StopAssessment {
    let stays = |id: i32| id != node_id && is_alive(id);
    let alive = voters.iter().filter(|id| stays(**id)).count();
    let quorum = QuorumEffect {
        voters: voters.len(),
        alive,
        majority: voters.len() / 2 + 1,
        is_voter: voters.contains(&node_id),
    };
    let mut assessment = StopAssessment { count: 0, partitions: Vec::new(), quorum };
    for affected in partitions.filter_map(|partition| assess_partition(node_id, &partition, stays)) {
        assessment.count += 1;
        if assessment.partitions.len() < MAX_NAMED {
            assessment.partitions.push(affected);
        }
    }
    assessment
}

fn assess_partition(
    node_id: i32,
    partition: &ReplicaSet<'_>,
    stays: impl Fn(i32) -> bool,
) -> Option<AffectedPartition> {
    if !partition.isr.contains(&node_id) {
        return None;
    }
    let in_sync = partition.isr.iter().filter(|id| stays(**id)).count();
    let min_isr = partition.min_isr.min(partition.replicas.len());
    let effect = match in_sync {
        0 => StopEffect::LastInSyncReplica,
        in_sync if in_sync < min_isr => StopEffect::BelowMinIsr,
        _ => return None,
    };
    let (topic, partition) = (partition.topic.to_owned(), partition.partition);
    Some(AffectedPartition { topic, partition, effect, in_sync, min_isr })
}

/// As [`assess_stop`], of the metadata. The cost is that of the node's replicas.
pub fn assess_stop_of(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    node_id: i32,
    voters: &BTreeSet<i32>,
) -> StopAssessment {
    // Partitions of a topic stand together: its configs are looked up once.
    let mut known: Option<(&str, usize)> = None;
    let mut last_id = None;
    let partitions = image.replicated_by(node_id).filter_map(|partition: &PartitionImage| {
        let (topic, min_isr) = match known.filter(|_| last_id == Some(partition.topic_id)) {
            Some(known) => known,
            None => {
                let topic = image.topic_by_id(partition.topic_id)?;
                (topic.name.as_str(), rules.min_isr(image, &topic.name))
            }
        };
        known = Some((topic, min_isr));
        last_id = Some(partition.topic_id);
        let (replicas, isr) = (partition.replicas.as_slice(), partition.isr.as_slice());
        Some(ReplicaSet { topic, partition: partition.partition, replicas, isr, min_isr })
    });
    let is_alive = |id: i32| image.broker(id).is_some_and(BrokerImage::is_active);
    assess_stop(node_id, partitions, voters, is_alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broker 4 is not alive.
    const ALIVE: [i32; 3] = [1, 2, 3];

    fn effect(node_id: i32, replicas: &[i32], isr: &[i32], min_isr: usize) -> Option<StopEffect> {
        let partition = ReplicaSet { topic: "t", partition: 0, replicas, isr, min_isr };
        let voters = BTreeSet::from([1, 2, 3]);
        let assessment = assess_stop(node_id, [partition].into_iter(), &voters, |id| ALIVE.contains(&id));
        assert!(assessment.quorum.keeps_majority(), "two of three are left");
        assert_eq!(assessment.is_safe(), assessment.count == 0);
        assessment.partitions.first().map(|affected| affected.effect)
    }

    #[test]
    fn a_partition_is_harmed_where_too_few_replicas_are_left() {
        use StopEffect::{BelowMinIsr, LastInSyncReplica};
        let cases = [
            ("one may go", 1, &[1, 2, 3][..], &[1, 2, 3][..], 2, None),
            ("the second may not", 1, &[1, 2, 3], &[1, 2], 2, Some(BelowMinIsr)),
            ("the last one", 1, &[1, 2, 3], &[1], 1, Some(LastInSyncReplica)),
            ("a topic with one replica", 1, &[1], &[1], 1, Some(LastInSyncReplica)),
            ("it is not in sync", 1, &[1, 2, 3], &[2, 3], 2, None),
            ("it has no replica", 1, &[2, 3], &[2, 3], 2, None),
            ("the other one is not alive", 1, &[1, 4], &[1, 4], 1, Some(LastInSyncReplica)),
            ("one of the others is not alive", 1, &[1, 2, 4], &[1, 2, 4], 2, Some(BelowMinIsr)),
            ("it is below already, and gets worse", 1, &[1, 2, 3], &[1, 2], 3, Some(BelowMinIsr)),
            ("more in sync than there are replicas", 1, &[1, 2], &[1, 2], 3, Some(BelowMinIsr)),
            ("offline already", 1, &[1, 2], &[], 1, None),
        ];
        for (why, node_id, replicas, isr, min_isr, expected) in cases {
            assert_eq!(effect(node_id, replicas, isr, min_isr), expected, "{why}");
        }
    }

    #[test]
    fn the_quorum_needs_a_majority_of_its_voters() {
        let quorum = |node_id: i32, voters: &[i32]| {
            let voters = voters.iter().copied().collect();
            assess_stop(node_id, std::iter::empty(), &voters, |id| ALIVE.contains(&id))
        };
        for (node_id, voters, safe) in [
            (1, &[1, 2, 3][..], true),
            (1, &[1], false),
            (2, &[1], true),
            (1, &[1, 2, 4], false),
            (3, &[1, 2, 4], true),
            (1, &[1, 2], false),
        ] {
            let found = quorum(node_id, voters);
            assert_eq!(found.is_safe(), safe, "{node_id} of {voters:?}: {found:?}");
            assert_eq!(found.quorum.is_voter, voters.contains(&node_id));
        }
    }

    #[test]
    fn an_assessment_names_some_partitions_and_counts_all() {
        let one = |partition| ReplicaSet { topic: "t", partition, replicas: &[1], isr: &[1], min_isr: 1 };
        let found = assess_stop(1, (0..1000).map(one), &BTreeSet::from([2]), |_| true);
        assert_eq!((found.count, found.partitions.len(), found.is_safe()), (1000, MAX_NAMED, false));
    }
}
