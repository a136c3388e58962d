//! Partitions that belong to this broker and could not be served when their image came: a full disk refuses a new log, for example. They are tried
//! again until they can; nothing else would before their topic changes, and the replica would be missing in the ISR meanwhile.
//!
//! Must never: leave out a partition while it is being tried again, or hold the lock while a disk is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use esker_core::metadata::PartitionId;
use esker_protocol::primitives::Uuid;
use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    /// Partition numbers by topic id.
    partitions: Mutex<BTreeMap<Uuid, BTreeSet<i32>>>,
    /// Topics with partitions that came into service without a change of the image.
    late: Mutex<BTreeSet<Uuid>>,
}

impl Unserved {
    pub(super) fn add(&self, topic: Uuid, partition: i32) {
        self.partitions.lock().entry(topic).or_default().insert(partition);
    }

    /// Those of a topic.
    pub(super) fn of(&self, topic: Uuid) -> BTreeSet<i32> {
        self.partitions.lock().get(&topic).cloned().unwrap_or_default()
    }

    /// All.
    pub(super) fn all(&self) -> BTreeMap<Uuid, BTreeSet<i32>> {
        self.partitions.lock().clone()
    }

    /// Forgets those that are `settled`, which must not wait for a disk.
    pub(super) fn forget(&self, settled: impl Fn(PartitionId) -> bool) {
        self.partitions.lock().retain(|topic, partitions| {
            partitions.retain(|partition| !settled(PartitionId { topic: *topic, partition: *partition }));
            !partitions.is_empty()
        });
    }

    pub(super) fn count(&self) -> usize {
        self.partitions.lock().values().map(BTreeSet::len).sum()
    }

    pub(super) fn add_late(&self, topics: BTreeSet<Uuid>) {
        self.late.lock().extend(topics);
    }

    /// The topics of `add_late`, each once.
    pub(super) fn take_late(&self) -> BTreeSet<Uuid> {
        take(&mut *self.late.lock())
    }
}
