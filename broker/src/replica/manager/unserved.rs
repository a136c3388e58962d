//! Partitions that belong to this broker and could not be served when their image came: a full disk refuses a new log, for example. They are tried
//! again until they can; nothing else would before their topic changes, and the replica would be missing in the ISR meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

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

    /// Those of a topic; they are forgotten.
    pub(super) fn take(&self, topic: Uuid) -> BTreeSet<i32> {
        self.partitions.lock().remove(&topic).unwrap_or_default()
    }

    /// All; they are forgotten.
    pub(super) fn take_all(&self) -> BTreeMap<Uuid, BTreeSet<i32>> {
        take(&mut *self.partitions.lock())
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
