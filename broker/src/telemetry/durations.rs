//! How long things took: counts by bucket, four buckets for each power of two of microseconds, so that a quantile is right to a quarter.
//!
//! Quantiles are those of the last five minutes, as Kafka's dashboards expect them: a slow minute does not stay in them for ever. Sums and
//! counts are since the start. What was recorded between two scrapes counts as of the second.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::page::Rows;

/// Values up to 2^36 (µs: 19 hours) have buckets of their own.
const BUCKETS: usize = 4 * 35;
/// How long one window of the quantiles is.
const WINDOW: Duration = Duration::from_secs(60);
/// Windows that the quantiles are over.
const WINDOWS: usize = 5;

/// The quantiles that Strimzi's dashboards read, and their labels.
const QUANTILES: [(&str, f64); 6] =
    [("0.50", 0.5), ("0.75", 0.75), ("0.95", 0.95), ("0.98", 0.98), ("0.99", 0.99), ("0.999", 0.999)];

fn bucket_of(value: u64) -> usize {
    if value < 4 {
        return value as usize;
    }
    let power = 63 - value.leading_zeros() as usize;
    let quarter = (value >> (power - 2)) as usize & 3;
    ((power - 1) * 4 + quarter).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn bound_of(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64,
        _ => ((5 + bucket as u64 % 4) << (bucket / 4 - 1)) - 1,
    }
}

/// What one thread recorded since the last scrape.
#[derive(Debug)]
pub(super) struct Recorded {
    buckets: [u32; BUCKETS],
    sum: u64,
}

impl Default for Recorded {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Recorded {
    pub(super) fn add(&mut self, value: u64) {
        if let Some(count) = self.buckets.get_mut(bucket_of(value)) {
            *count = count.saturating_add(1);
        }
        self.sum = self.sum.saturating_add(value);
    }
}

/// A window: its number since the start, and its counts.
type Window = (u64, Box<[u32; BUCKETS]>);

/// Everything recorded so far.
#[derive(Debug)]
pub(super) struct History {
    began: Instant,
    total: Box<[u64; BUCKETS]>,
    sum: u64,
    count: u64,
    recent: VecDeque<Window>,
}

impl History {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, total: Box::new([0; BUCKETS]), sum: 0, count: 0, recent: VecDeque::new() }
    }

    fn window(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / WINDOW.as_secs()
    }

    /// Takes over what a thread recorded, and empties that.
    pub(super) fn fold(&mut self, recorded: &mut Recorded, now: Instant) {
        if recorded.buckets.iter().all(|count| *count == 0) {
            return;
        }
        let mut window = self.open_window(now);
        let mut folded = 0;
        for ((total, recent), new) in self.total.iter_mut().zip(window.iter_mut()).zip(&recorded.buckets) {
            *total += u64::from(*new);
            *recent = recent.saturating_add(*new);
            folded += u64::from(*new);
        }
        self.recent.push_back((self.window(now), window));
        self.count += folded;
        self.sum = self.sum.saturating_add(recorded.sum);
        *recorded = Recorded::default();
    }

    /// The current window, taken out of the list.
    fn open_window(&mut self, now: Instant) -> Box<[u32; BUCKETS]> {
        let number = self.window(now);
        while self.recent.front().is_some_and(|(first, _)| *first + (WINDOWS as u64) <= number) {
            self.recent.pop_front();
        }
        match self.recent.pop_back() {
            Some((last, window)) if last == number => window,
            Some(other) => {
                self.recent.push_back(other);
                Box::new([0; BUCKETS])
            }
            None => Box::new([0; BUCKETS]),
        }
    }

    /// Values recorded since the start.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How many of them are at most `bound`, which is the bound of a bucket.
    fn at_most(&self, bound: u64) -> u64 {
        self.total.iter().take(bucket_of(bound) + 1).sum()
    }

    /// Counts of the last minutes, by bucket.
    fn recent(&self, now: Instant) -> [u64; BUCKETS] {
        let number = self.window(now);
        let mut all = [0; BUCKETS];
        for (_, window) in self.recent.iter().filter(|(first, _)| *first + WINDOWS as u64 > number) {
            all.iter_mut().zip(window.iter()).for_each(|(all, count)| *all += u64::from(*count));
        }
        all
    }

    /// A value that so large a share of the last minutes' values does not exceed; 0 where there are none.
    fn quantiles<const N: usize>(&self, shares: [f64; N], now: Instant) -> [u64; N] {
        let recent = self.recent(now);
        let all: u64 = recent.iter().sum();
        shares.map(|share| {
            let enough = (all as f64 * share).ceil() as u64;
            let mut seen = 0;
            let found = recent.iter().position(|count| {
                seen += count;
                seen >= enough && enough > 0
            });
            found.map_or(0, bound_of)
        })
    }

    /// Mean and maximum of the last minutes, as exact as the buckets are.
    pub(super) fn mean_and_max(&self, now: Instant) -> (f64, u64) {
        let recent = self.recent(now);
        let all: u64 = recent.iter().sum();
        let middle = |bucket: usize| (bound_of(bucket.saturating_sub(1)) + bound_of(bucket)) as f64 / 2.0;
        let sum: f64 = recent.iter().enumerate().map(|(bucket, count)| middle(bucket) * *count as f64).sum();
        let max = recent.iter().rposition(|count| *count > 0).map_or(0, bound_of);
        (if all == 0 { 0.0 } else { sum / all as f64 }, max)
    }

    /// The rows of a summary: quantiles divided by `unit`, and the count.
    pub(super) fn write_summary(&self, rows: &mut Rows<'_>, values: &[&str], unit: f64, now: Instant) {
        self.write_summary_as(rows, values, unit, now, self.count);
    }

    /// As [`History::write_summary`], with another count: of what took no time each time.
    pub(super) fn write_summary_as(&self, rows: &mut Rows<'_>, values: &[&str], unit: f64, now: Instant, count: u64) {
        let found = self.quantiles(QUANTILES.map(|(_, share)| share), now);
        for ((label, _), value) in QUANTILES.iter().zip(found) {
            rows.add_part("", values, Some(("quantile", label)), value as f64 / unit);
        }
        rows.add_part("_count", values, None, count);
    }

    /// The rows of a histogram in seconds, with buckets up to these bounds in µs.
    pub(super) fn write_buckets(&self, rows: &mut Rows<'_>, values: &[&str], bounds: &[u64]) {
        for bound in bounds {
            let seconds = (*bound as f64 / SECOND).to_string();
            rows.add_part("_bucket", values, Some(("le", &seconds)), self.at_most(bound - 1));
        }
        rows.add_part("_bucket", values, Some(("le", "+Inf")), self.count);
        rows.add_part("_sum", values, None, self.sum as f64 / SECOND);
        rows.add_part("_count", values, None, self.count);
    }
}

/// Microseconds in a millisecond.
pub(super) const MS: f64 = 1000.0;
/// Microseconds in a second.
const SECOND: f64 = 1_000_000.0;

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Durations of something that is rare enough for one lock: a request to the controller, a round of flushes.
#[derive(Debug)]
pub struct Durations(Mutex<History>);

impl Durations {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(History::new(now)))
    }

    /// It took so long, and ended now.
    pub fn record(&self, took: Duration, now: Instant) {
        let mut one = Recorded::default();
        one.add(micros(took));
        self.0.lock().fold(&mut one, now);
    }

    /// The rows of a summary in ms.
    pub fn write_summary(&self, rows: &mut Rows<'_>, values: &[&str], now: Instant) {
        self.0.lock().write_summary(rows, values, MS, now);
    }

    /// Mean and maximum of the last minutes, in ms.
    pub fn mean_and_max_ms(&self, now: Instant) -> (f64, f64) {
        let (mean, max) = self.0.lock().mean_and_max(now);
        (mean / MS, max as f64 / MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_without_gaps_and_a_quarter_wide() {
        let mut below = None;
        for bucket in 0..BUCKETS {
            let bound = bound_of(bucket);
            assert_eq!(bucket_of(bound), bucket, "{bound}");
            if bucket + 1 < BUCKETS {
                assert_eq!(bucket_of(bound + 1), bucket + 1, "{bound}");
            }
            if let Some(below) = below {
                assert!(bound > below && bound - below <= below / 4 + 1, "{below} {bound}");
            }
            below = Some(bound);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_forget_and_counts_do_not() {
        let start = Instant::now();
        let mut history = History::new(start);
        let mut recorded = Recorded::default();
        (1..=1000).for_each(|value| recorded.add(value));
        history.fold(&mut recorded, start);
        let [half, most] = history.quantiles([0.5, 0.99], start);
        assert!((500..=640).contains(&half) && (990..=1279).contains(&most), "{half} {most}");
        let (mean, max) = history.mean_and_max(start);
        assert!((400.0..=600.0).contains(&mean) && max >= 1000, "{mean} {max}");
        let later = start + WINDOW * 3;
        recorded.add(5);
        history.fold(&mut recorded, later);
        assert_eq!(history.count(), 1001);
        assert!(history.quantiles([0.5], later)[0] > 400);
        let much_later = start + WINDOW * 6;
        assert_eq!(history.quantiles([0.99], much_later), [5]);
        assert_eq!(history.quantiles([0.99], start + WINDOW * 60), [0]);
        assert_eq!((history.count(), history.sum, history.at_most(5)), (1001, 500_505, 6));
    }
}
