//! How fast replicas catch up while producers wait for other partitions.
//!
//! After each step (a request, its answer, the flush of what it brought) nothing more is fetched to catch up for a multiple of the time that the
//! step took: disk, network and processors are the producers' for most of the time, and where they are busy, steps are rarer. Where this would never end, since the logs
//! grow nearly as fast, the multiple is halved and the size of an answer doubled until it does. Must never: do I/O.

use std::time::Duration;

use tokio::time::Instant;

/// The pause, in steps. Measured by `benches/cluster/catch-up`: with a longer one producers gain little.
const SHARE: u32 = 3;
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(250);
/// How often the speed is looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// What catches up has to come nearer by as much as its logs grow.
const GAIN: i64 = 2;
/// Bytes of an answer that are fetched to catch up, all partitions together.
const BYTES: i32 = 512 << 10;
/// From here on there are no pauses.
const MOST_STEPS: u32 = 4;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// Halvings of the pause.
    steps: u32,
    since: Option<Instant>,
    /// Records since then: fetched to catch up, and how far their leaders' logs grew.
    fetched: i64,
    grown: i64,
}

impl Pace {
    /// A partition that catches up fetched so many records, while its leader's log grew by so many.
    pub(super) fn note(&mut self, fetched: i64, grown: i64) {
        self.fetched = self.fetched.saturating_add(fetched);
        self.grown = self.grown.saturating_add(grown);
    }

    /// What all partitions that catch up may bring with the next answer.
    pub(super) fn bytes(&self) -> i32 {
        BYTES << self.steps
    }

    /// How long to pause after a step that took so long.
    pub(super) fn pause(&self, step: Duration) -> Duration {
        if self.steps >= MOST_STEPS { Duration::ZERO } else { (step * SHARE / (1 << self.steps)).min(LONGEST) }
    }

    /// Looks at the speed, once a period.
    pub(super) fn adapt(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < PERIOD {
            return;
        }
        let enough = self.grown.saturating_mul(GAIN);
        if self.fetched < enough {
            self.steps = (self.steps + 1).min(MOST_STEPS);
        } else if self.fetched >= enough.saturating_mul(2) {
            self.steps = self.steps.saturating_sub(1);
        }
        (self.since, self.fetched, self.grown) = (Some(now), 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(8);

    /// The pause after a step and the bytes of an answer, after periods of so many (fetched, grown).
    fn after(periods: &[(i64, i64)]) -> (Duration, i32) {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        pace.adapt(now);
        for (fetched, grown) in periods {
            now += PERIOD;
            pace.note(*fetched, *grown);
            pace.adapt(now);
        }
        (pace.pause(STEP), pace.bytes())
    }

    #[test]
    fn a_pause_is_longer_than_the_step() {
        let pace = Pace::default();
        assert_eq!(pace.pause(STEP), STEP * 3);
        assert_eq!(pace.pause(Duration::from_secs(9)), LONGEST, "a disk that stands does not end it");
        assert_eq!(pace.pause(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn logs_that_grow_as_fast_are_caught_up_with_all_the_same() {
        assert_eq!(after(&[(1000, 200)]), (STEP * 3, BYTES), "fast enough");
        assert_eq!(after(&[(399, 200)]), (STEP * 3 / 2, BYTES * 2));
        assert_eq!(after(&[(399, 200); 3]), (STEP * 3 / 8, BYTES * 8));
        assert_eq!(after(&[(399, 200); 9]), (Duration::ZERO, BYTES * 16));
        assert_eq!(after(&[(399, 200), (500, 200)]), (STEP * 3 / 2, BYTES * 2), "just enough");
        assert_eq!(after(&[(399, 200), (800, 200)]), (STEP * 3, BYTES), "more than enough");
        assert_eq!(after(&[(0, 0), (0, 0)]), (STEP * 3, BYTES), "nothing to do");
    }

    #[test]
    fn the_speed_is_looked_at_once_a_period() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.adapt(now);
        pace.note(0, 100);
        pace.adapt(now + PERIOD - Duration::from_millis(1));
        assert_eq!(pace.bytes(), BYTES);
        pace.adapt(now + PERIOD);
        assert_eq!(pace.bytes(), BYTES * 2);
        pace.adapt(now + PERIOD * 2);
        assert_eq!(pace.bytes(), BYTES, "what was counted before counts no more");
    }
}
