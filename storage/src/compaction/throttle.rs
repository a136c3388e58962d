//! `log.cleaner.io.max.bytes.per.second`: compaction waits so that it leaves the disk to others.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Longest sleep before a stop is looked for.
const NAP: Duration = Duration::from_millis(100);

/// Shared by all that count against one limit.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: f64,
    /// When all that was taken so far is paid for.
    paid_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, paid_at: Mutex::new(None) }
    }

    /// Waits until what was taken before is paid for, then takes `bytes`. Ends early when `stop` is set.
    pub(super) fn take(&self, bytes: u64, stop: &AtomicBool) {
        let price = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second).unwrap_or_default();
        if price < Duration::from_nanos(1) {
            return;
        }
        let until = {
            let mut paid_at = self.paid_at.lock();
            let from = paid_at.map_or_else(Instant::now, |at| at.max(Instant::now()));
            *paid_at = from.checked_add(price);
            from
        };
        while !stop.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(NAP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_costs_nothing_and_a_limit_is_kept() {
        let stop = AtomicBool::new(false);
        let free = Throttle::new(f64::MAX);
        free.take(u64::MAX, &stop);
        assert!(free.paid_at.lock().is_none());
        let tight = Throttle::new(100_000.0);
        let began = Instant::now();
        (0..6).for_each(|_| tight.take(1000, &stop));
        assert!(began.elapsed() >= Duration::from_millis(50), "five were to be paid for");
        stop.store(true, Ordering::Release);
        tight.take(u64::MAX, &stop);
        tight.take(1, &stop);
    }
}
