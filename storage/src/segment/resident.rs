//! Checks whether the bytes of a read are in memory, without waiting for the disk; and loads them.

use std::sync::{Arc, atomic::Ordering};

use super::Segment;
use crate::{
    error::{FileError, ReadError},
    index::OffsetIndex,
    open_files::Opened,
    residency::{CHUNK, INDEX_CHUNK, Residency},
    types::ReadInfo,
};

/// A read parses the header of the batch behind its bytes.
const LOOKED_AT_BEHIND: u64 = crate::walk::STEP_BYTES as u64;

/// Appends advance the clock of [`residency`] by multiples of this number of bytes.
const CLOCK_STEP: u64 = 64 << 10;

/// Clock and position in one word; positions in a segment have 31 bits.
fn mark(clock: u32, position: u64) -> u64 {
    u64::from(clock) << 32 | position.min(u64::from(u32::MAX))
}

impl Segment {
    /// Position and length of the range that a read of `max_bytes` parses and returns. The read walks from an index entry to its
    /// offset. The batch that it finds, from which the bytes are counted, may begin as far away as the next entry: with large
    /// batches that is a whole batch. Behind the last entry a batch without an entry begins within the interval.
    fn looked_at(&self, offsets: &OffsetIndex, relative: u32, max_bytes: u64) -> (u64, u64) {
        let entry = offsets.floor(relative);
        let walked = offsets.after(entry).map_or(self.index_interval, |next| next.saturating_sub(entry));
        (u64::from(entry), u64::from(walked).saturating_add(max_bytes).saturating_add(LOOKED_AT_BEHIND))
    }

    fn residency(&self) -> &Residency {
        &self.handle.files().residency
    }

    /// Records that data up to `size`, which is about to be published, was just written. Only the log's writer may call this.
    pub(super) fn note_appended(&self, size: u64) {
        let ([older, newer], residency) = (&self.recent, self.residency());
        let (from, now) = (self.size.load(Ordering::Relaxed), residency.now());
        // The clock is shared: a small write advances it only if it completes a step.
        let steps = (size / CLOCK_STEP).saturating_sub(from / CLOCK_STEP);
        if steps > 0 {
            residency.count_bytes(steps * CLOCK_STEP);
        }
        let last = newer.load(Ordering::Relaxed);
        if last == super::NEVER || residency.is_aging((last >> 32) as u32) {
            older.store(last, Ordering::Relaxed);
            newer.store(mark(now, from), Ordering::Relaxed);
        }
    }

    /// Whether everything from `position` on was written so recently that it is in memory.
    fn is_recent(&self, position: u64) -> bool {
        self.recent.iter().any(|mark| {
            let mark = mark.load(Ordering::Relaxed);
            position >= mark & u64::from(u32::MAX) && self.residency().is_fresh((mark >> 32) as u32)
        })
    }

    /// Whether a chunk of the data file, which has `size` bytes, is in memory.
    pub(crate) fn has_chunk(&self, opened: &Opened, chunk: u64, size: u64) -> bool {
        let (from, end) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(size));
        if self.residency().is_marked_resident(self.handle.id, chunk) || self.is_recent(from) {
            return true;
        }
        let there = match (opened.map(self.capacity), opened.mapped()) {
            (Ok(_), Some(map)) => {
                let ends = [from, end.saturating_sub(1)];
                map.is_range_resident(from, end.saturating_sub(from))
                    && ends.into_iter().all(|at| opened.file().is_read(at))
            }
            // The read reports why the file cannot be mapped.
            _ => true,
        };
        if there && end == (chunk + 1) * CHUNK {
            self.residency().mark_resident(self.handle.id, chunk);
        }
        there
    }

    /// Whether a read of `max_bytes` from `offset` on finds all pages in memory, and needs no check of index files.
    pub(crate) fn is_resident(&self, offset: i64, max_bytes: u64) -> bool {
        let size = self.size();
        if size == 0 {
            return true;
        }
        let relative = self.relative(offset);
        if let Some((offsets, _)) = self.growing.get() {
            if self.is_recent(u64::from(offsets.floor(relative))) {
                return true;
            }
            let Some(opened) = self.handle.get() else { return false };
            let (position, len) = self.looked_at(offsets, relative, max_bytes);
            return self.has_chunks(&opened, position, len, size);
        }
        let Some(opened) = self.handle.get() else { return false };
        // A damaged index must be rebuilt, which reads the segment.
        let sound = opened.offsets.get().filter(|offsets| !offsets.is_damaged());
        let Some(offsets) = sound.or_else(|| opened.rebuilt.get().map(|(offsets, _)| offsets)) else { return false };
        if !self.has_index(offsets) {
            return false;
        }
        let (position, len) = self.looked_at(offsets, relative, max_bytes);
        !offsets.is_damaged() && (self.is_recent(position) || self.has_chunks(&opened, position, len, size))
    }

    fn has_index(&self, offsets: &OffsetIndex) -> bool {
        if self.residency().is_marked_resident(self.handle.id, INDEX_CHUNK) {
            return true;
        }
        let there = offsets.is_resident();
        if there {
            self.residency().mark_resident(self.handle.id, INDEX_CHUNK);
        }
        there
    }

    fn has_chunks(&self, opened: &Opened, from: u64, len: u64, size: u64) -> bool {
        let end = from.saturating_add(len.max(1)).min(size);
        from >= end || (from / CHUNK..=(end - 1) / CHUNK).all(|chunk| self.has_chunk(opened, chunk, size))
    }

    /// Whether the part of a read beyond its `max_bytes` (a batch is returned whole) is in memory.
    pub(crate) fn has_rest(&self, info: &ReadInfo, max_bytes: usize) -> bool {
        let Some((from, len, opened)) = self.rest(info, max_bytes) else { return true };
        self.has_chunks(&opened, from, len, self.size())
    }

    fn rest(&self, info: &ReadInfo, max_bytes: usize) -> Option<(u64, u64, Arc<Opened>)> {
        let len = info.records.len().checked_sub(max_bytes).filter(|len| *len > 0)?;
        let opened = self.handle.get()?;
        let map = opened.map(self.capacity).ok()?;
        let end = (info.records.as_ptr().addr()).checked_sub(map.as_ptr().addr())?.checked_add(info.records.len())?;
        // `None` for a slice of an older map: the file was reopened meanwhile.
        (end <= map.len()).then(|| ((end - len) as u64, len as u64, Arc::clone(&opened)))
    }

    /// Loads the range of [`Self::is_resident`] into memory. Blocks on the disk.
    pub(crate) fn load_pages(&self, offset: i64, max_bytes: u64) -> Result<(), ReadError> {
        if self.size() == 0 || self.damaged.iter().any(|range| range.contains(offset)) {
            return Ok(());
        }
        let opened = self.opened()?;
        let offsets = self.offsets(&opened)?;
        if self.growing.get().is_none() && !self.has_index(offsets) {
            offsets.populate();
            self.residency().mark_resident(self.handle.id, INDEX_CHUNK);
        }
        let (position, len) = self.looked_at(offsets, self.relative(offset), max_bytes);
        Ok(self.handle.files().load_pages(self, &opened, position, len)?)
    }

    /// As `load_pages`, for the range of [`Self::has_rest`].
    pub(crate) fn load_rest(&self, info: &ReadInfo, max_bytes: usize) -> Result<(), FileError> {
        let Some((from, len, opened)) = self.rest(info, max_bytes) else { return Ok(()) };
        self.handle.files().load_pages(self, &opened, from, len)
    }
}
