//! Whether a new leader may answer a client that asks for an offset (KIP-207).
//!
//! A leader begins with the high watermark that it knew as a follower, or that a checkpoint had, or with what is known to be flushed. The
//! leader before may have shown clients a higher one. Until the high watermark reaches the log end of the epoch's start, an answer could
//! therefore lie below an earlier one, and a consumer would read records again: the client is asked to retry instead.
//!
//! Must never: refuse the start of the log, which does not depend on the high watermark.

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedOffset {
    /// The end of what it may read.
    Latest,
    /// The start of the log.
    Earliest,
    /// A record, by its timestamp; where there is one, its offset.
    Record(Option<i64>),
}

/// The ends of a leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderEnds {
    /// Log end offset when the leader epoch began.
    pub epoch_start: i64,
    /// The high watermark; read before `readable`.
    pub high_watermark: i64,
    /// Where the client's reads end: the high watermark, or the last stable offset.
    pub readable: i64,
}

/// Whether `listed` can be answered from a log with these ends.
pub fn is_offset_available(listed: ListedOffset, ends: LeaderEnds) -> bool {
    let is_behind = ends.high_watermark < ends.epoch_start;
    match listed {
        ListedOffset::Earliest => true,
        ListedOffset::Latest => !is_behind,
        ListedOffset::Record(found) => !is_behind || found.is_some_and(|offset| offset < ends.readable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let ends = |epoch_start, high_watermark, readable| LeaderEnds { epoch_start, high_watermark, readable };
        let (behind, reached, past) = (ends(10, 9, 9), ends(10, 10, 10), ends(10, 12, 12));
        let transaction = ends(10, 9, 4);
        let cases = [
            (ListedOffset::Latest, behind, false, "the leader before may have shown 10"),
            (ListedOffset::Latest, reached, true, "nothing higher was ever shown"),
            (ListedOffset::Latest, past, true, "the leader goes on"),
            (ListedOffset::Latest, ends(0, 0, 0), true, "an empty log"),
            (ListedOffset::Latest, ends(10, 12, 4), true, "an open transaction is no lag of the high watermark"),
            (ListedOffset::Earliest, behind, true, "the start is known"),
            (ListedOffset::Record(Some(8)), behind, true, "a committed record"),
            (ListedOffset::Record(Some(9)), behind, false, "the record may have been committed"),
            (ListedOffset::Record(Some(4)), transaction, false, "as far as this client reads"),
            (ListedOffset::Record(Some(3)), transaction, true, "below the open transaction"),
            (ListedOffset::Record(None), behind, false, "as in Kafka, also where no record is found"),
            (ListedOffset::Record(None), reached, true, "there is none"),
            (ListedOffset::Record(Some(11)), reached, true, "not committed yet: none"),
        ];
        for (listed, ends, available, why) in cases {
            assert_eq!(is_offset_available(listed, ends), available, "{why}: {listed:?} {ends:?}");
        }
    }
}
