//! Loads cold data into the page cache and evicts it again: a consumer that lags by a day must neither stall other clients nor
//! evict the pages that they read.
//!
//! Chunks that are not in memory are read on the caller's (blocking) thread. For a sequential reader the next chunks are read
//! ahead. All chunks that were loaded in this way are in one queue (`eviction`); past a bound the oldest are evicted. So readers
//! that follow each other closely share chunks, and all cold readers together take no more than the bound. Pages that were in
//! memory before are never evicted. The kernel's own read-ahead, which may be many MiB at once, is disabled; fsyncs have priority
//! (`read_admission`).

use std::sync::{Arc, Weak};

use crate::{
    error::FileError,
    eviction::EvictPages,
    files::LOG,
    io::Context,
    open_files::{OpenFiles, Opened},
    residency::CHUNK,
    segment::Segment,
};

/// Chunks that are read ahead for a sequential reader.
const AHEAD: u64 = 4;
/// Chunks read at once while no fsync is active. Beside fsyncs it is one, since an fsync waits behind the read.
const AT_ONCE: usize = 4;
/// Bytes read at once.
const STEP: usize = 64 << 10;

impl OpenFiles {
    /// Loads `len` bytes from `from` on into the page cache. Blocks on the disk.
    pub(crate) fn load_pages(
        &self,
        segment: &Segment,
        opened: &Arc<Opened>,
        from: u64,
        len: u64,
    ) -> Result<(), FileError> {
        let (size, id) = (segment.size(), segment.id());
        let end = from.saturating_add(len).min(size);
        if from >= end {
            return Ok(());
        }
        let (first, last) = (from / CHUNK, (end - 1) / CHUNK);
        let missing: Vec<u64> = (first..=last).filter(|chunk| !segment.has_chunk(opened, *chunk, size)).collect();
        let Some(next) = missing.last().map(|last| last + 1) else { return Ok(()) };
        self.cold.count_read();
        let follows = missing.first().is_some_and(|first| *first > 0 && self.cold.contains(id, first - 1));
        let mut buffer = vec![0; STEP];
        let at_once = if self.read_admission.is_quiet() { AT_ONCE } else { 1 };
        for piece in missing.chunk_by(|a, b| a + 1 == *b).flat_map(|run| run.chunks(at_once)) {
            let _permit = self.read_admission.admit_read();
            read_ahead_chunks(opened, piece);
            for chunk in piece {
                read_chunk(segment, opened, *chunk, size, &mut buffer)?;
            }
        }
        // The next chunks are read ahead while this read is sent, but not while an fsync or another cold read may wait for the
        // disk.
        let ahead = next..if follows && self.read_admission.is_quiet() { next + AHEAD } else { next };
        let ahead: Vec<u64> =
            ahead.filter(|chunk| (chunk + 1) * CHUNK <= size && !segment.has_chunk(opened, *chunk, size)).collect();
        ahead.chunk_by(|a, b| a + 1 == *b).for_each(|run| read_ahead_chunks(opened, run));
        let wanted: Vec<u64> = missing.into_iter().chain(ahead).collect();
        let bytes = wanted.len() as u64 * CHUNK;
        self.cold.count_bytes(bytes);
        self.residency.count_bytes(bytes);
        let data: Weak<dyn EvictPages> = Arc::downgrade(&opened.data) as _;
        let opened: Weak<dyn EvictPages> = Arc::downgrade(opened) as _;
        self.cold.add_chunks(&self.residency, id, &data, &opened, &wanted);
        Ok(())
    }
}

/// Starts the reads of adjacent chunks before the caller waits for the first of them.
fn read_ahead_chunks(opened: &Opened, run: &[u64]) {
    if let Some(first) = run.first() {
        opened.file().read_ahead(first * CHUNK, run.len() as u64 * CHUNK);
    }
}

/// Waits for a chunk whose read was started.
fn read_chunk(segment: &Segment, opened: &Opened, chunk: u64, size: u64, buffer: &mut [u8]) -> Result<(), FileError> {
    let (from, end) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(size));
    let read = |part: &mut [u8], at| opened.file().read_at(part, at).context("read", &segment.path(LOG));
    if let Some(map) = opened.mapped() {
        // Mostly the chunk is read by one request: waiting for its last page copies nothing.
        if read(&mut [0], end.saturating_sub(1))? == 0 {
            segment.note_lost(end.saturating_sub(1), opened.file());
            return Ok(());
        }
        if map.is_range_resident(from, end.saturating_sub(from)) {
            opened.files().residency.mark_resident(segment.id(), chunk);
            return Ok(());
        }
    }
    let mut at = from;
    while at < end {
        let part = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
        let found = read(buffer.get_mut(..part).unwrap_or_default(), at)?;
        if found == 0 {
            segment.note_lost(at, opened.file());
            return Ok(());
        }
        at += found as u64;
    }
    opened.files().residency.mark_resident(segment.id(), chunk);
    Ok(())
}
