//! A stand-in for the crate of this name, of which openraft uses these few types for its internal statistics.
//!
//! The original fills lookup tables for all sixteen precisions when the first histogram is made: 26 MB of resident memory
//! and, at the start of a broker, as much time as all the rest. openraft uses one precision. This one works its buckets
//! out: each power of two has four, so that a value is known within a quarter. It leaves when the original builds its
//! tables one by one.

use std::fmt;
use std::marker::PhantomData;

/// Buckets of a power of two, as a shift.
const SPLIT: u32 = 2;

/// Counts values by size. `T` is what the original labels time slots with; there are none here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// Grows with the largest value seen.
    counts: Vec<u64>,
    samples: u64,
    label: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a value: small values have their own.
fn bucket(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(SPLIT + 1);
    (shift as usize) * (1 << SPLIT) + (value >> shift) as usize
}

/// The smallest value of a bucket.
fn least(bucket: usize) -> u64 {
    let per_power = 1usize << SPLIT;
    let shift = (bucket / per_power).saturating_sub(1);
    ((bucket - shift * per_power) as u64) << shift
}

impl<T> Histogram<T> {
    /// One that has counted nothing.
    pub fn new() -> Self {
        Self { counts: Vec::new(), samples: 0, label: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let at = bucket(value);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count += times;
            self.samples += times;
        }
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.samples
    }

    /// The value (the least of its bucket) that `share` of all values do not exceed; 0 if there are none.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = ((self.samples as f64 * share).ceil() as u64).clamp(1, self.samples.max(1));
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return least(at);
            }
        }
        0
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.samples,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

/// Percentiles of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[n={} p50={} p90={} p99={} p99.9={}]", self.samples, self.p50, self.p90, self.p99, self.p99_9)
    }
}

/// Several histograms one above the other; a line of percentiles each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart<T = ()> {
    rows: Vec<(String, PercentileStats)>,
    label: PhantomData<T>,
}

impl<T> AsciiChart<T> {
    /// One without histograms.
    pub fn new() -> Self {
        Self { rows: Vec::new(), label: PhantomData }
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.rows.push((name.to_owned(), histogram.percentile_stats()));
        self
    }

    /// To be shown.
    pub fn compact(&self) -> &Self {
        self
    }

    /// To be shown.
    pub fn detailed(&self) -> &Self {
        self
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_hold_their_values() {
        let values =
            (0..2000).chain((11..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 7])).chain([u64::MAX]);
        let mut last = 0;
        for value in values {
            let at = bucket(value);
            assert!(at >= last && least(at) <= value && bucket(least(at)) == at, "{value}");
            assert!(value - least(at) <= value / 4, "{value} counts as {}", least(at));
            last = at;
        }
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        (1..=100).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p50, stats.p99), (100, 1, 48, 96));
        assert!(AsciiChart::new().add("a", histogram).compact().to_string().starts_with("a: [n=100"));
    }
}
