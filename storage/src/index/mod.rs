//! The sparse indexes of a segment, in Kafka's file formats.
//!
//! An index of the active segment lives in memory and is written out at checkpoints and when the segment closes: it can
//! be rebuilt from the data, so the append path owes it no system call. A closed segment's index is a map of its file,
//! made at first use. Entries come only from the one writer; readers take no lock on the offset index.

mod offset;
mod time;
mod transaction;

pub(crate) use offset::{OffsetEntry, OffsetIndex, sound_entries};
pub(crate) use time::{TimeEntry, TimeIndex, sound_times};
pub(crate) use transaction::{AbortedTxn, TransactionIndex};

/// Index of the first of `len` ordered items for which `after` holds (all before it do not).
fn partition(len: usize, mut after: impl FnMut(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let mid = low + (high - low) / 2;
        if after(mid) { high = mid } else { low = mid + 1 }
    }
    low
}
