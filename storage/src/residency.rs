//! What is known to lie in memory, so that the hot path need not ask the kernel each time.
//!
//! Files are looked at in chunks. A chunk that was found in memory, or brought there, counts as resident until so much was
//! read and written, or so much time has passed, that the kernel may have taken its pages. The clock that says so counts MiB; the
//! broker adds some as time goes by. The table has a fixed size and no locks: one entry may push another out, which costs a
//! system call. A wrong "resident" costs a wait for the disk, nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a file that are looked at, brought in and let go as one.
pub(crate) const CHUNK: u64 = 256 << 10;
/// Stands for a segment's offset index.
pub(crate) const INDEX_CHUNK: u64 = u64::MAX;

const SLOTS: usize = 1 << 15;
/// MiB that may go by before a chunk has to be looked at again.
const FRESH: u32 = 256;
/// MiB that a turn of the broker's clock counts as: with four a second, everything is looked at again after 8 s.
const TURN: u64 = 8 << 20;

static BYTES: AtomicU64 = AtomicU64::new(1 << 20);
/// The upper half says which chunk, the lower when.
static TABLE: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

/// Time goes by: call it about four times a second.
pub fn age_residency() {
    spend(TURN);
}

/// So many bytes came into the page cache.
pub(crate) fn spend(bytes: u64) {
    BYTES.fetch_add(bytes, Ordering::Relaxed);
}

/// The clock.
pub(crate) fn now() -> u32 {
    (BYTES.load(Ordering::Relaxed) >> 20) as u32
}

/// Whether what was in memory at `then` still counts as such.
pub(crate) fn is_fresh(then: u32) -> bool {
    now().wrapping_sub(then) <= FRESH
}

/// Half of the time that something stays fresh has gone by.
pub(crate) fn is_aging(then: u32) -> bool {
    now().wrapping_sub(then) > FRESH / 2
}

fn place(file: u64, chunk: u64) -> (&'static AtomicU64, u64) {
    let mixed = (file.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ chunk.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = mixed ^ mixed >> 33;
    static NONE: AtomicU64 = AtomicU64::new(0);
    // The remainder is always a place in the table.
    let slot = TABLE.get(mixed as usize % SLOTS).unwrap_or(&NONE);
    (slot, mixed >> 32 << 32 | 1 << 32)
}

/// A chunk is in memory.
pub(crate) fn note(file: u64, chunk: u64) {
    let (slot, key) = place(file, chunk);
    slot.store(key | u64::from(now()), Ordering::Relaxed);
}

/// Whether a chunk is known to be in memory.
pub(crate) fn is_known(file: u64, chunk: u64) -> bool {
    let (slot, key) = place(file, chunk);
    let found = slot.load(Ordering::Relaxed);
    found >> 32 << 32 == key && is_fresh(found as u32)
}

/// A chunk is not in memory any more.
pub(crate) fn forget(file: u64, chunk: u64) {
    let (slot, key) = place(file, chunk);
    if slot.load(Ordering::Relaxed) >> 32 << 32 == key {
        slot.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_until_it_is_forgotten() {
        let file = u64::MAX - 7;
        assert!(!is_known(file, 3));
        note(file, 3);
        assert!(is_known(file, 3) && !is_known(file, 4) && !is_known(file - 1, 3));
        forget(file, 4);
        assert!(is_known(file, 3));
        forget(file, 3);
        assert!(!is_known(file, 3));
    }

    #[test]
    fn an_hour_makes_everything_old() {
        assert!(is_fresh(now()) && !is_aging(now()));
        assert!(!is_fresh(now().wrapping_sub(FRESH + 1)) && is_aging(now().wrapping_sub(FRESH)));
    }
}
