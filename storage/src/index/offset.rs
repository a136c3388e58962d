//! Offset index: 8-byte entries (last offset of a batch relative to the segment's base, position of that batch).
//!
//! Every entry says: the batch at `position` ends with `offset`. So all batches before `position` end below `offset`.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::partition;
use crate::{mmap::Map, walk::be_i32};

/// Bytes of an entry in the file.
const ENTRY: usize = 8;
/// The first chunk's entries; each further chunk is twice as big, so 20 of them hold more than any index may.
const FIRST_CHUNK: usize = 64;
const CHUNKS: usize = 20;

/// One entry, offset relative to the segment's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub relative_offset: u32,
    pub position: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) enum OffsetIndex {
    /// The active segment's index: it grows, and readers take no lock.
    Growing(Box<Growing>),
    /// A closed segment's file, mapped.
    File(Map),
}

/// Append-only list of entries: chunks never move, the length is published with Release.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
    len: AtomicUsize,
}

fn place(index: usize) -> (usize, usize) {
    let scaled = index / FIRST_CHUNK + 1;
    let chunk = scaled.ilog2() as usize;
    let start = FIRST_CHUNK * ((1 << chunk) - 1);
    (chunk, index - start)
}

impl Growing {
    fn get(&self, index: usize) -> Option<OffsetEntry> {
        if index >= self.len.load(Ordering::Acquire) {
            return None;
        }
        let (chunk, slot) = place(index);
        let packed = self.chunks.get(chunk)?.get()?.get(slot)?.load(Ordering::Relaxed);
        Some(OffsetEntry { relative_offset: (packed >> 32) as u32, position: packed as u32 })
    }

    fn push(&self, entry: OffsetEntry) {
        let index = self.len.load(Ordering::Relaxed);
        let (chunk, slot) = place(index);
        let Some(cell) = self.chunks.get(chunk) else { return };
        let chunk = cell.get_or_init(|| (0..FIRST_CHUNK << chunk).map(|_| AtomicU64::new(0)).collect());
        let Some(slot) = chunk.get(slot) else { return };
        slot.store(u64::from(entry.relative_offset) << 32 | u64::from(entry.position), Ordering::Relaxed);
        self.len.store(index + 1, Ordering::Release);
    }
}

impl OffsetIndex {
    /// An empty one that grows.
    #[cfg(test)]
    pub(crate) fn growing() -> Self {
        Self::Growing(Box::default())
    }

    /// A growing one that begins with the entries of a file.
    pub(crate) fn growing_from(entries: &[OffsetEntry]) -> Self {
        let growing = Box::<Growing>::default();
        entries.iter().for_each(|entry| growing.push(*entry));
        Self::Growing(growing)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Growing(growing) => growing.len.load(Ordering::Acquire),
            Self::File(map) => map.as_ref().len() / ENTRY,
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<OffsetEntry> {
        match self {
            Self::Growing(growing) => growing.get(index),
            Self::File(map) => decode(map.as_ref(), index),
        }
    }

    pub(crate) fn last(&self) -> Option<OffsetEntry> {
        self.len().checked_sub(1).and_then(|index| self.get(index))
    }

    /// Adds an entry that lies after all others. Only the log's writer may call this.
    pub(crate) fn push(&self, entry: OffsetEntry) {
        if let Self::Growing(growing) = self {
            growing.push(entry);
        }
    }

    /// Bytes the index has in its file.
    pub(crate) fn file_size(&self) -> u64 {
        (self.len() * ENTRY) as u64
    }

    /// Whether its file was cut short by another process, or cannot be read: its earlier results are invalid.
    pub(crate) fn is_damaged(&self) -> bool {
        match self {
            Self::Growing(_) => false,
            Self::File(map) => map.damaged_from().is_some(),
        }
    }

    /// Whether a lookup would not wait for the disk.
    pub(crate) fn is_resident(&self) -> bool {
        match self {
            Self::Growing(_) => true,
            Self::File(map) => map.is_resident(),
        }
    }

    /// Loads it into memory. Blocks on the disk.
    pub(crate) fn populate(&self) {
        if let Self::File(map) = self {
            map.populate();
        }
    }

    /// Position of the last entry whose offset is at most `relative_offset`; 0 if there is none.
    pub(crate) fn floor(&self, relative_offset: u32) -> u32 {
        self.floor_entry(relative_offset).map_or(0, |entry| entry.position)
    }

    /// The last entry whose offset is at most `relative_offset`.
    pub(crate) fn floor_entry(&self, relative_offset: u32) -> Option<OffsetEntry> {
        let after = partition(self.len(), |i| self.get(i).is_none_or(|e| e.relative_offset > relative_offset));
        after.checked_sub(1).and_then(|i| self.get(i))
    }

    /// The last entry whose batch starts at most at `position` and ends below `relative_offset`.
    pub(crate) fn floor_below(&self, position: u32, relative_offset: u32) -> Option<OffsetEntry> {
        let after = partition(self.len(), |i| {
            self.get(i).is_none_or(|e| e.position > position || e.relative_offset >= relative_offset)
        });
        after.checked_sub(1).and_then(|i| self.get(i))
    }

    /// Position of the first entry behind `position`.
    pub(crate) fn after(&self, position: u32) -> Option<u32> {
        let after = partition(self.len(), |i| self.get(i).is_none_or(|e| e.position > position));
        self.get(after).map(|entry| entry.position)
    }

    /// The file's form of the entries from number `from` on.
    pub(crate) fn encode_from(&self, from: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len().saturating_sub(from) * ENTRY);
        for entry in (from..self.len()).filter_map(|i| self.get(i)) {
            out.extend_from_slice(&entry.relative_offset.to_be_bytes());
            out.extend_from_slice(&entry.position.to_be_bytes());
        }
        out
    }
}

fn decode(bytes: &[u8], index: usize) -> Option<OffsetEntry> {
    let at = index.checked_mul(ENTRY)?;
    Some(OffsetEntry { relative_offset: be_i32(bytes, at)? as u32, position: be_i32(bytes, at + 4)? as u32 })
}

/// The sound beginning of an index file: entries that grow in both fields and lie inside the data.
pub(crate) fn sound_entries(bytes: &[u8], data_size: u64) -> Vec<OffsetEntry> {
    let mut entries: Vec<OffsetEntry> = Vec::with_capacity(bytes.len() / ENTRY);
    for entry in (0..bytes.len() / ENTRY).map_while(|i| decode(bytes, i)) {
        let grows = entries
            .last()
            .is_none_or(|last| entry.relative_offset > last.relative_offset && entry.position > last.position);
        if !grows || u64::from(entry.position) >= data_size || entry.relative_offset > i32::MAX as u32 {
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
    fn chunks_have_no_holes() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(place(index), expected, "{index}");
            expected.1 += 1;
            if expected.1 == FIRST_CHUNK << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn floors() {
        let index = OffsetIndex::growing();
        assert_eq!(index.floor(5), 0);
        for i in 0..1000u32 {
            index.push(OffsetEntry { relative_offset: i * 10 + 9, position: i * 100 });
        }
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &index.encode_from(0)).unwrap();
        let file = OffsetIndex::File(Map::of(&file, 8000).unwrap());
        assert_eq!(index.file_size(), 8000);
        for index in [&index, &file] {
            assert_eq!(index.len(), 1000);
            assert_eq!(index.floor(8), 0);
            assert_eq!(index.floor(19), 100);
            assert_eq!(index.floor(20), 100);
            assert_eq!(index.floor(u32::MAX), 99_900);
            assert_eq!(index.floor_below(250, 1000), Some(OffsetEntry { relative_offset: 29, position: 200 }));
            assert_eq!(index.floor_below(250, 29), Some(OffsetEntry { relative_offset: 19, position: 100 }));
            assert_eq!(index.floor_below(250, 0), None);
        }
    }

    #[test]
    fn unsound_tail_is_dropped() {
        let index = OffsetIndex::growing();
        for i in 1..4u32 {
            index.push(OffsetEntry { relative_offset: i, position: i * 100 });
        }
        let mut bytes = index.encode_from(0);
        assert_eq!(sound_entries(&bytes, 301).len(), 3);
        assert_eq!(sound_entries(&bytes, 300).len(), 2);
        bytes.extend_from_slice(&[0; 20]);
        assert_eq!(sound_entries(&bytes, 1000).len(), 3);
    }
}
