//! A cache of page cache residency, so that the hot path need not query the kernel each time.
//!
//! Files are divided into chunks. A chunk that was found in memory, or loaded, counts as resident until so much was read and
//! written, or so much time has passed, that the kernel may have reclaimed its pages. The clock for that counts MiB; the broker
//! also advances it with time. The table has a fixed size and no locks: a collision replaces an entry, which costs a system call. A
//! wrong "resident" costs a wait for the disk, nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a file that are checked, loaded and evicted as one unit.
pub(crate) const CHUNK: u64 = 256 << 10;
/// The chunk number of a segment's offset index.
pub(crate) const INDEX_CHUNK: u64 = u64::MAX;

const SLOTS: usize = 1 << 15;
/// Age in MiB after which a chunk must be checked again.
const FRESH: u32 = 256;
/// Bytes that one tick of the broker's timer counts for: with four ticks a second, everything is checked again after 8 s.
const TURN: u64 = 8 << 20;

/// On a cache line of its own, since appends change it.
#[derive(Debug)]
#[repr(align(64))]
struct Clock(AtomicU64);

/// See the module. One for all logs of a broker.
#[derive(Debug)]
pub(crate) struct Residency {
    clock: Clock,
    /// The upper half is the chunk's key, the lower half the time.
    table: Box<[AtomicU64]>,
}

impl Default for Residency {
    fn default() -> Self {
        let table = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { clock: Clock(AtomicU64::new(1 << 20)), table }
    }
}

impl Residency {
    /// Advances the clock by one tick: call it about four times a second.
    pub(crate) fn advance_clock(&self) {
        self.count_bytes(TURN);
    }

    /// Advances the clock by bytes that came into the page cache.
    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.clock.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The clock.
    pub(crate) fn now(&self) -> u32 {
        (self.clock.0.load(Ordering::Relaxed) >> 20) as u32
    }

    /// Whether a mark of time `then` is still valid.
    pub(crate) fn is_fresh(&self, then: u32) -> bool {
        self.now().wrapping_sub(then) <= FRESH
    }

    /// Whether half of the time that a mark stays fresh has passed.
    pub(crate) fn is_aging(&self, then: u32) -> bool {
        self.now().wrapping_sub(then) > FRESH / 2
    }

    /// The chunk's slot, which is always there, and its key.
    fn find_slot(&self, file: u64, chunk: u64) -> (Option<&AtomicU64>, u64) {
        let mixed = (file.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ chunk.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
            .wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mixed = mixed ^ mixed >> 33;
        (self.table.get(mixed as usize % SLOTS), mixed >> 32 << 32 | 1 << 32)
    }

    /// Marks a chunk as in memory.
    pub(crate) fn mark_resident(&self, file: u64, chunk: u64) {
        if let (Some(slot), key) = self.find_slot(file, chunk) {
            slot.store(key | u64::from(self.now()), Ordering::Relaxed);
        }
    }

    /// Whether a chunk has a fresh mark.
    pub(crate) fn is_marked_resident(&self, file: u64, chunk: u64) -> bool {
        let (slot, key) = self.find_slot(file, chunk);
        let found = slot.map_or(0, |slot| slot.load(Ordering::Relaxed));
        found >> 32 << 32 == key && self.is_fresh(found as u32)
    }

    /// Clears the mark of a chunk.
    pub(crate) fn clear(&self, file: u64, chunk: u64) {
        if let (Some(slot), key) = self.find_slot(file, chunk)
            && slot.load(Ordering::Relaxed) >> 32 << 32 == key
        {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_resident_until_it_is_cleared() {
        let (residency, file) = (Residency::default(), u64::MAX - 7);
        assert!(!residency.is_marked_resident(file, 3));
        residency.mark_resident(file, 3);
        assert!(
            residency.is_marked_resident(file, 3)
                && !residency.is_marked_resident(file, 4)
                && !residency.is_marked_resident(file - 1, 3)
        );
        residency.clear(file, 4);
        assert!(residency.is_marked_resident(file, 3));
        residency.clear(file, 3);
        assert!(!residency.is_marked_resident(file, 3));
    }

    #[test]
    fn marks_expire_as_the_clock_advances() {
        let residency = Residency::default();
        let now = residency.now();
        assert!(residency.is_fresh(now) && !residency.is_aging(now));
        assert!(!residency.is_fresh(now.wrapping_sub(FRESH + 1)) && residency.is_aging(now.wrapping_sub(FRESH)));
    }

    #[test]
    fn two_tables_in_one_process_are_independent() {
        let (one, other) = (Residency::default(), Residency::default());
        one.mark_resident(7, 3);
        assert!(one.is_marked_resident(7, 3) && !other.is_marked_resident(7, 3));
        let before = other.now();
        one.count_bytes(1 << 30);
        assert_eq!(other.now(), before);
        assert!(!one.is_marked_resident(7, 3));
    }
}
