//! A byte rate limit for background I/O: compaction (`log.cleaner.io.max.bytes.per.second`), moves and the scrub.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use crate::Env;

/// Longest sleep between two checks of the stop flag.
const NAP: Duration = Duration::from_millis(100);

/// Shared by all threads under one limit.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// The bits of an `f64`.
    bytes_per_second: AtomicU64,
    /// Time at which the rate allows the next bytes.
    paid_at: Mutex<Option<Duration>>,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second: AtomicU64::new(bytes_per_second.to_bits()), paid_at: Mutex::new(None) }
    }

    /// Takes effect at once, also for waiting threads. 0 blocks all.
    pub(crate) fn set_rate(&self, bytes_per_second: f64) {
        let mut paid_at = self.paid_at.lock();
        if self.rate() != bytes_per_second {
            self.bytes_per_second.store(bytes_per_second.to_bits(), Ordering::Relaxed);
            *paid_at = None;
        }
    }

    pub(crate) fn rate(&self) -> f64 {
        f64::from_bits(self.bytes_per_second.load(Ordering::Relaxed))
    }

    /// Waits until the rate allows more bytes, then acquires `bytes`. Ends early when `stop` is set.
    pub(crate) fn acquire(&self, env: &dyn Env, bytes: u64, stop: &AtomicBool) {
        while self.rate() <= 0.0 && !stop.load(Ordering::Acquire) {
            env.sleep(NAP);
        }
        let rate = self.rate();
        let price = Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX);
        if price < Duration::from_nanos(1) {
            return;
        }
        let until = {
            let mut paid_at = self.paid_at.lock();
            let now = env.now();
            let from = paid_at.map_or(now, |at| at.max(now));
            *paid_at = from.checked_add(price);
            from
        };
        while !stop.load(Ordering::Acquire) && self.rate() == rate {
            let left = until.saturating_sub(env.now());
            if left.is_zero() {
                return;
            }
            env.sleep(left.min(NAP));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Instant};

    use super::*;
    use crate::MachineEnv;

    #[test]
    fn no_limit_costs_nothing_and_a_limit_is_kept() {
        let (env, stop) = (&MachineEnv::default(), AtomicBool::new(false));
        let free = Throttle::new(f64::MAX);
        free.acquire(env, u64::MAX, &stop);
        assert!(free.paid_at.lock().is_none());
        let tight = Throttle::new(100_000.0);
        let began = Instant::now();
        (0..6).for_each(|_| tight.acquire(env, 1000, &stop));
        assert!(began.elapsed() >= Duration::from_millis(50), "five were to be paid for");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| (0..3).for_each(|_| tight.acquire(env, u64::MAX / 2, &stop)));
            while !waiting.is_finished() {
                // A waiting thread must notice a new rate, and a rate of 0.
                for rate in [0.0, 1.0, f64::MAX] {
                    tight.set_rate(rate);
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        tight.set_rate(1.0);
        stop.store(true, Ordering::Release);
        tight.acquire(env, u64::MAX, &stop);
        tight.acquire(env, 1, &stop);
    }
}
