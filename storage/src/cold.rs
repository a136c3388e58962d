//! Bringing cold data into memory, and letting it go again: a consumer that is a day behind must neither stall the others nor
//! push what they read out of the page cache.
//!
//! Chunks that are not in memory are read on the caller's (blocking) thread; for a reader that goes on from where the last one
//! ended, the next ones are begun. All chunks brought in this way wait in one line; past a bound the oldest are handed back to the kernel.
//! So readers that follow each other closely share them, and all cold readers together take no more than the bound. What was in memory
//! before is never handed back. The kernel's own read-ahead, which may be many MiB at once, is off; and syncs go first (`turns`).

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    error::FileError,
    files::LOG,
    io::Context,
    open_files::{DataFile, Opened},
    residency::{self, CHUNK},
    segment::Segment,
    turns,
};

/// Chunks that are begun for a reader before it asks.
const AHEAD: u64 = 4;
/// Chunks read at once where nobody syncs; else it is one, for a sync waits for it.
const AT_ONCE: usize = 4;
/// Bytes read at once.
const STEP: usize = 64 << 10;
/// All chunks that were brought in take at most this part of memory, within these bounds.
const PART_OF_MEMORY: u64 = 16;
const LEAST: u64 = 64 << 20;
const MOST: u64 = 1 << 30;

/// What cold reads have done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColdReadStats {
    /// Reads that had to wait for the disk.
    pub reads: u64,
    /// Bytes brought into memory for them.
    pub bytes: u64,
    /// Bytes of these that are held now.
    pub held_bytes: u64,
}

/// A chunk that was brought in.
#[derive(Debug)]
struct Chunk {
    segment: u64,
    number: u64,
    data: Weak<DataFile>,
    opened: Weak<Opened>,
}

#[derive(Debug, Default)]
struct Line {
    chunks: VecDeque<Chunk>,
    members: HashSet<(u64, u64)>,
}

/// See the module. One for all logs of a broker.
#[derive(Debug)]
pub(crate) struct ColdCache {
    line: Mutex<Line>,
    most: AtomicU64,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl Default for ColdCache {
    fn default() -> Self {
        let memory = rustix::system::sysinfo();
        let memory = (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit));
        let most = (memory / PART_OF_MEMORY).clamp(LEAST, MOST) / CHUNK;
        Self { line: Mutex::default(), most: AtomicU64::new(most), reads: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }
}

impl ColdCache {
    pub(crate) fn stats(&self) -> ColdReadStats {
        ColdReadStats {
            reads: self.reads.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            held_bytes: self.line.lock().chunks.len() as u64 * CHUNK,
        }
    }

    #[cfg(test)]
    pub(crate) fn set_most(&self, chunks: u64) {
        self.most.store(chunks, Ordering::Relaxed);
    }

    /// Brings `len` bytes from `from` on into memory. Blocks for the disk.
    pub(crate) fn bring_in(
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
        self.reads.fetch_add(1, Ordering::Relaxed);
        let follows = {
            let line = self.line.lock();
            missing.first().is_some_and(|first| *first > 0 && line.members.contains(&(id, first - 1)))
        };
        let mut buffer = vec![0; STEP];
        let at_once = if turns::is_quiet() { AT_ONCE } else { 1 };
        for piece in missing.chunk_by(|a, b| a + 1 == *b).flat_map(|run| run.chunks(at_once)) {
            let _turn = turns::wait(piece.len() as u64 * CHUNK);
            begin(opened, piece);
            for chunk in piece {
                read(segment, opened, *chunk, size, &mut buffer)?;
            }
        }
        // What comes next is on its way while this is sent; but not before what others wait for.
        let ahead = next..if follows && turns::is_quiet() { next + AHEAD } else { next };
        let ahead: Vec<u64> =
            ahead.filter(|chunk| (chunk + 1) * CHUNK <= size && !segment.has_chunk(opened, *chunk, size)).collect();
        ahead.chunk_by(|a, b| a + 1 == *b).for_each(|run| begin(opened, run));
        let wanted: Vec<u64> = missing.into_iter().chain(ahead).collect();
        let bytes = wanted.len() as u64 * CHUNK;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        residency::spend(bytes);
        self.keep(id, opened, &wanted);
        Ok(())
    }

    /// Puts chunks at the end of the line, and hands those at its front back.
    fn keep(&self, segment: u64, opened: &Arc<Opened>, chunks: &[u64]) {
        let most = usize::try_from(self.most.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let mut over = Vec::new();
        let mut line = self.line.lock();
        for number in chunks.iter().copied().filter(|number| *number != residency::INDEX_CHUNK) {
            if line.members.insert((segment, number)) {
                let (data, opened) = (Arc::downgrade(&opened.data), Arc::downgrade(opened));
                line.chunks.push_back(Chunk { segment, number, data, opened });
            }
        }
        while line.chunks.len() > most {
            let Some(chunk) = line.chunks.pop_front() else { break };
            line.members.remove(&(chunk.segment, chunk.number));
            over.push(chunk);
        }
        drop(line);
        for run in over.chunk_by(|a, b| a.segment == b.segment && a.number + 1 == b.number) {
            let Some(first) = run.first() else { continue };
            run.iter().for_each(|chunk| residency::forget(chunk.segment, chunk.number));
            // What was closed meanwhile is the kernel's to keep or drop.
            let Some(data) = first.data.upgrade() else { continue };
            let (at, len) = (first.number * CHUNK, run.len() as u64 * CHUNK);
            if let Some(opened) = first.opened.upgrade()
                && let Some(map) = opened.mapped()
            {
                // Pages that are mapped stay.
                map.release_range(at, len);
            }
            data.file.let_go(at, len);
        }
    }
}

/// Has neighbouring chunks on their way before the first of them is waited for.
fn begin(opened: &Opened, run: &[u64]) {
    if let Some(first) = run.first() {
        opened.file().read_ahead(first * CHUNK, run.len() as u64 * CHUNK);
    }
}

/// Waits for a chunk that was begun.
fn read(segment: &Segment, opened: &Opened, chunk: u64, size: u64, buffer: &mut [u8]) -> Result<(), FileError> {
    let (from, end) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(size));
    let read = |part: &mut [u8], at| opened.file().read_at(part, at).context("read", &segment.path(LOG));
    if let Some(map) = opened.mapped() {
        // It comes in one piece mostly: its last page is waited for, and nothing copied.
        if read(&mut [0], end.saturating_sub(1))? == 0 {
            segment.note_lost(end.saturating_sub(1), opened.file());
            return Ok(());
        }
        if map.holds(from, end.saturating_sub(from)) {
            residency::note(segment.id(), chunk);
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
    residency::note(segment.id(), chunk);
    Ok(())
}
