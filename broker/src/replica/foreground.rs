//! Whether producers wait for this broker: for its own flushes, or for what it fetches as an in-sync follower.
//!
//! Replicas that catch up are throttled while they do. Must never: cost a produce more than a look at one flag.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long after the last of them producers are taken to be there.
const LASTS: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Foreground {
    /// Since the last look.
    noted: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Foreground {
    /// A producer waits.
    pub(super) fn note(&self) {
        // Most often it is noted already: the flag's cache line stays shared.
        if !self.noted.load(Ordering::Relaxed) {
            self.noted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a producer waited a moment ago.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        let mut last = self.last.lock();
        if self.noted.load(Ordering::Relaxed) {
            self.noted.store(false, Ordering::Relaxed);
            *last = Some(now);
        }
        last.is_some_and(|last| now.saturating_duration_since(last) < LASTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_counts_for_a_while() {
        let (foreground, start) = (Foreground::default(), Instant::now());
        assert!(!foreground.is_active(start));
        foreground.note();
        foreground.note();
        assert!(foreground.is_active(start));
        assert!(foreground.is_active(start + LASTS / 2));
        assert!(!foreground.is_active(start + LASTS));
        foreground.note();
        assert!(foreground.is_active(start + LASTS * 5), "from the look that found it");
        assert!(foreground.is_active(start + LASTS * 6 - Duration::from_millis(1)));
    }
}
