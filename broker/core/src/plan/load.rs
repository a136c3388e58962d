//! The load of brokers: replicas, their bytes, and preferred leaderships.

use std::collections::BTreeMap;

use super::layout::{Layout, PartitionState};

/// What a broker has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Replicas.
    pub replicas: u64,
    /// Bytes of these replicas.
    pub bytes: u64,
    /// Partitions of which it is the preferred leader.
    pub leaders: u64,
}

/// The load of each broker that is registered or has a replica.
pub fn loads(layout: &Layout) -> BTreeMap<i32, Load> {
    Loads::of(layout).by_broker
}

/// Loads, and what they are measured against.
///
/// The weight of a load is its share of all replicas plus its share of all bytes, as a whole number: many empty partitions count, and so does
/// one large partition.
#[derive(Debug, Clone)]
pub(super) struct Loads {
    by_broker: BTreeMap<i32, Load>,
    all_replicas: u128,
    all_bytes: u128,
}

impl Loads {
    pub(super) fn of(layout: &Layout) -> Self {
        let by_broker = layout.brokers.keys().map(|broker| (*broker, Load::default())).collect();
        let mut loads = Self { by_broker, all_replicas: 0, all_bytes: 0 };
        for partition in &layout.partitions {
            for broker in &partition.replicas {
                loads.add_replica(*broker, partition.bytes);
                loads.all_replicas += 1;
                loads.all_bytes += u128::from(partition.bytes);
            }
            if let Some(first) = partition.replicas.first() {
                loads.add_leader(*first);
            }
        }
        loads
    }

    fn entry(&mut self, broker: i32) -> &mut Load {
        self.by_broker.entry(broker).or_default()
    }

    fn add_replica(&mut self, broker: i32, bytes: u64) {
        let load = self.entry(broker);
        load.replicas += 1;
        load.bytes = load.bytes.saturating_add(bytes);
    }

    fn add_leader(&mut self, broker: i32) {
        self.entry(broker).leaders += 1;
    }

    /// A partition gets other replicas.
    pub(super) fn change(&mut self, partition: &PartitionState, to: &[i32]) {
        for broker in &partition.replicas {
            let load = self.entry(*broker);
            load.replicas = load.replicas.saturating_sub(1);
            load.bytes = load.bytes.saturating_sub(partition.bytes);
        }
        to.iter().for_each(|broker| self.add_replica(*broker, partition.bytes));
        if let Some(first) = partition.replicas.first() {
            let load = self.entry(*first);
            load.leaders = load.leaders.saturating_sub(1);
        }
        if let Some(first) = to.first() {
            self.add_leader(*first);
        }
    }

    fn get(&self, broker: i32) -> Load {
        self.by_broker.get(&broker).copied().unwrap_or_default()
    }

    /// Preferred leaderships of a broker.
    pub(super) fn leaders(&self, broker: i32) -> u64 {
        self.get(broker).leaders
    }

    /// The weight of a broker's load.
    pub(super) fn weight(&self, broker: i32) -> u128 {
        let load = self.get(broker);
        self.weigh(load.replicas, load.bytes)
    }

    /// The weight of one replica.
    pub(super) fn replica_weight(&self, bytes: u64) -> u128 {
        self.weigh(1, bytes)
    }

    fn weigh(&self, replicas: u64, bytes: u64) -> u128 {
        u128::from(bytes) * self.all_replicas + u128::from(replicas) * self.all_bytes.max(1)
    }
}
