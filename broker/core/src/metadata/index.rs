//! Broker -> partitions: the partitions to change when a broker joins or leaves, without a walk over all topics.
//!
//! `MetadataImage::apply` keeps the index up to date. The index holds nothing that does not follow from the partitions.

use imbl::{OrdMap, OrdSet};

use super::partitions::{PartitionId, PartitionImage};

/// The partitions of one broker.
#[derive(Debug, Clone, Default, PartialEq)]
struct BrokerPartitions {
    led: OrdSet<PartitionId>,
    replicated: OrdSet<PartitionId>,
}

/// The partitions of each broker, registered or not. Those without a leader are led by `NO_LEADER`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct BrokerIndex(OrdMap<i32, BrokerPartitions>);

impl BrokerIndex {
    /// A partition was `old`, or was not, and now is `new`, or is not.
    pub(super) fn update(&mut self, old: Option<&PartitionImage>, new: Option<&PartitionImage>) {
        if let Some(old) = old {
            if new.is_none_or(|new| new.leader != old.leader) {
                self.change(old.leader, |broker| broker.led.remove(&old.id()));
            }
            for replica in old.replicas.iter().filter(|id| new.is_none_or(|new| !new.replicas.contains(id))) {
                self.change(*replica, |broker| broker.replicated.remove(&old.id()));
            }
        }
        if let Some(new) = new {
            if old.is_none_or(|old| old.leader != new.leader) {
                self.change(new.leader, |broker| broker.led.insert(new.id()));
            }
            for replica in new.replicas.iter().filter(|id| old.is_none_or(|old| !old.replicas.contains(id))) {
                self.change(*replica, |broker| broker.replicated.insert(new.id()));
            }
        }
    }

    fn change(&mut self, broker: i32, change: impl FnOnce(&mut BrokerPartitions) -> Option<PartitionId>) {
        let partitions = self.0.entry(broker).or_default();
        change(partitions);
        if partitions.led.is_empty() && partitions.replicated.is_empty() {
            self.0.remove(&broker);
        }
    }

    /// The highest id of a broker with partitions.
    pub(super) fn highest_broker(&self) -> Option<i32> {
        self.0.get_max().map(|(broker, _)| *broker).filter(|broker| *broker >= 0)
    }

    /// Partitions that the broker leads, in order.
    pub(super) fn led(&self, broker: i32) -> impl Iterator<Item = PartitionId> {
        self.0.get(&broker).into_iter().flat_map(|partitions| partitions.led.iter().copied())
    }

    /// How many these are.
    pub(super) fn led_count(&self, broker: i32) -> usize {
        self.0.get(&broker).map_or(0, |partitions| partitions.led.len())
    }

    /// Partitions of which the broker holds a replica, in order.
    pub(super) fn replicated(&self, broker: i32) -> impl Iterator<Item = PartitionId> {
        self.0.get(&broker).into_iter().flat_map(|partitions| partitions.replicated.iter().copied())
    }

    /// How many these are.
    pub(super) fn replicated_count(&self, broker: i32) -> usize {
        self.0.get(&broker).map_or(0, |partitions| partitions.replicated.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::partitions::NO_LEADER;
    use super::*;

    fn partition(number: i32, replicas: &[i32], leader: i32) -> PartitionImage {
        PartitionImage { partition: number, replicas: replicas.to_vec(), leader, ..PartitionImage::default() }
    }

    fn numbers(ids: impl Iterator<Item = PartitionId>) -> Vec<i32> {
        ids.map(|id| id.partition).collect()
    }

    #[test]
    fn it_follows_the_partitions() {
        let mut index = BrokerIndex::default();
        let (a, b) = (partition(0, &[1, 2], 1), partition(1, &[2, 3], NO_LEADER));
        index.update(None, Some(&a));
        index.update(None, Some(&b));
        assert_eq!((numbers(index.led(1)), numbers(index.led(NO_LEADER))), (vec![0], vec![1]));
        assert_eq!((numbers(index.replicated(2)), index.replicated_count(2)), (vec![0, 1], 2));
        let moved = partition(0, &[3, 2], 3);
        index.update(Some(&a), Some(&moved));
        assert_eq!((index.led_count(1), numbers(index.led(3)), numbers(index.replicated(3))), (0, vec![0], vec![0, 1]));
        index.update(Some(&moved), None);
        index.update(Some(&b), None);
        assert_eq!(index, BrokerIndex::default(), "nothing is left behind");
    }

    #[test]
    fn a_change_copies_nothing_of_other_brokers() {
        let mut before = BrokerIndex::default();
        let all: Vec<_> = (0..10_000).map(|number| partition(number, &[number % 4, 9], number % 4)).collect();
        all.iter().for_each(|partition| before.update(None, Some(partition)));
        let mut after = before.clone();
        after.update(Some(&all[0]), Some(&partition(0, &[0, 9], 9)));
        for broker in [1, 2, 3] {
            let (old, new) = (before.0.get(&broker).unwrap(), after.0.get(&broker).unwrap());
            assert!(old.led.ptr_eq(&new.led) && old.replicated.ptr_eq(&new.replicated), "broker {broker}");
        }
        let replicas = |index: &BrokerIndex| index.0.get(&9).unwrap().replicated.clone();
        assert!(replicas(&before).ptr_eq(&replicas(&after)), "its leader alone has changed");
    }
}
