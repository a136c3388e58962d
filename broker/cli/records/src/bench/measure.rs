//! Measurements: a histogram of latencies, counts, and the CPU time of this process.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Latencies above this one are recorded as this one.
const LONGEST_US: u64 = 600_000_000;
const DIGITS: u8 = 3;

/// What was measured in one window of time.
#[derive(Debug)]
pub(super) struct Measurement {
    pub records: u64,
    pub bytes: u64,
    pub failed: u64,
    /// The first failure.
    pub failure: Option<String>,
    /// Microseconds.
    latency: Option<Histogram<u64>>,
}

impl Measurement {
    pub(super) fn new() -> Self {
        // The bounds are constants that the crate accepts.
        let latency = Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok();
        Self { records: 0, bytes: 0, failed: 0, failure: None, latency }
    }

    pub(super) fn record_latency(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US);
        if let Some(histogram) = &mut self.latency {
            histogram.saturating_record(micros.max(1));
        }
    }

    pub(super) fn record_failure(&mut self, error: &dyn std::fmt::Display) {
        self.failed += 1;
        self.failure.get_or_insert_with(|| error.to_string());
    }

    /// Adds what another task measured.
    pub(super) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.failed += other.failed;
        if self.failure.is_none() {
            self.failure.clone_from(&other.failure);
        }
        if let (Some(histogram), Some(other)) = (&mut self.latency, &other.latency) {
            // Both have the same bounds.
            let _ = histogram.add(other);
        }
    }

    /// Milliseconds at percentiles; `None` where nothing was measured.
    pub(super) fn latency(&self) -> Option<Latency> {
        let histogram = self.latency.as_ref().filter(|histogram| !histogram.is_empty())?;
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Some(Latency {
            mean: histogram.mean() / 1000.0,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// The window in which is measured, after the warm-up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub start: Instant,
    pub end: Instant,
}

impl Window {
    pub(super) fn after(warm_up: Duration, duration: Duration) -> Self {
        let start = Instant::now() + warm_up;
        Self { start, end: start + duration }
    }

    pub(super) fn contains(&self, at: Instant) -> bool {
        at >= self.start && at < self.end
    }
}

/// CPU time that this process has used so far; zero where the kernel has no /proc.
pub(super) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = cpu_ticks(&stat).unwrap_or_default();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64)
}

/// User and system time in a line of `/proc/PID/stat`. The name of the process may contain spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_merged() {
        let (mut a, mut b) = (Measurement::new(), Measurement::new());
        assert_eq!(a.latency(), None);
        for ms in 1..=50 {
            a.record_latency(Duration::from_millis(ms));
            b.record_latency(Duration::from_millis(50 + ms));
        }
        b.record_failure(&"broken");
        a.add(&b);
        let latency = a.latency().unwrap();
        assert!((latency.p50 - 50.0).abs() < 0.1 && (latency.p99 - 99.0).abs() < 0.1, "{latency:?}");
        assert!(latency.max >= 100.0);
        assert_eq!((a.failed, a.failure.as_deref()), (1, Some("broken")));
    }

    #[test]
    fn processor_time_is_read() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }
}
