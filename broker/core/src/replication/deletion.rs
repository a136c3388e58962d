//! When a DeleteRecords is complete: the low watermark of the partition has reached the offset that was asked for.
//!
//! The low watermark is Kafka's (`Partition.lowWatermarkIfLeader`): the lowest log start offset of the leader and of the followers whose
//! brokers are alive. Members of the maximal ISR count in addition, alive or not: the next leader is one of them. Must never: acknowledge
//! a deletion that a member of the ISR lacks.

/// A follower, as far as the low watermark depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerStart {
    /// Its log start offset; -1 if it is not known.
    pub log_start: i64,
    /// Its broker is registered and not fenced.
    pub is_alive: bool,
    /// It is in the maximal ISR.
    pub is_in_sync: bool,
}

/// The low watermark of a partition.
pub fn low_watermark(leader_start: i64, followers: impl IntoIterator<Item = FollowerStart>) -> i64 {
    let counted = followers.into_iter().filter(|follower| follower.is_alive || follower.is_in_sync);
    counted.fold(leader_start, |lowest, follower| lowest.min(follower.log_start))
}

/// The state of a partition for which a DeleteRecords waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionProgress {
    /// The low watermark must reach this offset.
    pub required: i64,
    /// The low watermark; `None`: this broker does not lead the partition.
    pub low_watermark: Option<i64>,
    /// The lease of this broker has ended: another broker may lead.
    pub is_isolated: bool,
    /// The time of the request is over.
    pub is_time_over: bool,
}

/// What a DeleteRecords is answered for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionOutcome {
    /// Nothing yet.
    Pending,
    /// The records are deleted on every replica that counts.
    Deleted,
    /// This broker may not acknowledge: it does not lead, or its lease has ended.
    NotLeader,
    /// The low watermark has not reached the offset in time.
    TimedOut,
}

impl DeletionProgress {
    /// The answer. A lease that has ended may begin again, so that only a deletion that is complete is refused for it.
    pub fn outcome(&self) -> DeletionOutcome {
        match self.low_watermark {
            None => DeletionOutcome::NotLeader,
            Some(low_watermark) if low_watermark >= self.required => {
                if self.is_isolated {
                    DeletionOutcome::NotLeader
                } else {
                    DeletionOutcome::Deleted
                }
            }
            Some(_) if self.is_time_over => DeletionOutcome::TimedOut,
            Some(_) => DeletionOutcome::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_watermark_is_that_of_the_replicas_that_count() {
        // Followers as (log start, alive, in sync), with the leader's log start at 10.
        type Case<'a> = (&'a [(i64, bool, bool)], i64, &'a str);
        let cases: &[Case<'_>] = &[
            (&[], 10, "the leader is the only replica"),
            (&[(10, true, true), (10, true, true)], 10, "all have deleted"),
            (&[(10, true, true), (7, true, true)], 7, "the lowest counts"),
            (&[(12, true, true)], 10, "the leader counts, too"),
            (&[(10, true, true), (7, false, false)], 10, "the broker is fenced and out of the ISR"),
            (&[(10, true, true), (7, true, false)], 7, "alive, but not in sync"),
            (&[(10, true, true), (7, false, true)], 7, "in sync: it may lead next"),
            (&[(10, true, true), (-1, true, true)], -1, "it has not fetched in this leader epoch"),
            (&[(-1, false, false)], 10, "it is fenced, and has not fetched"),
        ];
        for (followers, expected, why) in cases {
            let starts = followers.iter().map(|&(log_start, is_alive, is_in_sync)| FollowerStart {
                log_start,
                is_alive,
                is_in_sync,
            });
            assert_eq!(low_watermark(10, starts), *expected, "{why}");
        }
    }

    #[test]
    fn outcomes() {
        use DeletionOutcome::{Deleted, NotLeader, Pending, TimedOut};
        // Low watermark, isolated, time over; 10 is required.
        let cases = [
            (Some(9), false, false, Pending, "a replica has to follow"),
            (Some(10), false, false, Deleted, "all have followed"),
            (Some(11), false, false, Deleted, "all are further"),
            (Some(10), false, true, Deleted, "the last look"),
            (Some(9), false, true, TimedOut, "a replica is late"),
            (Some(10), true, false, NotLeader, "another broker may lead"),
            (Some(9), true, false, Pending, "the lease may be renewed"),
            (Some(9), true, true, TimedOut, "it was not"),
            (None, false, false, NotLeader, "another broker leads"),
            (None, true, true, NotLeader, "another broker leads, and the time is over"),
        ];
        for (low_watermark, is_isolated, is_time_over, expected, why) in cases {
            let progress = DeletionProgress { required: 10, low_watermark, is_isolated, is_time_over };
            assert_eq!(progress.outcome(), expected, "{why}");
        }
    }
}
