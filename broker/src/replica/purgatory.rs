//! Requests that wait for a partition to move: fetches for bytes, `acks=all` produces for the high watermark.
//!
//! A waiter is one allocation shared by all partitions it waits on. A partition that moves pays one atomic load when
//! nobody waits; it never runs a waiter's request itself, it only wakes it. Waiters that gave up (timed out,
//! disconnected) are dropped lazily, when a list is next walked or has doubled.
//!
//! No wake-up is lost: a partition publishes its new end *before* it looks for waiters, a waiter enters the list
//! *before* it looks at the ends once more, and a sequentially consistent fence stands between the two on either side.
//!
//! Must never: hold a list's lock across an await, or wake while holding anything but that lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A parked fetch: wakes once `missing` more bytes have become readable over all of its partitions.
#[derive(Debug)]
pub struct FetchWaiter {
    missing: AtomicI64,
    done: AtomicBool,
    notify: Notify,
}

impl FetchWaiter {
    /// A waiter that is satisfied by `missing` bytes of progress.
    pub fn new(missing: i64) -> Arc<Self> {
        Arc::new(Self { missing: AtomicI64::new(missing), done: AtomicBool::new(false), notify: Notify::new() })
    }

    /// Resolves when enough has arrived or something happened that must be answered at once.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// The request is answered: lists may drop this waiter.
    pub fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// Sets what is still missing for another round of waiting.
    pub fn rearm(&self, missing: i64) {
        self.missing.store(missing, Ordering::Release);
    }

    fn credit(&self, bytes: i64) {
        if self.missing.fetch_sub(bytes, Ordering::AcqRel) <= bytes {
            self.notify.notify_one();
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// The fetches parked on one partition.
#[derive(Debug, Default)]
pub struct FetchWaiters {
    count: AtomicUsize,
    list: Mutex<Vec<Arc<FetchWaiter>>>,
}

/// Below this many entries a list is not worth sweeping when it grows.
const SWEEP_FROM: usize = 32;

impl FetchWaiters {
    /// Enters `waiter`. The caller must look at the partition's ends again afterwards.
    pub fn register(&self, waiter: &Arc<FetchWaiter>) {
        let mut list = self.list.lock();
        if list.len() >= SWEEP_FROM && list.len() == list.capacity() {
            list.retain(|w| !w.is_done());
        }
        list.push(Arc::clone(waiter));
        self.count.store(list.len(), Ordering::Release);
        drop(list);
        fence(Ordering::SeqCst);
    }

    /// `bytes` more have become readable: wakes those who have enough now.
    pub fn progressed(&self, bytes: i64) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut list = self.list.lock();
        list.retain(|waiter| {
            if waiter.is_done() {
                return false;
            }
            waiter.credit(bytes);
            true
        });
        self.count.store(list.len(), Ordering::Release);
    }

    /// Leadership, the topic or the log changed: everybody must look again.
    pub fn wake_all(&self) {
        self.progressed(i64::MAX / 4);
    }
}

/// A produce that waits for several partitions: opens when each has said so, or has failed.
#[derive(Debug)]
pub struct CommitGate {
    remaining: AtomicUsize,
    notify: Notify,
}

impl CommitGate {
    /// A gate that opens after `partitions` calls of [`CommitGate::release`].
    pub fn new(partitions: usize) -> Arc<Self> {
        Arc::new(Self { remaining: AtomicUsize::new(partitions), notify: Notify::new() })
    }

    /// One more [`CommitGate::release`] is needed.
    pub fn hold(&self) {
        self.remaining.fetch_add(1, Ordering::AcqRel);
    }

    /// One partition has committed (or can no longer do so).
    pub fn release(&self) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.notify.notify_one();
        }
    }

    /// Resolves when every partition released the gate.
    pub async fn wait(&self) {
        if self.remaining.load(Ordering::Acquire) > 0 {
            self.notify.notified().await;
        }
    }
}

/// The produces parked on one partition, in the order of the offsets they wait for.
#[derive(Debug)]
pub struct CommitWaiters {
    /// The lowest high watermark that anyone waits for; `i64::MAX` when nobody does.
    lowest: AtomicI64,
    queue: Mutex<VecDeque<(i64, Arc<CommitGate>)>>,
}

impl Default for CommitWaiters {
    fn default() -> Self {
        Self { lowest: AtomicI64::new(i64::MAX), queue: Mutex::new(VecDeque::new()) }
    }
}

impl CommitWaiters {
    /// `gate` is released when the high watermark reaches `offset`. The caller calls
    /// [`CommitWaiters::reached`] with the high watermark as it stands, afterwards.
    pub fn register(&self, offset: i64, gate: Arc<CommitGate>) {
        let mut queue = self.queue.lock();
        let at = queue.partition_point(|(o, _)| *o <= offset);
        queue.insert(at, (offset, gate));
        self.publish_lowest(&queue);
        drop(queue);
        fence(Ordering::SeqCst);
    }

    /// The high watermark stands at `high_watermark`: releases all that waited for no more than that.
    pub fn reached(&self, high_watermark: i64) {
        fence(Ordering::SeqCst);
        if self.lowest.load(Ordering::Acquire) > high_watermark {
            return;
        }
        let mut queue = self.queue.lock();
        while queue.front().is_some_and(|(offset, _)| *offset <= high_watermark) {
            if let Some((_, gate)) = queue.pop_front() {
                gate.release();
            }
        }
        self.publish_lowest(&queue);
    }

    /// Leadership is gone: nobody's offset will be committed by this replica.
    pub fn release_all(&self) {
        self.reached(i64::MAX - 1);
    }

    fn publish_lowest(&self, queue: &VecDeque<(i64, Arc<CommitGate>)>) {
        self.lowest.store(queue.front().map_or(i64::MAX, |(offset, _)| *offset), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_fetch_wakes_when_enough_bytes_came_over_all_partitions() {
        let (a, b) = (FetchWaiters::default(), FetchWaiters::default());
        let waiter = FetchWaiter::new(100);
        a.register(&waiter);
        b.register(&waiter);
        a.progressed(60);
        assert!(waiter.wait().now_or_never().is_none(), "60 of 100 are not enough");
        b.progressed(40);
        assert!(waiter.wait().now_or_never().is_some());
    }

    #[test]
    fn finished_fetches_leave_the_lists() {
        let list = FetchWaiters::default();
        for _ in 0..10_000 {
            let waiter = FetchWaiter::new(1);
            list.register(&waiter);
            waiter.finish();
        }
        assert!(list.list.lock().len() <= 2 * SWEEP_FROM, "idle long polls must not pile up");
        list.progressed(1);
        assert_eq!(list.count.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_gate_opens_when_the_last_partition_commits() {
        let (a, b) = (CommitWaiters::default(), CommitWaiters::default());
        let gate = CommitGate::new(2);
        a.register(10, Arc::clone(&gate));
        b.register(5, Arc::clone(&gate));
        a.reached(9);
        b.reached(7);
        assert!(gate.wait().now_or_never().is_none(), "the first partition stands at 9 of 10");
        a.reached(10);
        assert!(gate.wait().now_or_never().is_some());
    }

    #[test]
    fn commits_are_released_in_offset_order_whatever_the_order_of_registration() {
        let waiters = CommitWaiters::default();
        let gates: Vec<_> = [30, 10, 20]
            .into_iter()
            .map(|offset| {
                let gate = CommitGate::new(1);
                waiters.register(offset, Arc::clone(&gate));
                (offset, gate)
            })
            .collect();
        waiters.reached(20);
        for (offset, gate) in gates {
            assert_eq!(gate.wait().now_or_never().is_some(), offset <= 20, "{offset}");
        }
    }
}
