//! Where a follower cuts its log so that it is a prefix of the leader's again (KIP-101, KIP-279, KIP-595).
//!
//! The leader compares the follower's last epoch with its own epochs. What comes back is the newest epoch of the leader that is not above
//! it, and where that epoch ends at the leader. Must never: cut at the high watermark. A follower's high watermark is older than what is
//! committed, and a record below the end that both logs share may be the only copy but the leader's.

/// An epoch and the offset after its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch; -1 if it is unknown.
    pub epoch: i32,
    /// Where it ends; -1 if that is unknown.
    pub end_offset: i64,
}

/// The follower's new log end after the answer `leader`. `own` is the newest epoch of the follower that is not above the leader's, and where
/// it ends at the follower. Where the follower lacks the leader's epoch, the next fetch compares an older one.
pub fn truncation_offset(leader: EpochEnd, own: EpochEnd, own_log_end: i64) -> i64 {
    let own_end = if own.epoch < 0 || own.end_offset < 0 { own_log_end } else { own.end_offset.min(own_log_end) };
    // An epoch that only the leader has: its end says nothing of the follower's older ones.
    if own.epoch >= 0 && own.epoch < leader.epoch { own_end } else { own_end.min(leader.end_offset.max(0)) }
}

/// What a follower does whose fetch offset is outside of the leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// Drops all of its log, and starts at this offset: the leader has deleted what the follower lacks.
    StartAt(i64),
    /// Cuts its log here: the leader's ends there (an unclean election).
    TruncateTo(i64),
    /// Fetches again: its log end is within the leader's log now.
    FetchAgain,
}

/// The rule for a follower whose log ends at `own_log_end`, with the leader's log from `leader_start` to `leader_end`.
pub fn resolve_out_of_range(own_log_end: i64, leader_start: i64, leader_end: i64) -> OutOfRange {
    if own_log_end > leader_end {
        OutOfRange::TruncateTo(leader_end)
    } else if own_log_end < leader_start {
        OutOfRange::StartAt(leader_start)
    } else {
        OutOfRange::FetchAgain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: i32, end_offset: i64) -> EpochEnd {
        EpochEnd { epoch, end_offset }
    }

    #[test]
    fn where_logs_part() {
        let cases = [
            (at(1, 20), at(1, 25), 25, 20, "the leader has less of the epoch"),
            (at(1, 20), at(1, 15), 30, 15, "the follower has less of it, and a later epoch that the leader lacks"),
            (at(2, 20), at(1, 10), 40, 10, "the follower lacks the epoch: an older one is compared next"),
            (at(1, 20), at(-1, -1), 25, 20, "the follower knows no epoch"),
            (at(-1, 20), at(3, 25), 25, 20, "the leader knows no epoch"),
            (at(1, 20), at(1, 20), 12, 12, "the end of an epoch is no further than the log"),
            (at(3, 0), at(3, 9), 9, 0, "the leader has none of it"),
        ];
        for (leader, own, own_log_end, expected, why) in cases {
            assert_eq!(truncation_offset(leader, own, own_log_end), expected, "{why}");
        }
    }

    #[test]
    fn out_of_range() {
        let cases = [
            (5, 10, 20, OutOfRange::StartAt(10), "the leader deleted what comes next"),
            (25, 10, 20, OutOfRange::TruncateTo(20), "the leader has less"),
            (10, 10, 20, OutOfRange::FetchAgain, "the log start is in range"),
            (20, 10, 20, OutOfRange::FetchAgain, "the log end is in range"),
            (25, 20, 20, OutOfRange::TruncateTo(20), "the leader has less, and nothing"),
        ];
        for (own, start, end, expected, why) in cases {
            assert_eq!(resolve_out_of_range(own, start, end), expected, "{why}");
        }
    }
}
