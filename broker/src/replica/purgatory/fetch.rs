//! Parked fetches, by the bound that they read up to: an append of an open transaction wakes followers and consumers of
//! uncommitted records, but no `read_committed` consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::places::{Place, Places};
use crate::replica::read::ReadBound;

/// A parked fetch: wakes once enough bytes have become readable over all of its partitions.
#[derive(Debug)]
pub(in super::super) struct FetchWaiter {
    /// Bytes since it was made; it never goes back, so that no credit is lost between a pass and [`FetchWaiter::arm`].
    credited: AtomicI64,
    wakes_at: AtomicI64,
    notify: Notify,
}

impl FetchWaiter {
    /// A waiter that wakes for [`EVERYTHING`] only, until it is armed.
    pub(in super::super) fn new() -> Arc<Self> {
        Arc::new(Self { credited: AtomicI64::new(0), wakes_at: AtomicI64::new(i64::MAX), notify: Notify::new() })
    }

    /// Resolves when enough has arrived or something happened that must be answered at once.
    pub(in super::super) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// The credit so far. A pass that begins after this call finds all that was credited.
    pub(in super::super) fn credited(&self) -> i64 {
        self.credited.load(Ordering::SeqCst)
    }

    /// Wakes when `missing` bytes more have come than there were at `credited`.
    pub(in super::super) fn arm(&self, credited: i64, missing: i64) {
        let wakes_at = credited.saturating_add(missing);
        self.wakes_at.store(wakes_at, Ordering::SeqCst);
        if self.credited() >= wakes_at {
            self.notify.notify_one();
        }
    }

    fn credit(&self, bytes: i64) {
        if bytes >= EVERYTHING {
            self.notify.notify_one();
            return;
        }
        let credited = self.credited.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes);
        if credited >= self.wakes_at.load(Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }
}

const BOUNDS: [ReadBound; 3] = [ReadBound::HighWatermark, ReadBound::LastStable, ReadBound::LogEnd];

/// Wakes every fetch, whatever it waits for.
pub(in super::super) const EVERYTHING: i64 = i64::MAX / 4;

/// Bytes that have become readable below each bound; 0 where the bound stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Progress {
    /// Below the high watermark.
    pub high_watermark: i64,
    /// Below the last stable offset.
    pub last_stable: i64,
    /// Below the log end.
    pub log_end: i64,
}

impl Progress {
    fn below(&self, bound: ReadBound) -> i64 {
        match bound {
            ReadBound::HighWatermark => self.high_watermark,
            ReadBound::LastStable => self.last_stable,
            ReadBound::LogEnd => self.log_end,
        }
    }
}

#[derive(Debug, Default)]
struct Waiters {
    count: AtomicUsize,
    list: Mutex<Places<Arc<FetchWaiter>>>,
}

/// The fetches parked on one partition.
#[derive(Debug, Default)]
pub(in super::super) struct FetchWaiters {
    high_watermark: Waiters,
    last_stable: Waiters,
    log_end: Waiters,
}

impl FetchWaiters {
    fn of(&self, bound: ReadBound) -> &Waiters {
        match bound {
            ReadBound::HighWatermark => &self.high_watermark,
            ReadBound::LastStable => &self.last_stable,
            ReadBound::LogEnd => &self.log_end,
        }
    }

    /// Enters `waiter`. The caller must look at the partition's ends again afterwards, and must call
    /// [`FetchWaiters::leave`] once.
    pub(in super::super) fn register(&self, bound: ReadBound, waiter: &Arc<FetchWaiter>) -> Place {
        let waiters = self.of(bound);
        let mut list = waiters.list.lock();
        let place = list.insert(Arc::clone(waiter));
        waiters.count.store(list.len(), Ordering::Release);
        drop(list);
        fence(Ordering::SeqCst);
        place
    }

    /// Removes a waiter.
    pub(in super::super) fn leave(&self, bound: ReadBound, place: Place) {
        let waiters = self.of(bound);
        let mut list = waiters.list.lock();
        list.remove(place);
        waiters.count.store(list.len(), Ordering::Release);
    }

    /// More has become readable: wakes the fetches that have enough now. Between the new ends and this call stands a
    /// sequentially consistent fence.
    pub(in super::super) fn credit(&self, progress: Progress) {
        for bound in BOUNDS {
            let (waiters, bytes) = (self.of(bound), progress.below(bound));
            if bytes > 0 && waiters.count.load(Ordering::Acquire) > 0 {
                waiters.list.lock().iter().for_each(|waiter| waiter.credit(bytes));
            }
        }
    }

    /// Leadership, the topic, the log or its start changed: every fetch must look again.
    pub(in super::super) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        self.credit(Progress { high_watermark: EVERYTHING, last_stable: EVERYTHING, log_end: EVERYTHING });
    }

    /// Fetches that wait here.
    pub(in super::super) fn len(&self) -> usize {
        BOUNDS.into_iter().map(|bound| self.of(bound).count.load(Ordering::Acquire)).sum()
    }

    /// Whether none waits.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_fetch_wakes_when_enough_bytes_came_over_all_partitions() {
        let (a, b) = (FetchWaiters::default(), FetchWaiters::default());
        let waiter = FetchWaiter::new();
        waiter.arm(0, 100);
        a.register(ReadBound::LogEnd, &waiter);
        b.register(ReadBound::LogEnd, &waiter);
        a.credit(Progress { log_end: 60, ..Progress::default() });
        assert!(waiter.wait().now_or_never().is_none(), "60 of 100 are not enough");
        b.credit(Progress { log_end: 40, ..Progress::default() });
        assert!(waiter.wait().now_or_never().is_some());
    }

    #[test]
    fn no_credit_is_lost_between_a_pass_and_its_arming() {
        let list = FetchWaiters::default();
        let waiter = FetchWaiter::new();
        list.register(ReadBound::LogEnd, &waiter);
        let bytes = |log_end| Progress { log_end, ..Progress::default() };
        list.credit(bytes(70));
        // A pass begins here and finds these bytes; others come while it looks.
        let before = waiter.credited();
        list.credit(bytes(40));
        waiter.arm(before, 50);
        assert!(waiter.wait().now_or_never().is_none(), "40 of 50");
        list.credit(bytes(10));
        assert!(waiter.wait().now_or_never().is_some());
        let before = waiter.credited();
        list.credit(bytes(60));
        waiter.arm(before, 50);
        assert!(waiter.wait().now_or_never().is_some(), "60 of 50, before it was armed");
        (0..10).for_each(|_| list.wake_all());
        waiter.arm(waiter.credited(), 50);
        assert!(waiter.wait().now_or_never().is_some(), "a wake-up of all");
        assert!(waiter.wait().now_or_never().is_none(), "ten of them are one, and no credit");
    }

    #[test]
    fn a_fetch_wakes_by_its_own_bound_only() {
        let progress = [
            Progress { high_watermark: 1, ..Progress::default() },
            Progress { last_stable: 1, ..Progress::default() },
            Progress { log_end: 1, ..Progress::default() },
        ];
        for (at, bound) in BOUNDS.into_iter().enumerate() {
            for (moved, progress) in progress.into_iter().enumerate() {
                let list = FetchWaiters::default();
                let waiter = FetchWaiter::new();
                waiter.arm(0, 1);
                list.register(bound, &waiter);
                list.credit(progress);
                assert_eq!(waiter.wait().now_or_never().is_some(), at == moved, "{bound:?} {progress:?}");
                list.wake_all();
                assert!(waiter.wait().now_or_never().is_some(), "{bound:?}");
            }
        }
    }

    #[test]
    fn a_fetch_that_left_is_in_no_list() {
        let list = FetchWaiters::default();
        for bound in BOUNDS {
            let places: Vec<_> = (0..10_000).map(|_| list.register(bound, &FetchWaiter::new())).collect();
            assert_eq!(list.len(), 10_000);
            places.into_iter().for_each(|place| list.leave(bound, place));
            assert_eq!(list.len(), 0);
            assert_eq!(list.of(bound).list.lock().len(), 0);
        }
    }
}
