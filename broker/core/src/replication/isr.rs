//! When a follower joins the in-sync replicas, and when it leaves them.
//!
//! The rules are Kafka's (`Replica.updateFetchState`, `Partition.isFollowerInSync`, `Partition.isFollowerOutOfSync`, KIP-903), with two
//! differences. Where a record counts as committed only once it is flushed, the flushed offset takes the place of the log end offset: a
//! follower that has the committed records in memory only could lose them, and so is not in sync there. And a follower joins with the
//! leader's log start only: it could lead next, and would bring back records whose deletion was acknowledged while it was away.
//!
//! Times are milliseconds since the leadership began. Must never: let a follower join without every committed record,
//! or with a deleted one.

use super::ends::CountedEnd;

/// A time before every other: the follower was never caught up in this leadership.
const NEVER: i64 = i64::MIN;

/// When a follower was caught up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchTimes {
    /// The follower had all that the leader had at this time.
    caught_up_ms: i64,
    last_fetch_ms: i64,
    /// The leader's log end at the last fetch.
    leader_end: i64,
}

impl FetchTimes {
    /// At the start of a leadership. A member of the ISR counts as caught up, so that it has the full time to begin with its fetches.
    pub(super) fn new(in_sync: bool) -> Self {
        Self { caught_up_ms: if in_sync { 0 } else { NEVER }, last_fetch_ms: NEVER, leader_end: i64::MAX }
    }

    /// The follower fetched at `now_ms` with its counted end at `end`, the leader's log ended at `leader_end`. A follower that has what
    /// the leader had at the fetch before was caught up then: under a steady load it never has what came since.
    pub(super) fn record(&mut self, end: i64, leader_end: i64, now_ms: i64) {
        if end >= leader_end {
            self.caught_up_ms = self.caught_up_ms.max(now_ms);
        } else if end >= self.leader_end {
            self.caught_up_ms = self.caught_up_ms.max(self.last_fetch_ms);
        }
        self.leader_end = leader_end;
        self.last_fetch_ms = now_ms;
    }

    /// The follower has all of the leader's log at `now_ms`, whether it fetches this partition or not: an idle partition is not named in
    /// an incremental fetch.
    pub(super) fn note_caught_up(&mut self, now_ms: i64) {
        self.caught_up_ms = self.caught_up_ms.max(now_ms);
    }

    /// When the follower was caught up last.
    pub(super) fn caught_up_ms(&self) -> i64 {
        self.caught_up_ms
    }

    /// Whether the follower was behind for longer than `max_lag_ms`.
    pub(super) fn is_lagging(&self, now_ms: i64, max_lag_ms: i64) -> bool {
        now_ms.saturating_sub(self.caught_up_ms) > max_lag_ms
    }
}

/// What the ISR of a partition depends on beside its followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsrRule {
    /// The leader's log end offset.
    pub leader_end: i64,
    /// The high watermark.
    pub high_watermark: i64,
    /// Where the leader's epoch began in its log.
    pub epoch_start: i64,
    /// The leader's log start offset.
    pub log_start: i64,
    /// Which end of a log counts.
    pub counted: CountedEnd,
    /// Milliseconds since the leadership began.
    pub now_ms: i64,
    /// `replica.lag.time.max.ms`.
    pub max_lag_ms: i64,
}

impl IsrRule {
    /// Whether a follower whose log begins at `log_start` and whose counted end is `end` may join: it has every committed record and none
    /// that the leader deleted, and has passed the start of the leader's epoch. Below that start the high watermark of a new leader may be
    /// older than what is committed (KIP-966).
    pub(super) fn may_join(&self, end: i64, log_start: i64) -> bool {
        end >= self.high_watermark && end >= self.epoch_start && log_start >= self.log_start
    }
}

/// What a leader should do about the ISR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IsrChange {
    /// Nothing.
    None,
    /// Look again when the metadata changes: a change is on its way to the controller, or a follower that could join is not eligible.
    Later,
    /// Propose this ISR.
    Propose(Vec<i32>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caught_up_time() {
        // Fetches as (end, leader's end, time), and when the follower was last caught up.
        type Case<'a> = (bool, &'a [(i64, i64, i64)], i64, &'a str);
        let cases: &[Case<'_>] = &[
            (true, &[], 0, "a member of the ISR counts as caught up at the start"),
            (false, &[], NEVER, "another replica does not"),
            (false, &[(10, 10, 5)], 5, "at the end"),
            (false, &[(9, 10, 5)], NEVER, "the first fetch behind the end"),
            (false, &[(5, 10, 5), (10, 20, 9)], 5, "it has what the leader had at the fetch before"),
            (false, &[(5, 10, 5), (9, 20, 9)], NEVER, "it has less than that"),
            (true, &[(10, 10, 5), (10, 20, 9), (12, 30, 14)], 5, "it falls behind"),
            (true, &[(10, 10, 5), (10, 20, 9), (20, 30, 14), (30, 40, 20)], 14, "a steady load: one fetch behind"),
        ];
        for (in_sync, fetches, expected, why) in cases {
            let mut times = FetchTimes::new(*in_sync);
            fetches.iter().for_each(|(end, leader_end, now)| times.record(*end, *leader_end, *now));
            assert_eq!(times.caught_up_ms, *expected, "{why}");
        }
        let mut times = FetchTimes::new(true);
        times.note_caught_up(50);
        assert!(!times.is_lagging(60, 10), "exactly the time that is allowed");
        assert!(times.is_lagging(61, 10));
        assert!(FetchTimes::new(false).is_lagging(0, i64::MAX - 1));
    }

    #[test]
    fn who_may_join() {
        let rule = |high_watermark, epoch_start| IsrRule {
            leader_end: 100,
            high_watermark,
            epoch_start,
            log_start: 5,
            counted: CountedEnd::LogEnd,
            now_ms: 0,
            max_lag_ms: 0,
        };
        assert!(rule(50, 40).may_join(50, 5));
        assert!(!rule(50, 40).may_join(49, 5), "a committed record is missing");
        assert!(!rule(50, 60).may_join(55, 5), "the high watermark of a new leader may be too low");
        assert!(rule(50, 60).may_join(60, 5));
        assert!(!rule(50, 60).may_join(60, 4), "it has a deleted record");
        assert!(rule(50, 60).may_join(60, 6), "its own retention was earlier");
    }
}
