//! Which way a round of logs is synced: by the journal, or by a sync of each segment.
//!
//! The journal costs one sync however many logs there are, and writes all bytes twice: now, and later with the segments. A sync of the
//! segments costs one for each, several at once, and writes them once. Both costs are of this disk, measured as rounds go by:
//!
//! - journal: `sync + bytes / bandwidth`, and half as much again for the bytes that the segments still have to write;
//! - segments: `sync * logs + bytes / bandwidth`.
//!
//! A measurement is a time by the clock, so that a thread that did not run for a moment, or a disk that hung once, is in it, too. Such a
//! sample must not decide for long:
//!
//! - A sample counts for one part in 16, and for 4 times the estimate at most: one sample raises an estimate by less than a fifth. A disk
//!   that stays slow is known after some dozens of rounds all the same.
//! - Only rounds by the journal measure its sync, so that an estimate that is too high would never be put right. Where this estimate alone
//!   decides for the segments, so that with the default the journal would be chosen, each such round takes it 1/1024 of the way back to the
//!   default. A journal that was slow for a while gets its chance again; of one that stays slow, a round in some hundreds is a trial.
//!
//! The bandwidth does not return: segments are measured with it, and would pay for it in what their sync is taken for.
//!
//! Must never: depend on anything but its arguments.

use std::time::Duration;

/// How a round is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One write and one sync for all.
    Journal,
    /// A sync of each log's segments.
    Segments,
}

/// A new measurement counts for one part in so many.
const MEMORY: f64 = 16.0;
/// It counts for so many times the estimate at most.
const SPIKE: f64 = 4.0;
/// Seconds that an estimate counts for at least in that bound: one of nothing could never rise.
const LEAST: f64 = 0.000_02;
/// A round that the journal does not get because of what its sync is taken for counts for one part in so many.
const OBLIVION: f64 = 1024.0;
/// Rounds of less show what a sync costs, others what bytes cost.
const SMALL: u64 = 64 << 10;
/// Bytes a second are within these bounds: a page cache that takes everything at once says nothing of the disk.
const BANDWIDTH: (f64, f64) = (50e6, 4e9);

/// What was measured, in seconds and bytes a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    journal_sync: f64,
    segment_sync: f64,
    bandwidth: f64,
}

impl Default for Costs {
    /// Of a usual SSD, until more is known.
    fn default() -> Self {
        Self { journal_sync: 0.000_2, segment_sync: 0.000_6, bandwidth: 1e9 }
    }
}

/// The estimate after a measurement.
fn approach(estimate: f64, measured: f64) -> f64 {
    let bounded = measured.min(SPIKE * estimate.max(LEAST));
    estimate + (bounded - estimate) / MEMORY
}

impl Costs {
    /// A round by the journal.
    pub(super) fn note_journal(&mut self, took: Duration, bytes: u64) {
        let took = took.as_secs_f64();
        if bytes <= SMALL {
            self.journal_sync = approach(self.journal_sync, took);
        } else if took > self.journal_sync {
            let measured = bytes as f64 / (took - self.journal_sync);
            self.bandwidth = approach(self.bandwidth, measured.clamp(BANDWIDTH.0, BANDWIDTH.1));
        }
    }

    /// A round of some segments that were synced side by side.
    pub(super) fn note_segments(&mut self, took: Duration, segments: usize, bytes: u64) {
        let written = bytes as f64 / self.bandwidth;
        let each = (took.as_secs_f64() - written) / segments.max(1) as f64;
        self.segment_sync = approach(self.segment_sync, each.max(0.0));
    }

    /// The way of the next round, of so many logs with so many new bytes.
    pub(super) fn decide(&mut self, logs: usize, bytes: u64) -> Way {
        let way = choose(self, logs, bytes);
        let unmeasured = Self { journal_sync: Self::default().journal_sync, ..*self };
        if way == Way::Segments && choose(&unmeasured, logs, bytes) == Way::Journal {
            self.journal_sync += (unmeasured.journal_sync - self.journal_sync) / OBLIVION;
        }
        way
    }
}

/// The cheaper way for so many logs with so many new bytes.
fn choose(costs: &Costs, logs: usize, bytes: u64) -> Way {
    let write = bytes as f64 / costs.bandwidth;
    let journal = costs.journal_sync + 1.5 * write;
    let segments = costs.segment_sync * logs as f64 + write;
    if journal <= segments { Way::Journal } else { Way::Segments }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_logs_or_few_bytes_go_by_the_journal() {
        let costs = Costs::default();
        let cases = [
            (1, 1 << 10, Way::Journal),
            (1, 16 << 10, Way::Journal),
            (16, 256 << 10, Way::Journal),
            (100, 10 << 20, Way::Journal),
            (1, 4 << 20, Way::Segments),
            (2, 16 << 20, Way::Segments),
        ];
        for (logs, bytes, way) in cases {
            assert_eq!(choose(&costs, logs, bytes), way, "{logs} logs, {bytes} bytes");
        }
    }

    #[test]
    fn a_disk_without_a_wait_needs_no_journal() {
        let mut costs = Costs::default();
        for _ in 0..200 {
            costs.note_segments(Duration::from_micros(1), 1, 100);
        }
        assert_eq!(choose(&costs, 1, 16 << 10), Way::Segments);
    }

    #[test]
    fn measurements_move_the_border() {
        let mut slow = Costs::default();
        for _ in 0..200 {
            slow.note_segments(Duration::from_millis(20), 1, 100);
        }
        assert_eq!(choose(&slow, 1, 16 << 20), Way::Journal);
        for _ in 0..200 {
            slow.note_journal(Duration::from_millis(400), 16 << 20);
        }
        assert_eq!(choose(&slow, 1, 16 << 20), Way::Segments, "a slow disk writes bytes once");
    }

    const STALL: Duration = Duration::from_secs(5);

    #[test]
    fn a_stall_does_not_decide_against_the_journal() {
        let cases = [
            (1, 1, Way::Journal),
            (5, 1, Way::Journal),
            (8, 1, Way::Segments),
            (20, 12, Way::Journal),
            (40, 12, Way::Segments),
        ];
        for (stalls, logs, way) in cases {
            let mut costs = Costs::default();
            (0..stalls).for_each(|_| costs.note_journal(STALL, 4 << 10));
            assert_eq!(choose(&costs, logs, 1 << 10), way, "{logs} logs after {stalls} stalls");
        }
    }

    #[test]
    fn a_stall_does_not_decide_against_the_segments() {
        for (stalls, way) in [(1, Way::Segments), (5, Way::Segments), (12, Way::Journal)] {
            let mut costs = Costs::default();
            (0..stalls).for_each(|_| costs.note_segments(STALL, 1, 100));
            assert_eq!(choose(&costs, 1, 4 << 20), way, "after {stalls} stalls");
        }
    }

    #[test]
    fn an_estimate_of_nothing_rises_again() {
        let mut costs = Costs::default();
        (0..100_000).for_each(|_| costs.note_segments(Duration::ZERO, 1, 100));
        assert_eq!(choose(&costs, 1, 1 << 10), Way::Segments);
        (0..50).for_each(|_| costs.note_segments(Duration::from_millis(1), 1, 100));
        assert_eq!(choose(&costs, 1, 1 << 10), Way::Journal);
    }

    #[test]
    fn a_journal_that_was_slow_for_a_while_gets_its_chance_again() {
        for (slow_ms, logs) in [(8, 1_u64), (100, 12), (1000, 100)] {
            let (mut costs, bytes) = (Costs::default(), logs << 10);
            (0..500).for_each(|_| costs.note_journal(Duration::from_millis(slow_ms), 4 << 10));
            let mut is_chosen = || {
                let way = costs.decide(logs as usize, bytes);
                costs.note_segments(Duration::from_micros(600 * logs), logs as usize, bytes);
                way == Way::Journal
            };
            let rounds = (0..10_000).position(|_| is_chosen());
            assert!(rounds.is_some_and(|rounds| (1000..5000).contains(&rounds)), "{slow_ms} ms: {rounds:?} rounds");
            costs.note_journal(Duration::from_micros(200), 4 << 10);
            assert_eq!(choose(&costs, logs as usize, bytes), Way::Journal, "{slow_ms} ms: it is not slow any more");
        }
    }

    #[test]
    fn a_journal_that_stays_slow_is_tried_seldom() {
        for slow_ms in [2, 8, 100] {
            let (mut costs, mut tried) = (Costs::default(), 0);
            for _ in 0..10_000 {
                match costs.decide(1, 1 << 10) {
                    Way::Journal => {
                        tried += 1;
                        costs.note_journal(Duration::from_millis(slow_ms), 4 << 10);
                    }
                    Way::Segments => costs.note_segments(Duration::from_micros(600), 1, 1 << 10),
                }
            }
            assert!((20..100).contains(&tried), "{slow_ms} ms: {tried} rounds");
        }
    }

    #[test]
    fn what_is_cheaper_by_the_segments_anyway_forgets_nothing() {
        let mut costs = Costs::default();
        (0..500).for_each(|_| costs.note_journal(Duration::from_millis(8), 4 << 10));
        for (logs, bytes) in [(0, 0), (1, 16 << 20)] {
            (0..10_000).for_each(|_| assert_eq!(costs.decide(logs, bytes), Way::Segments));
        }
        assert!(costs.journal_sync > 0.007_9, "{costs:?}");
    }
}
