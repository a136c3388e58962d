//! One parked fetch, and the progress of a partition that may wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

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

    /// Resolves when enough bytes were credited, or on a wake-up that needs an answer at once.
    pub(in super::super) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// The credit so far. A pass that begins after this call finds all credited bytes.
    pub(in super::super) fn credited(&self) -> i64 {
        self.credited.load(Ordering::SeqCst)
    }

    /// Wakes when the credit is `missing` bytes above `credited`.
    pub(in super::super) fn arm(&self, credited: i64, missing: i64) {
        let wakes_at = credited.saturating_add(missing);
        self.wakes_at.store(wakes_at, Ordering::SeqCst);
        if self.credited() >= wakes_at {
            self.notify.notify_one();
        }
    }

    pub(super) fn wake(&self) {
        self.notify.notify_one();
    }

    pub(super) fn credit(&self, bytes: i64) {
        if bytes >= EVERYTHING {
            self.wake();
            return;
        }
        let credited = self.credited.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes);
        if credited >= self.wakes_at.load(Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }
}

/// The credit that wakes every fetch.
pub(in super::super) const EVERYTHING: i64 = i64::MAX / 4;

/// Bytes that have become readable below each bound; 0 for a bound that did not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Progress {
    /// Below the high watermark.
    pub high_watermark: i64,
    /// Below the last stable offset.
    pub last_stable: i64,
    /// Below the log end.
    pub log_end: i64,
    /// The high watermark moved, though it may make nothing of this append readable.
    pub moves_high_watermark: bool,
}

impl Progress {
    pub(super) fn below(&self, bound: ReadBound) -> i64 {
        match bound {
            ReadBound::HighWatermark => self.high_watermark,
            ReadBound::LastStable => self.last_stable,
            ReadBound::LogEnd => self.log_end,
        }
    }
}
