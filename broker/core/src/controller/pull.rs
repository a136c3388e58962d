//! What the active controller answers to an observer that pulls the metadata log (as in KIP-595, a fetch with a long poll).
//!
//! An observer is a broker outside the members of the quorum. It sends the position up to which its own log is committed, so its log never has to
//! be truncated: committed entries are the same on every node. Must never: send an entry that is not committed.

/// The log of the node that received a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PulledLog {
    /// Whether the node leads the quorum, as far as it can be sure.
    pub is_leading: bool,
    /// The index of the first entry that the log still has; a snapshot has those before it.
    pub first: u64,
    /// Entries that are committed, and applied to the image.
    pub committed: u64,
}

/// The position of an observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullPosition {
    /// Entries that it has, and knows to be committed.
    pub entries: u64,
    /// Whether its last entry is the one that the receiver has at that place; `None` where the receiver cannot compare.
    pub matches: Option<bool>,
}

/// The answer to a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullDecision {
    /// Another node leads, if one does.
    NotController,
    /// There is nothing new: the answer waits for a commit.
    Wait,
    /// Committed entries, from the first index on and before the second.
    Entries(u64, u64),
    /// The log has no entry that follows: the observer needs the snapshot.
    Snapshot,
    /// The log of the observer has a committed entry that the cluster does not have.
    Diverged,
}

/// Decides the answer to a pull.
pub fn decide_pull(log: PulledLog, position: PullPosition) -> PullDecision {
    let PullPosition { entries, matches } = position;
    if !log.is_leading {
        return PullDecision::NotController;
    }
    if entries < log.first {
        return PullDecision::Snapshot;
    }
    if entries > log.committed {
        // A leader that was just elected may not know yet how far the log is committed.
        return PullDecision::Wait;
    }
    match matches {
        Some(false) => PullDecision::Diverged,
        None if entries > 0 => PullDecision::Snapshot,
        _ if entries == log.committed => PullDecision::Wait,
        _ => PullDecision::Entries(entries, log.committed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observer_gets_what_is_committed_behind_its_position() {
        use PullDecision as D;
        let log = PulledLog { is_leading: true, first: 10, committed: 20 };
        let whole = PulledLog { first: 0, ..log };
        let other = PulledLog { is_leading: false, ..log };
        let cases = [
            (other, 15, Some(true), D::NotController, "another node leads"),
            (other, 5, None, D::NotController, "also where it would need the snapshot"),
            (log, 15, Some(true), D::Entries(15, 20), "committed entries"),
            (log, 10, Some(true), D::Entries(10, 20), "from the first entry in the log on"),
            (log, 9, None, D::Snapshot, "the next entry is in the snapshot"),
            (log, 0, None, D::Snapshot, "an empty log"),
            (whole, 0, None, D::Entries(0, 20), "an empty log, and all entries are there"),
            (log, 20, Some(true), D::Wait, "nothing is new"),
            (log, 21, None, D::Wait, "the leader does not know yet what is committed"),
            (log, 15, Some(false), D::Diverged, "another entry at its place"),
            (log, 20, Some(false), D::Diverged, "another last entry"),
            (log, 10, None, D::Snapshot, "the entry before is purged, and cannot be compared"),
        ];
        for (log, entries, matches, expected, why) in cases {
            assert_eq!(decide_pull(log, PullPosition { entries, matches }), expected, "{why}");
        }
    }
}
