//! Rates over the last minute, from counters that scrapes look at: the sample is the scrape.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a rate is over, where scrapes were so early.
const WINDOW: Duration = Duration::from_secs(60);
/// Samples of scrapes that follow each other faster are left out.
const APART: Duration = Duration::from_secs(1);

/// The samples by counter. Callers have few: one a listener, one a worker.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<String, VecDeque<(Instant, f64)>>>);

impl Rates {
    /// How much a counter that began with 0 at `started` rose a second.
    pub(super) fn per_second(&self, counter: &str, value: f64, started: Instant, now: Instant) -> f64 {
        let mut rates = self.0.lock();
        let samples = rates.entry(counter.to_owned()).or_default();
        let is_old = |sample: Option<&(Instant, f64)>| sample.is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW);
        while is_old(samples.get(1)) {
            samples.pop_front();
        }
        let (since, before) = samples.front().copied().unwrap_or((started, 0.0));
        if samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= APART) {
            samples.push_back((now, value));
        }
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        if seconds <= 0.0 { 0.0 } else { ((value - before) / seconds).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_last_minute_or_since_the_start() {
        let (rates, start) = (Rates::default(), Instant::now());
        let rate = |at: u64, value: f64| rates.per_second("c", value, start, start + Duration::from_secs(at)).round();
        assert_eq!(rate(10, 100.0), 10.0);
        assert_eq!(rate(20, 100.0), 0.0);
        assert_eq!(rate(40, 400.0), 10.0);
        assert_eq!(rate(80, 400.0), 5.0, "since the sample of a minute ago");
        assert_eq!(rate(1000, 400.0), 0.0);
        assert!(rates.0.lock()["c"].len() <= 2);
        (0..1000).for_each(|_| assert_eq!(rate(1001, 400.0), 0.0));
        assert!(rates.0.lock()["c"].len() <= 3, "one a second");
    }
}
