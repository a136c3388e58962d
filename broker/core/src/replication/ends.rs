//! How far the log of a replica reaches, and which of its ends counts.

/// How far a replica's log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaEnds {
    /// Log end offset; -1 if it is not known.
    pub log_end: i64,
    /// Everything below this offset is flushed; -1 if that is not known.
    pub flushed: i64,
}

impl ReplicaEnds {
    /// Of a follower that has not fetched yet.
    pub const UNKNOWN: Self = Self { log_end: -1, flushed: -1 };

    pub(super) fn counted(self, counted: CountedEnd) -> i64 {
        match counted {
            CountedEnd::LogEnd => self.log_end,
            CountedEnd::Flushed => self.flushed,
        }
    }
}

/// Which end of a replica's log counts when a record is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedEnd {
    /// The log end offset: in the memory of each in-sync replica, as in Kafka.
    LogEnd,
    /// What is flushed: on the disk of each in-sync replica.
    Flushed,
}
