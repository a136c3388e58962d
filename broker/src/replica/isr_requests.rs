//! Partitions whose ISR may change: fetches of followers add them, the ISR manager takes them.
//!
//! Must never: hold a partition twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_core::metadata::PartitionId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::partition::Partition;

/// Partitions whose ISR may change, each once.
#[derive(Debug, Default)]
pub struct IsrRequests {
    queue: Mutex<BTreeMap<PartitionId, Arc<Partition>>>,
    wake: Notify,
}

impl IsrRequests {
    /// A follower of `partition` has caught up.
    pub fn add(&self, partition: &Arc<Partition>) {
        self.extend([Arc::clone(partition)]);
    }

    /// Look at all of these.
    pub(super) fn extend(&self, partitions: impl IntoIterator<Item = Arc<Partition>>) {
        self.queue.lock().extend(partitions.into_iter().map(|partition| (partition.id(), partition)));
        self.wake.notify_one();
    }

    /// At most so many of them, which leave the queue.
    pub(super) fn take_partitions(&self, most: usize) -> Vec<Arc<Partition>> {
        let mut queue = self.queue.lock();
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((_, partition)) = queue.pop_first()
        {
            taken.push(partition);
        }
        if !queue.is_empty() {
            self.wake.notify_one();
        }
        taken
    }

    /// Resolves when partitions were added.
    pub(super) async fn notified(&self) {
        self.wake.notified().await;
    }
}
