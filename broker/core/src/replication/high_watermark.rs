//! The high watermark: the offset up to which every in-sync replica has the log, and so what a consumer may read and
//! what an `acks=all` producer waits for.
//!
//! It never goes back while a leader leads (KIP-101), and it stands still while fewer replicas than
//! `min.insync.replicas` are in sync (KIP-966): a record that too few hold must not become visible as committed.

/// What a leader knows about its partition when it asks whether the high watermark moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitRule {
    /// The high watermark as it stands.
    pub current: i64,
    /// How far the leader's own log counts: its log end offset, or what is on disk where the topic demands that.
    pub leader_end: i64,
    /// Members of the in-sync set, the leader included.
    pub in_sync: usize,
    /// `min.insync.replicas`, already capped at the number of replicas that the partition has.
    pub min_in_sync: usize,
}

/// The high watermark that follows, given the log end offsets of the *other* in-sync replicas.
///
/// A follower that is in the set but has not fetched yet counts with what it is known to have (`-1`: nothing known, so
/// nothing moves).
pub fn high_watermark(rule: CommitRule, follower_ends: impl IntoIterator<Item = i64>) -> i64 {
    if rule.in_sync < rule.min_in_sync {
        return rule.current;
    }
    let lowest = follower_ends.into_iter().fold(rule.leader_end, i64::min);
    lowest.max(rule.current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(current: i64, leader_end: i64, in_sync: usize, min_in_sync: usize) -> CommitRule {
        CommitRule { current, leader_end, in_sync, min_in_sync }
    }

    #[test]
    fn table() {
        let cases: &[(CommitRule, &[i64], i64, &str)] = &[
            (rule(0, 10, 1, 1), &[], 10, "a lone leader commits what it appends"),
            (rule(3, 10, 3, 2), &[7, 9], 7, "the slowest in-sync replica decides"),
            (rule(8, 10, 2, 1), &[5], 8, "it never goes back"),
            (rule(3, 10, 2, 1), &[-1], 3, "a follower of which nothing is known holds it"),
            (rule(3, 10, 1, 2), &[], 3, "below min.insync.replicas nothing becomes committed"),
            (rule(3, 10, 2, 2), &[12], 10, "a follower ahead of the leader counts no further than the leader"),
        ];
        for (rule, ends, expected, why) in cases {
            assert_eq!(high_watermark(*rule, ends.iter().copied()), *expected, "{why}");
        }
    }
}
