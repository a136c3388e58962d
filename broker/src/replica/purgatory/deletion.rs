//! DeleteRecords requests that wait until the replicas of a partition have deleted, too.
//!
//! A request has one signal for all its partitions, and looks at those that it waits for whenever it is signaled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::places::{Place, Places};

/// The requests that wait for the low watermark of one partition.
#[derive(Debug, Default)]
pub(in super::super) struct DeletionWaiters {
    count: AtomicUsize,
    list: Mutex<Places<Arc<Notify>>>,
}

impl DeletionWaiters {
    /// Registers a request. The caller must look at the partition afterwards, and must call [`DeletionWaiters::leave`] once.
    pub(in super::super) fn register(&self, signal: &Arc<Notify>) -> Place {
        let mut list = self.list.lock();
        let place = list.insert(Arc::clone(signal));
        self.count.store(list.len(), Ordering::Release);
        drop(list);
        fence(Ordering::SeqCst);
        place
    }

    /// Removes a request.
    pub(in super::super) fn leave(&self, place: Place) {
        let mut list = self.list.lock();
        list.remove(place);
        self.count.store(list.len(), Ordering::Release);
    }

    /// Wakes all requests: the log start of a follower, or the role of this broker, may have changed.
    pub(in super::super) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.len() > 0 {
            // A signal that comes before the wait for it is kept.
            self.list.lock().iter().for_each(|signal| signal.notify_one());
        }
    }

    /// Number of waiting requests.
    pub(in super::super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}
