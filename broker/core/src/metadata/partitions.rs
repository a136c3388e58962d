//! The partitions of a topic: a persistent vector, so that the change of one costs the same in a topic of any size.

use std::fmt;
use std::sync::Arc;

use esker_protocol::primitives::Uuid;
use imbl::Vector;

use super::record::{PartitionChangeRecord, PartitionRecord};

/// A partition.
pub type PartitionImage = PartitionRecord;

/// The leader of a partition that has none.
pub const NO_LEADER: i32 = -1;

/// A partition of any topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// Its topic.
    pub topic: Uuid,
    /// Its number.
    pub partition: i32,
}

/// The partitions of a topic; the place is the number. A clone shares everything.
#[derive(Clone, Default, PartialEq)]
pub struct Partitions(Vector<Arc<PartitionImage>>);

impl Partitions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The partition with that number.
    pub fn get(&self, number: usize) -> Option<&PartitionImage> {
        self.0.get(number).map(|partition| &**partition)
    }

    /// Partition 0.
    pub fn first(&self) -> Option<&PartitionImage> {
        self.get(0)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &PartitionImage> + ExactSizeIterator {
        self.0.iter().map(|partition| &**partition)
    }

    /// Numbers of the partitions that `older` has not, or has in another state. Costs what changed, plus a comparison of pointers for
    /// each 64 partitions.
    pub fn changed_since<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let mut before = older.0.leaves().peekable();
        let (mut at, mut old_at) = (0, 0);
        self.0.leaves().flat_map(move |leaf| {
            while old_at < at
                && let Some(old) = before.next()
            {
                old_at += old.len();
            }
            let shared = old_at == at && before.peek().is_some_and(|old| std::ptr::eq(leaf, *old));
            let begin = at;
            at += leaf.len();
            let numbers = if shared { 0..0 } else { 0..leaf.len() };
            numbers
                .filter(move |i| match (leaf.get(*i), older.0.get(begin + i)) {
                    (Some(new), Some(old)) => !Arc::ptr_eq(new, old),
                    _ => true,
                })
                .map(move |i| begin + i)
        })
    }

    /// Adds or replaces one; records of new partitions come in order, and one that would leave a hole is refused. Returns what
    /// stood there before, or `None` when nothing changed.
    pub(super) fn set(&mut self, partition: PartitionImage) -> Option<Option<Arc<PartitionImage>>> {
        let at = usize::try_from(partition.partition).ok()?;
        if at == self.0.len() {
            self.0.push_back(Arc::new(partition));
            return Some(None);
        }
        let slot = self.0.get_mut(at)?;
        Some(Some(std::mem::replace(slot, Arc::new(partition))))
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<&'a PartitionImage> for Partitions {
    fn from_iter<I: IntoIterator<Item = &'a PartitionImage>>(partitions: I) -> Self {
        Self(partitions.into_iter().cloned().map(Arc::new).collect())
    }
}

#[cfg(test)]
impl std::ops::Index<usize> for Partitions {
    type Output = PartitionImage;

    fn index(&self, number: usize) -> &PartitionImage {
        self.get(number).unwrap()
    }
}

impl PartitionRecord {
    /// Which partition it is.
    pub fn id(&self) -> PartitionId {
        PartitionId { topic: self.topic_id, partition: self.partition }
    }

    /// The log dir of a replica, [`directory::UNASSIGNED`] as long as none is known.
    pub fn directory(&self, replica: i32) -> Uuid {
        let at = self.replicas.iter().position(|id| *id == replica);
        at.and_then(|at| self.directories.get(at)).copied().unwrap_or(directory::UNASSIGNED)
    }

    /// Whether a reassignment is in progress.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The partition as `change` leaves it.
    pub fn changed(&self, change: &PartitionChangeRecord) -> Self {
        let ids = |new: &Option<Vec<i32>>, old: &Vec<i32>| new.as_ref().unwrap_or(old).clone();
        let elects = change.leader != NO_CHANGE;
        Self {
            topic_id: self.topic_id,
            partition: self.partition,
            replicas: ids(&change.replicas, &self.replicas),
            isr: ids(&change.isr, &self.isr),
            leader: if elects { change.leader } else { self.leader },
            leader_epoch: self.leader_epoch.saturating_add(i32::from(elects)),
            partition_epoch: self.partition_epoch.saturating_add(1),
            elr: ids(&change.elr, &self.elr),
            last_known_elr: ids(&change.last_known_elr, &self.last_known_elr),
            adding: ids(&change.adding, &self.adding),
            removing: ids(&change.removing, &self.removing),
            directories: change.directories.as_ref().unwrap_or(&self.directories).clone(),
            recovering: if change.recovering < 0 { self.recovering } else { change.recovering > 0 },
        }
    }
}

/// The leader of a [`PartitionChangeRecord`] that changes no leader.
pub const NO_CHANGE: i32 = -2;

impl PartitionChangeRecord {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        let nothing = Self { topic_id: self.topic_id, partition: self.partition, ..Self::default() };
        *self == nothing
    }
}

/// Reserved log dir ids of KIP-858, which name no log dir.
pub mod directory {
    use esker_protocol::primitives::Uuid;

    const fn reserved(number: u8) -> Uuid {
        Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number])
    }

    /// The broker has not chosen a log dir yet.
    pub const UNASSIGNED: Uuid = reserved(1);
    /// The log dir has failed and the replica is not in another one.
    pub const LOST: Uuid = reserved(2);

    /// Whether an id is too low for a log dir: the first 100 are reserved.
    pub fn is_reserved(id: Uuid) -> bool {
        let (high, last) = id.0.split_at(15);
        high.iter().all(|byte| *byte == 0) && last.iter().all(|byte| *byte < 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(count: i32) -> Partitions {
        let mut partitions = Partitions::default();
        for partition in 0..count {
            partitions.set(PartitionImage { partition, ..PartitionImage::default() });
        }
        partitions
    }

    /// Partitions that a clone does not share any more, as pointers in nodes of their own.
    fn copied(partitions: &Partitions) -> usize {
        partitions.0.iter().filter(|partition| Arc::strong_count(partition) > 1).count()
    }

    #[test]
    fn a_change_costs_the_same_in_a_topic_of_any_size() {
        for count in [10, 1_000, 10_000] {
            let before = topic(count);
            let mut after = before.clone();
            assert_eq!(copied(&before), 0, "a clone shares the nodes");
            for number in [0, count / 2, count - 1] {
                let mut after = before.clone();
                after.set(PartitionImage { partition: number, leader: 1, ..PartitionImage::default() });
                assert!(copied(&before) <= 64, "{count} partitions: {} copied for one change", copied(&before));
                assert_eq!(after.changed_since(&before).collect::<Vec<_>>(), [number as usize]);
                assert_eq!(before.get(number as usize).unwrap().leader, -1);
            }
            after.set(PartitionImage { partition: count, ..PartitionImage::default() });
            assert!(copied(&before) <= 64, "{count} partitions: {} copied for a new one", copied(&before));
            assert_eq!(after.changed_since(&before).collect::<Vec<_>>(), [count as usize]);
        }
    }

    #[test]
    fn a_hole_is_not_taken() {
        let mut partitions = topic(2);
        for partition in [-1, 3] {
            assert!(partitions.set(PartitionImage { partition, ..PartitionImage::default() }).is_none());
        }
        assert_eq!(partitions, topic(2));
    }

    #[test]
    fn reserved_directories() {
        assert!(directory::is_reserved(Uuid::ZERO) && directory::is_reserved(directory::LOST));
        assert!(!directory::is_reserved(Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100])));
        assert!(!directory::is_reserved(Uuid([1; 16])));
    }
}
