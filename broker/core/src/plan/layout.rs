//! What a plan depends on: the brokers, and the replicas of each partition.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::primitives::Str;

/// A broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerState {
    /// `broker.rack`; brokers without one count as brokers of one rack.
    pub rack: Str,
    /// It is registered and not fenced.
    pub alive: bool,
    /// All its log dirs are cordoned (`cordoned.log.dirs`): it takes no new replicas.
    pub cordoned: bool,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Its topic.
    pub topic: Str,
    /// Its number.
    pub partition: i32,
    /// Its replicas, the preferred leader first. Of a partition that is being reassigned, the replicas that it will have.
    pub replicas: Vec<i32>,
    /// Bytes of one replica.
    pub bytes: u64,
}

/// The brokers and partitions of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// All registered brokers, by node id.
    pub brokers: BTreeMap<i32, BrokerState>,
    /// All partitions.
    pub partitions: Vec<PartitionState>,
}

impl Layout {
    /// Whether a broker may take replicas.
    pub fn is_eligible(&self, broker: i32) -> bool {
        self.brokers.get(&broker).is_some_and(|state| state.alive && !state.cordoned)
    }

    /// Brokers that may take replicas.
    pub fn eligible(&self) -> impl Iterator<Item = i32> {
        self.brokers.keys().copied().filter(|broker| self.is_eligible(*broker))
    }

    /// The rack of a broker.
    pub fn rack(&self, broker: i32) -> &str {
        self.brokers.get(&broker).map(|state| state.rack.as_str()).unwrap_or_default()
    }

    /// In how many racks some brokers are.
    pub fn rack_count(&self, brokers: &[i32]) -> usize {
        brokers.iter().map(|broker| self.rack(*broker)).collect::<BTreeSet<_>>().len()
    }

    /// The moves that lead from this layout to another one of the same partitions.
    pub(super) fn moves_to(&self, after: &Layout) -> Vec<Move> {
        let changed = self.partitions.iter().zip(&after.partitions).filter(|(from, to)| from.replicas != to.replicas);
        let mut moves: Vec<Move> = changed.map(|(from, to)| Move::new(from, to.replicas.clone())).collect();
        moves.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        moves
    }

    /// Carries out moves.
    pub fn apply(&mut self, moves: &[Move]) {
        let targets: BTreeMap<(&str, i32), &Vec<i32>> =
            moves.iter().map(|one| ((one.topic.as_str(), one.partition), &one.to)).collect();
        for partition in &mut self.partitions {
            if let Some(to) = targets.get(&(partition.topic.as_str(), partition.partition)) {
                partition.replicas.clone_from(to);
            }
        }
    }
}

/// New replicas of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
    /// The replicas before.
    pub from: Vec<i32>,
    /// The replicas after.
    pub to: Vec<i32>,
    /// Bytes of one replica.
    pub bytes: u64,
}

impl Move {
    pub(super) fn new(partition: &PartitionState, to: Vec<i32>) -> Self {
        Self {
            topic: partition.topic.clone(),
            partition: partition.partition,
            from: partition.replicas.clone(),
            to,
            bytes: partition.bytes,
        }
    }

    /// Brokers that get a replica.
    pub fn added(&self) -> impl Iterator<Item = i32> {
        self.to.iter().copied().filter(|broker| !self.from.contains(broker))
    }

    /// Bytes that are copied.
    pub fn copied_bytes(&self) -> u64 {
        let added = u64::try_from(self.added().count()).unwrap_or(u64::MAX);
        self.bytes.saturating_mul(added)
    }

    /// Whether the preferred leader changes.
    pub fn changes_leader(&self) -> bool {
        self.from.first() != self.to.first()
    }
}
