//! Pauses between attempts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Doubling pauses with up to a fifth off, so that many clients do not come back at the same moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// The pause after `failures` earlier failures.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let full = self.first.saturating_mul(1 << failures.min(16)).min(self.most);
        full - full.mul_f64(0.2 * f64::from(weak_random() as u16) / f64::from(u16::MAX))
    }
}

/// A number that is hard to foresee, good enough to spread clients and choose partitions; for nothing secret.
pub(crate) fn weak_random() -> u64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let mut x = nanos ^ u64::from(std::process::id()) << 32;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Now, in milliseconds since 1970, as records carry it.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for (failures, full) in [(0, 100), (1, 200), (3, 800), (4, 1000), (40, 1000)] {
            let pause = backoff.pause(failures).as_millis();
            assert!((full * 8 / 10..=full).contains(&pause), "{failures}: {pause}");
        }
    }
}
