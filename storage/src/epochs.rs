//! Leader epochs of one log: where each began (KIP-101, KIP-279), kept in `leader-epoch-checkpoint`.
//!
//! Pure but for the text form. Epochs and start offsets both grow strictly. An epoch without a record exists in memory only: it
//! begins at the current log end, and enters the checkpoint with its first record. A start of the broker begins an epoch in each
//! partition, and must not write ten thousand files.

use std::fmt::Write as _;

use crate::{files::checkpoint_lines, types::EpochEndOffset};

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct EpochCache {
    entries: Vec<(i32, i64)>,
    /// The newest epoch while no record was written in it; above all `entries`.
    begun: Option<i32>,
    /// The content of the checkpoint, as far as it was read or written.
    written: Option<Vec<(i32, i64)>>,
    /// `written` is known to be durable.
    durable: bool,
}

impl EpochCache {
    /// Reads the checkpoint's text (`version 0`, count, `epoch start` lines).
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut cache = Self::default();
        for line in checkpoint_lines(bytes)? {
            let mut words = line.split_ascii_whitespace().map(str::parse::<i64>);
            match (words.next(), words.next(), words.next()) {
                (Some(Ok(epoch)), Some(Ok(start)), None) => {
                    let epoch = i32::try_from(epoch).map_err(|_| format!("epoch {epoch} is too large"))?;
                    cache.assign_start(epoch, start);
                }
                _ => return Err(format!("line {line:?} is not `epoch offset`")),
            }
        }
        cache.written = Some(cache.entries.clone());
        Ok(cache)
    }

    /// Whether the checkpoint must be written; with `sync`, also to flush a content that was only written.
    pub(crate) fn to_write(&self, sync: bool) -> bool {
        self.written.as_ref() != Some(&self.entries) || (sync && !self.durable)
    }

    /// The checkpoint is about to be written with the current entries, durable with `sync`.
    pub(crate) fn note_written(&mut self, sync: bool) {
        self.written = Some(self.entries.clone());
        self.durable = sync;
    }

    /// The content of the checkpoint is unknown.
    pub(crate) fn note_unwritten(&mut self) {
        self.written = None;
        self.durable = false;
    }

    /// The content that was read is durable: the last stop was clean.
    pub(crate) fn note_durable(&mut self) {
        self.durable = self.written.is_some();
    }

    /// The checkpoint's text.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            let _ = writeln!(text, "{epoch} {start}");
        }
        text
    }

    /// Records that `epoch` begins at the log end, if it is new; its first record is not written yet.
    pub(crate) fn begin_epoch(&mut self, epoch: i32) {
        if epoch >= 0 && self.latest().is_none_or(|latest| latest < epoch) {
            self.begun = Some(epoch);
        }
    }

    /// Records that the first record of `epoch` is at `start`, if the epoch is new. Entries that the new one contradicts are
    /// removed (a leader that wrote nothing leaves an epoch at the same offset).
    pub(crate) fn assign_start(&mut self, epoch: i32, start: i64) {
        if epoch < 0
            || start < 0
            || self.entries.last().is_some_and(|last| last.0 >= epoch && last.1 <= start)
            || self.begun.is_some_and(|begun| begun > epoch)
        {
            return;
        }
        self.begun = None;
        self.entries.retain(|(e, s)| *e < epoch && *s < start);
        self.entries.push((epoch, start));
    }

    /// The newest epoch, with or without records.
    pub(crate) fn latest(&self) -> Option<i32> {
        self.begun.or_else(|| self.latest_written())
    }

    /// The newest epoch that has records.
    pub(crate) fn latest_written(&self) -> Option<i32> {
        self.entries.last().map(|entry| entry.0)
    }

    /// Epoch of the record at `offset`; from the log's end on, of the next one.
    pub(crate) fn at(&self, offset: i64, log_end_offset: i64) -> Option<i32> {
        if let Some(begun) = self.begun.filter(|_| offset >= log_end_offset) {
            return Some(begun);
        }
        let after = self.entries.partition_point(|entry| entry.1 <= offset);
        after.checked_sub(1).and_then(|i| self.entries.get(i)).map(|entry| entry.0)
    }

    /// Largest epoch not above the requested one, and the offset after its last record (the start of the next one).
    pub(crate) fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> EpochEndOffset {
        const UNDEFINED: EpochEndOffset = EpochEndOffset { leader_epoch: -1, end_offset: -1 };
        let Some(latest) = self.latest() else { return UNDEFINED };
        if epoch < 0 || epoch > latest {
            return UNDEFINED;
        }
        if epoch == latest {
            return EpochEndOffset { leader_epoch: epoch, end_offset: log_end_offset };
        }
        let above = self.entries.partition_point(|entry| entry.0 <= epoch);
        // With no entry above it, the epoch that is begun follows, at the log's end.
        let end_offset = self.entries.get(above).map_or(log_end_offset, |next| next.1);
        // Below the first epoch known: whatever it was, it ended where the first known one begins.
        let leader_epoch = above.checked_sub(1).and_then(|i| self.entries.get(i)).map_or(epoch, |entry| entry.0);
        EpochEndOffset { leader_epoch, end_offset }
    }

    /// Removes epochs that begin at or above `end` (the log was truncated there).
    pub(crate) fn truncate_from_end(&mut self, end: i64) {
        let keep = self.entries.partition_point(|entry| entry.1 < end);
        self.entries.truncate(keep);
        self.begun = None;
    }

    /// Removes epochs that ended below `start`; the epoch that contains `start` now begins there.
    pub(crate) fn truncate_from_start(&mut self, start: i64) {
        let after = self.entries.partition_point(|entry| entry.1 <= start);
        let Some(holding) = after.checked_sub(1) else { return };
        if let Some(entry) = self.entries.get_mut(holding)
            && (entry.1 < start || holding > 0)
        {
            entry.1 = start;
            self.entries.drain(..holding);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.begun = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in entries {
            cache.assign_start(*epoch, *start);
        }
        cache
    }

    #[test]
    fn end_offsets() {
        let c = cache(&[(2, 10), (4, 20), (7, 30)]);
        for (asked, expected) in [
            (-1, (-1, -1)),
            (0, (0, 10)),
            (1, (1, 10)),
            (2, (2, 20)),
            (3, (2, 20)),
            (4, (4, 30)),
            (6, (4, 30)),
            (7, (7, 99)),
            (8, (-1, -1)),
        ] {
            let end = c.end_offset_for(asked, 99);
            assert_eq!((end.leader_epoch, end.end_offset), expected, "{asked}");
        }
        assert_eq!(EpochCache::default().end_offset_for(0, 5).end_offset, -1);
        assert_eq!([9, 10, 19, 20, 500].map(|o| c.at(o, 99)), [None, Some(2), Some(2), Some(4), Some(7)]);
    }

    #[test]
    fn an_epoch_without_records_begins_at_the_end_of_the_log() {
        let mut c = cache(&[(0, 0), (2, 10)]);
        c.written = Some(c.entries.clone());
        c.durable = true;
        c.begin_epoch(5);
        c.begin_epoch(4);
        assert!(!c.to_write(true), "nothing to write before its first record");
        for (asked, end, expected) in [
            (0, 20, (0, 10)),
            (2, 20, (2, 20)),
            (4, 20, (2, 20)),
            (5, 20, (5, 20)),
            (2, 15, (2, 15)),
            (5, 15, (5, 15)),
            (6, 20, (-1, -1)),
        ] {
            let found = c.end_offset_for(asked, end);
            assert_eq!((found.leader_epoch, found.end_offset), expected, "{asked} with a log of {end}");
        }
        assert_eq!((c.at(19, 20), c.at(20, 20), c.latest(), c.latest_written()), (Some(2), Some(5), Some(5), Some(2)));
        c.assign_start(4, 20);
        assert_eq!(c.latest_written(), Some(2), "an epoch below the begun one does not come back");
        c.assign_start(5, 20);
        assert!(c.to_write(false));
        assert_eq!((c.entries.as_slice(), c.begun), ([(0, 0), (2, 10), (5, 20)].as_slice(), None));
        assert_eq!((c.at(20, 21), c.end_offset_for(2, 21).end_offset), (Some(5), 20));

        let mut empty = EpochCache::default();
        empty.begin_epoch(3);
        let found = empty.end_offset_for(1, 0);
        assert_eq!((found.leader_epoch, found.end_offset, empty.at(0, 0)), (1, 0, Some(3)));
        empty.truncate_from_end(0);
        assert_eq!(empty.latest(), None);
    }

    #[test]
    fn assign_drops_what_it_contradicts() {
        let mut c = cache(&[(0, 0), (1, 10), (2, 20)]);
        c.assign_start(2, 25);
        c.assign_start(1, 30);
        assert_eq!(c.entries, [(0, 0), (1, 10), (2, 20)]);
        c.assign_start(3, 20);
        assert_eq!(c.entries, [(0, 0), (1, 10), (3, 20)]);
        c.assign_start(4, 5);
        assert_eq!(c.entries, [(0, 0), (4, 5)]);
    }

    #[test]
    fn truncation_and_text() {
        let mut c = cache(&[(0, 0), (1, 10), (2, 20)]);
        c.truncate_from_end(20);
        assert_eq!(c.entries, [(0, 0), (1, 10)]);
        c.truncate_from_start(15);
        assert_eq!(c.entries, [(1, 15)]);
        c.truncate_from_start(3);
        assert_eq!(c.entries, [(1, 15)]);
        assert_eq!(c.encode(), "0\n1\n1 15\n");
        assert_eq!(EpochCache::decode(c.encode().as_bytes()).unwrap().entries, c.entries);
        assert!(EpochCache::decode(b"0\n1\nx\n").is_err());
        c.clear();
        assert_eq!(c.latest(), None);
    }
}
