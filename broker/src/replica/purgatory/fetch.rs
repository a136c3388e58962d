//! Parked fetches, by the bound that they read up to: an append of an open transaction wakes followers and consumers of
//! uncommitted records, but no `read_committed` consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use esker_core::fetch_session::Slot;
use parking_lot::Mutex;

use super::places::{Place, Places};
use super::waiter::{EVERYTHING, FetchWaiter, Progress};
use super::watch::{ReadyList, Watches};
use crate::replica::read::ReadBound;

const BOUNDS: [ReadBound; 3] = [ReadBound::HighWatermark, ReadBound::LastStable, ReadBound::LogEnd];

#[derive(Debug, Default)]
struct Waiters {
    count: AtomicUsize,
    list: Mutex<Places<Arc<FetchWaiter>>>,
}

/// The fetches parked on one partition, and the sessions that watch it.
#[derive(Debug, Default)]
pub(in super::super) struct FetchWaiters {
    high_watermark: Waiters,
    last_stable: Waiters,
    log_end: Waiters,
    watches: Watches,
}

impl FetchWaiters {
    fn of(&self, bound: ReadBound) -> &Waiters {
        match bound {
            ReadBound::HighWatermark => &self.high_watermark,
            ReadBound::LastStable => &self.last_stable,
            ReadBound::LogEnd => &self.log_end,
        }
    }

    /// Registers `waiter`. The caller must read the partition's offsets again afterwards, and must call [`FetchWaiters::leave`]
    /// once.
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

    /// Adds the partition to `ready` whenever it moves, as `slot`. The caller must read the partition afterwards, and must call
    /// [`FetchWaiters::unwatch`] once.
    pub(in super::super) fn watch(&self, ready: &Arc<ReadyList>, slot: Slot, bound: ReadBound) -> Place {
        self.watches.insert(ready, slot, bound)
    }

    /// Ends a registration of [`FetchWaiters::watch`].
    pub(in super::super) fn unwatch(&self, place: Place) {
        self.watches.remove(place);
    }

    /// Sessions that watch the partition.
    pub(in super::super) fn watching(&self) -> usize {
        self.watches.len()
    }

    /// Credits a move of the partition: wakes the fetches that have enough now, and adds it to the ready-lists. The caller executes
    /// a sequentially consistent fence between the publication of the new offsets and this call.
    pub(in super::super) fn credit(&self, progress: Progress) {
        self.watches.report(progress);
        for bound in BOUNDS {
            let (waiters, bytes) = (self.of(bound), progress.below(bound));
            if bytes > 0 && waiters.count.load(Ordering::Acquire) > 0 {
                waiters.list.lock().iter().for_each(|waiter| waiter.credit(bytes));
            }
        }
    }

    /// Wakes every fetch: leadership, the topic, the log or its start changed.
    pub(in super::super) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        self.credit(Progress {
            high_watermark: EVERYTHING,
            last_stable: EVERYTHING,
            log_end: EVERYTHING,
            moves_high_watermark: true,
        });
    }

    /// Number of waiting fetches.
    pub(in super::super) fn len(&self) -> usize {
        BOUNDS.into_iter().map(|bound| self.of(bound).count.load(Ordering::Acquire)).sum()
    }

    /// Whether no fetch waits and no session watches.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.watches.is_empty()
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
        // A pass begins here and finds these bytes; others are credited while it reads.
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
