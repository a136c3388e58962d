//! The high watermark: the offset up to which every in-sync replica has the log. It is the bound of what a consumer may read, and
//! what an `acks=all` produce waits for.
//!
//! It never goes back while a leader leads (KIP-101), and it stands still while fewer replicas than
//! `min.insync.replicas` are in sync (KIP-966): a record that too few replicas hold must not become visible as committed.

use super::ends::{CountedEnd, ReplicaEnds};

/// What a leader knows about its partition when the high watermark may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitRule {
    /// The high watermark as it stands.
    pub current: i64,
    /// The ends of the leader's own log.
    pub leader: ReplicaEnds,
    /// Which end of a log counts, the leader's own included.
    pub counted: CountedEnd,
    /// Members of the in-sync set that the controller knows, the leader included.
    pub in_sync: usize,
    /// `min.insync.replicas`, already capped at the number of replicas that the partition has.
    pub min_in_sync: usize,
}

/// The high watermark that follows, given the ends of the *other* members of the maximal ISR.
///
/// A follower that is in the set but has not fetched yet counts with what it is known to have
/// ([`ReplicaEnds::UNKNOWN`]: the high watermark stands still).
pub fn high_watermark(rule: CommitRule, followers: impl IntoIterator<Item = ReplicaEnds>) -> i64 {
    if rule.in_sync < rule.min_in_sync {
        return rule.current;
    }
    let own = rule.leader.counted(rule.counted).min(rule.leader.log_end);
    let lowest = followers.into_iter().fold(own, |lowest, ends| lowest.min(ends.counted(rule.counted)));
    lowest.max(rule.current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(current: i64, leader: (i64, i64), in_sync: usize, min_in_sync: usize) -> CommitRule {
        CommitRule { current, leader: ends(&leader), counted: CountedEnd::LogEnd, in_sync, min_in_sync }
    }

    fn ends(&(log_end, flushed): &(i64, i64)) -> ReplicaEnds {
        ReplicaEnds { log_end, flushed }
    }

    /// Followers as (log end, flushed), the high watermark by log ends and by flushed offsets, and why.
    type Case<'a> = (CommitRule, &'a [(i64, i64)], i64, i64, &'a str);

    #[test]
    fn table() {
        let cases: &[Case<'_>] = &[
            (
                rule(0, (10, 6), 1, 1),
                &[],
                10,
                6,
                "a leader without followers commits what it appends, or what it flushed",
            ),
            (rule(3, (10, 8), 3, 2), &[(7, 5), (9, 6)], 7, 5, "the slowest in-sync replica decides"),
            (rule(3, (10, 4), 2, 1), &[(10, 10)], 10, 4, "the slowest disk may be the leader's own"),
            (rule(8, (10, 9), 2, 1), &[(5, 5)], 8, 8, "it never goes back"),
            (rule(3, (10, 9), 2, 1), &[(-1, -1)], 3, 3, "a follower of which nothing is known holds it"),
            (
                rule(3, (10, 9), 2, 1),
                &[(9, -1)],
                9,
                3,
                "a follower that reports no flushed offset holds flushed topics only",
            ),
            (rule(3, (10, 9), 1, 2), &[], 3, 3, "below min.insync.replicas nothing becomes committed"),
            (
                rule(3, (10, 9), 2, 2),
                &[(12, 12)],
                10,
                9,
                "a follower ahead of the leader counts no further than the leader",
            ),
            (rule(3, (10, 12), 1, 1), &[], 10, 10, "a flushed offset above the log end counts no further than that"),
        ];
        for (rule, followers, by_log_end, by_flushed, why) in cases {
            let by = |counted| high_watermark(CommitRule { counted, ..*rule }, followers.iter().map(ends));
            assert_eq!((by(CountedEnd::LogEnd), by(CountedEnd::Flushed)), (*by_log_end, *by_flushed), "{why}");
        }
    }
}
