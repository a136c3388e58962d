//! Pulls that wait for news, in the order in which they came. Their number has a bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

#[derive(Debug, Default)]
struct List {
    next: u64,
    pending: BTreeMap<u64, oneshot::Sender<()>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<List>);

/// One pull that waits. It leaves the list when it is dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    id: u64,
    news: oneshot::Receiver<()>,
    list: Arc<Waiters>,
}

impl Waiters {
    /// Adds a pull; `None` if `most` wait already.
    pub(super) fn add(self: &Arc<Self>, most: usize) -> Option<Waiter> {
        let mut list = self.0.lock();
        if list.pending.len() >= most {
            return None;
        }
        let (sender, news) = oneshot::channel();
        let id = list.next;
        list.next = list.next.saturating_add(1);
        list.pending.insert(id, sender);
        Some(Waiter { id, news, list: Arc::clone(self) })
    }

    /// The end of the list now: pulls that are added later have a later place.
    pub(super) fn end(&self) -> u64 {
        self.0.lock().next
    }

    /// Wakes up to `most` pulls before `end`, the oldest first; returns how many.
    pub(super) fn release(&self, end: u64, most: usize) -> usize {
        let mut list = self.0.lock();
        let mut released = 0;
        while released < most
            && let Some(first) = list.pending.first_entry()
            && *first.key() < end
        {
            // The pull may have ended.
            let _ = first.remove().send(());
            released += 1;
        }
        released
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().pending.len()
    }
}

impl Waiter {
    /// Waits for news.
    pub(super) async fn wait(mut self) {
        // The sender is dropped with the node.
        let _ = (&mut self.news).await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.list.0.lock().pending.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_pulls_are_released_in_order_and_leave_the_list() {
        let waiters = Arc::<Waiters>::default();
        let first = waiters.add(3).unwrap();
        let dropped = waiters.add(3).unwrap();
        let third = waiters.add(3).unwrap();
        assert!(waiters.add(3).is_none(), "the number is bounded");
        drop(dropped);
        let end = waiters.end();
        let later = waiters.add(3).unwrap();
        assert_eq!((waiters.release(end, 1), waiters.len()), (1, 2));
        first.wait().await;
        assert_eq!((waiters.release(end, 5), waiters.len()), (1, 1), "not those that came later");
        third.wait().await;
        drop(later);
        assert_eq!(waiters.len(), 0);
    }
}
