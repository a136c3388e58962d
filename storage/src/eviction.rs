//! The queue of chunks that cold reads loaded into the page cache: past a bound the oldest are evicted.
//!
//! The module lies below the open files, which own the queue, and knows them only through [`EvictPages`]. `cold` loads the chunks.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Debug,
    sync::{
        Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::residency::{CHUNK, INDEX_CHUNK, Residency};

/// All loaded chunks take at most this part of memory, within these bounds.
const PART_OF_MEMORY: u64 = 16;
const MIN_BYTES: u64 = 64 << 20;
const MAX_BYTES: u64 = 1 << 30;

/// Statistics of cold reads since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColdReadStats {
    /// Reads that had to wait for the disk.
    pub reads: u64,
    /// Bytes loaded into the page cache for them.
    pub bytes: u64,
    /// Bytes of these that are not evicted yet.
    pub held_bytes: u64,
}

/// An owner of pages of a segment's data file: the file, or a map of it.
pub(crate) trait EvictPages: Debug + Send + Sync {
    /// Drops the pages of this part of the file. Both bounds in whole pages.
    fn evict_pages(&self, at: u64, len: u64);
}

/// A loaded chunk.
#[derive(Debug)]
struct Chunk {
    segment: u64,
    number: u64,
    /// The data file; dropped with its last user.
    data: Weak<dyn EvictPages>,
    /// The open files of the segment, with the map.
    opened: Weak<dyn EvictPages>,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    members: HashSet<(u64, u64)>,
}

/// See the module. One for all logs of a broker.
#[derive(Debug)]
pub(crate) struct ColdCache {
    queue: Mutex<Queue>,
    max_chunks: AtomicU64,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl Default for ColdCache {
    fn default() -> Self {
        let memory = rustix::system::sysinfo();
        let memory = (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit));
        let most = (memory / PART_OF_MEMORY).clamp(MIN_BYTES, MAX_BYTES) / CHUNK;
        Self {
            queue: Mutex::default(),
            max_chunks: AtomicU64::new(most),
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl ColdCache {
    pub(crate) fn stats(&self) -> ColdReadStats {
        ColdReadStats {
            reads: self.reads.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            held_bytes: self.queue.lock().chunks.len() as u64 * CHUNK,
        }
    }

    #[cfg(test)]
    pub(crate) fn set_max_chunks(&self, chunks: u64) {
        self.max_chunks.store(chunks, Ordering::Relaxed);
    }

    /// Whether a chunk was loaded, and not evicted since.
    pub(crate) fn contains(&self, segment: u64, number: u64) -> bool {
        self.queue.lock().members.contains(&(segment, number))
    }

    /// Counts a read that has to wait for the disk.
    pub(crate) fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts loaded bytes.
    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds chunks at the end of the queue, and evicts those at its front past the bound.
    pub(crate) fn add_chunks(
        &self,
        residency: &Residency,
        segment: u64,
        data: &Weak<dyn EvictPages>,
        opened: &Weak<dyn EvictPages>,
        chunks: &[u64],
    ) {
        let most = usize::try_from(self.max_chunks.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let mut over = Vec::new();
        let mut queue = self.queue.lock();
        for number in chunks.iter().copied().filter(|number| *number != INDEX_CHUNK) {
            if queue.members.insert((segment, number)) {
                let (data, opened) = (Weak::clone(data), Weak::clone(opened));
                queue.chunks.push_back(Chunk { segment, number, data, opened });
            }
        }
        while queue.chunks.len() > most {
            let Some(chunk) = queue.chunks.pop_front() else { break };
            queue.members.remove(&(chunk.segment, chunk.number));
            over.push(chunk);
        }
        drop(queue);
        for run in over.chunk_by(|a, b| a.segment == b.segment && a.number + 1 == b.number) {
            let Some(first) = run.first() else { continue };
            run.iter().for_each(|chunk| residency.clear(chunk.segment, chunk.number));
            // The kernel manages the pages of a file that was closed meanwhile.
            let Some(data) = first.data.upgrade() else { continue };
            let (at, len) = (first.number * CHUNK, run.len() as u64 * CHUNK);
            if let Some(opened) = first.opened.upgrade() {
                // Pages that are mapped stay.
                opened.evict_pages(at, len);
            }
            data.evict_pages(at, len);
        }
    }
}
