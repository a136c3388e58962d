//! A fetch session's registration for moves of one partition: see `purgatory::watch`.

use std::sync::{Arc, Weak};

use esker_core::fetch_session::Slot;

use super::partition::Partition;
use super::purgatory::{Place, ReadyList};
use super::read::ReadBound;

/// A session's registration for moves of one partition; it ends when this is dropped. It does not keep the partition of a
/// deleted topic alive.
#[derive(Debug)]
pub struct Watch {
    partition: Weak<Partition>,
    bound: ReadBound,
    place: Place,
}

impl Watch {
    /// Registers `slot` of a session. The caller must read the partition after this call.
    pub fn register(partition: &Arc<Partition>, ready: &Arc<ReadyList>, slot: Slot, bound: ReadBound) -> Self {
        let place = partition.watch(ready, slot, bound);
        Self { partition: Arc::downgrade(partition), bound, place }
    }

    /// Whether this watches `partition` for readers up to `bound`.
    pub fn is_on(&self, partition: &Arc<Partition>, bound: ReadBound) -> bool {
        self.bound == bound && std::ptr::eq(self.partition.as_ptr(), Arc::as_ptr(partition))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(partition) = self.partition.upgrade() {
            partition.unwatch(self.place);
        }
    }
}
