//! The progress of the running passes.

use std::sync::atomic::{AtomicU64, Ordering};

/// One pass, counted by the thread that runs it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    bytes: AtomicU64,
    bytes_in_all: AtomicU64,
    records: AtomicU64,
}

/// All passes that run now, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunningPasses {
    /// How many there are.
    pub passes: u64,
    /// Bytes that they have read. The dirty part is read twice: for its keys, and to be copied.
    pub bytes: u64,
    /// Bytes that they will have read in the end, as far as that is known.
    pub bytes_in_all: u64,
    /// Records in what they have read.
    pub records: u64,
}

impl Progress {
    /// Adds `bytes` to what the pass will read.
    pub(super) fn expect(&self, bytes: u64) {
        self.bytes_in_all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A batch was read.
    pub(super) fn read(&self, bytes: u64, records: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, all: &mut RunningPasses) {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        all.passes += 1;
        all.bytes += get(&self.bytes);
        all.bytes_in_all += get(&self.bytes_in_all).max(get(&self.bytes));
        all.records += get(&self.records);
    }
}
