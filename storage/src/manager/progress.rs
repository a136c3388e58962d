//! Progress of opening the log dirs, for health checks and logs. Counters only: nothing depends on them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counters of opening the log dirs; may be read from any thread.
#[derive(Debug, Default)]
pub struct LoadProgress {
    partitions: AtomicUsize,
    opened: AtomicUsize,
    segments: AtomicUsize,
    recovered: AtomicUsize,
}

/// `done` of the `all` known so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Done.
    pub done: usize,
    /// Known total.
    pub all: usize,
}

impl Progress {
    /// Number still to be done.
    pub fn left(self) -> usize {
        self.all.saturating_sub(self.done)
    }
}

impl LoadProgress {
    /// Partitions whose logs are open.
    pub fn partitions(&self) -> Progress {
        Self::read(&self.opened, &self.partitions)
    }

    /// Segments that recovery has walked, of those that it must walk: the unflushed ones after a crash.
    pub fn segments(&self) -> Progress {
        Self::read(&self.recovered, &self.segments)
    }

    fn read(done: &AtomicUsize, all: &AtomicUsize) -> Progress {
        let done = done.load(Ordering::Relaxed);
        Progress { done, all: all.load(Ordering::Relaxed).max(done) }
    }

    pub(crate) fn add_partitions(&self, partitions: usize) {
        self.partitions.store(partitions, Ordering::Relaxed);
    }

    pub(crate) fn count_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_segments(&self, segments: usize) {
        self.segments.fetch_add(segments, Ordering::Relaxed);
    }

    pub(crate) fn count_recovered(&self, segments: usize) {
        self.recovered.fetch_add(segments, Ordering::Relaxed);
    }
}
