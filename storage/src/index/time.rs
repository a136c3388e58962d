//! Time index: 12-byte entries (timestamp, offset relative to the segment's base).
//!
//! An entry has the largest timestamp so far, and the last offset of the batch that contains it. Timestamps and offsets both grow
//! from entry to entry, even if the records' timestamps do not.

use parking_lot::RwLock;

use super::partition;
use crate::{
    mmap::Map,
    walk::{be_i32, be_i64},
};

const ENTRY: usize = 12;

/// One entry, offset relative to the segment's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub timestamp: i64,
    pub relative_offset: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) enum TimeIndex {
    Growing(RwLock<Vec<TimeEntry>>),
    /// A closed segment's file, mapped.
    File(Map),
}

impl TimeIndex {
    pub(crate) fn growing(entries: Vec<TimeEntry>) -> Self {
        Self::Growing(RwLock::new(entries))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Growing(entries) => entries.read().len(),
            Self::File(map) => map.as_ref().len() / ENTRY,
        }
    }

    /// Whether its file was cut short by another process, or cannot be read: its earlier results are invalid.
    pub(crate) fn is_damaged(&self) -> bool {
        match self {
            Self::Growing(_) => false,
            Self::File(map) => map.damaged_from().is_some(),
        }
    }

    pub(crate) fn last(&self) -> Option<TimeEntry> {
        match self {
            Self::Growing(entries) => entries.read().last().copied(),
            Self::File(map) => self.len().checked_sub(1).and_then(|i| decode(map.as_ref(), i)),
        }
    }

    /// Adds an entry unless time or offset would not grow.
    pub(crate) fn push(&self, entry: TimeEntry) {
        if let Self::Growing(entries) = self {
            let mut entries = entries.write();
            let grows = entries
                .last()
                .is_none_or(|last| entry.timestamp > last.timestamp && entry.relative_offset >= last.relative_offset);
            if grows && entry.timestamp >= 0 {
                entries.push(entry);
            }
        }
    }

    pub(crate) fn file_size(&self) -> u64 {
        (self.len() * ENTRY) as u64
    }

    pub(crate) fn entries(&self) -> Vec<TimeEntry> {
        match self {
            Self::Growing(entries) => entries.read().clone(),
            Self::File(map) => (0..self.len()).map_while(|i| decode(map.as_ref(), i)).collect(),
        }
    }

    /// The last entry with a timestamp of at most `timestamp`; everything before it is older or equal.
    pub(crate) fn floor(&self, timestamp: i64) -> Option<TimeEntry> {
        match self {
            Self::Growing(entries) => {
                let entries = entries.read();
                let after = entries.partition_point(|e| e.timestamp <= timestamp);
                after.checked_sub(1).and_then(|i| entries.get(i)).copied()
            }
            Self::File(map) => {
                let bytes = map.as_ref();
                let after = partition(self.len(), |i| decode(bytes, i).is_none_or(|e| e.timestamp > timestamp));
                after.checked_sub(1).and_then(|i| decode(bytes, i))
            }
        }
    }

    pub(crate) fn encode_from(&self, from: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for entry in self.entries().iter().skip(from) {
            out.extend_from_slice(&entry.timestamp.to_be_bytes());
            out.extend_from_slice(&entry.relative_offset.to_be_bytes());
        }
        out
    }
}

fn decode(bytes: &[u8], index: usize) -> Option<TimeEntry> {
    let at = index.checked_mul(ENTRY)?;
    Some(TimeEntry { timestamp: be_i64(bytes, at)?, relative_offset: be_i32(bytes, at + 8)? as u32 })
}

/// The sound beginning of a time index file: growing entries up to `last_relative_offset`. Kafka ends some files with
/// an entry of equal time; it adds nothing and is dropped.
pub(crate) fn sound_times(bytes: &[u8], last_relative_offset: u32) -> Vec<TimeEntry> {
    let mut entries: Vec<TimeEntry> = Vec::with_capacity(bytes.len() / ENTRY);
    for entry in (0..bytes.len() / ENTRY).map_while(|i| decode(bytes, i)) {
        let grows = entries
            .last()
            .is_none_or(|last| entry.timestamp > last.timestamp && entry.relative_offset >= last.relative_offset);
        if !grows || entry.timestamp < 0 || entry.relative_offset > last_relative_offset {
            break;
        }
        entries.push(entry);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_and_growth() {
        let index = TimeIndex::growing(Vec::new());
        for (timestamp, relative_offset) in [(10, 1), (10, 2), (30, 5), (20, 6), (40, 9)] {
            index.push(TimeEntry { timestamp, relative_offset });
        }
        assert_eq!(index.len(), 3);
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &index.encode_from(0)).unwrap();
        let file = TimeIndex::File(Map::of(&file, 3 * ENTRY).unwrap());
        for index in [&index, &file] {
            let floor = |timestamp| index.floor(timestamp).map(|entry| entry.relative_offset);
            assert_eq!([5, 10, 39, 99].map(floor), [None, Some(1), Some(5), Some(9)]);
            assert_eq!(index.last(), Some(TimeEntry { timestamp: 40, relative_offset: 9 }));
        }
        assert_eq!(sound_times(&index.encode_from(0), 5).len(), 2);
    }
}
