//! What befalls the disk in one life, drawn from the seed: a full disk that passes, failed operations, bit rot, slowness.
//!
//! A failed operation ends the life soon after: the log dir is offline for good, and the broker is restarted. A full or a slow disk
//! passes, and the broker must serve again in the same life. Must never fail a disk without counting it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::disk::{Fault, SimDisk};
use crate::rng::Rng;

/// Bytes of the disk while it is not full.
const CAPACITY: u64 = 256 << 20;

/// A disk error that the sum of all runs must have had, with the words that its entries in [`SimDisk::failed`] begin with
/// and contain.
const KINDS: [(&str, &str, &str); 4] = [
    ("full disk", "full: ", ""),
    ("failed write", "step ", ": write "),
    ("failed sync", "step ", ": sync "),
    ("failed read", "read ", ""),
];

/// Kinds of faults that the fixed seeds must cover.
pub const ALL_KINDS: [&str; 6] = ["full disk", "failed write", "failed sync", "failed read", "slow disk", "bit rot"];

/// A fault that is built in, so that the checks can be seen to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The broker is sound.
    Nothing,
    /// Produce requests are answered before the flush.
    AnswerBeforeFlush,
    /// From some time on a sync does nothing.
    LyingSync,
    /// A failed sync is tried again, and the second answer is believed.
    FailedSyncBelieved,
    /// A batch that rotted is served as if it were sound.
    RotServed,
}

/// The part of a life in which something goes on.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Duration,
    to: Duration,
}

impl Window {
    fn draw(rng: &mut Rng) -> Self {
        let from = Duration::from_millis(rng.between(1, 500) as u64);
        Self { from, to: from + Duration::from_millis(rng.between(50, 1500) as u64) }
    }

    fn holds(&self, at: Duration) -> bool {
        self.from <= at && at < self.to
    }
}

/// Whether only a restart mends what this entry of [`SimDisk::failed`] did.
pub fn needs_restart(failure: &str) -> bool {
    !failure.starts_with("full: ") || failure.contains("__cluster_metadata")
}

/// See the module.
#[derive(Debug)]
pub struct Faults {
    full: Option<Window>,
    is_full: bool,
    /// What is left of a full disk: less than the broker's reserve, or nothing.
    room: u64,
    slow: Option<(Window, u64)>,
    /// The longest delay of blocking work in milliseconds.
    delay_ms: Arc<AtomicU64>,
    /// A bit flips then.
    pub rot_at: Option<Duration>,
    /// Failures that the disk had before this life.
    failed_before: usize,
    slowed: bool,
}

/// An EIO after a number of operations that may be small or large.
fn fault(rng: &mut Rng, operations: &'static [&'static str]) -> Fault {
    let most = [20, 80, 400][rng.below(3)];
    Fault { operations, place: "", after: rng.below(most), times: 1 + rng.below(2) }
}

impl Faults {
    /// Draws the faults of a life and arms the disk. The last life has none.
    pub fn draw(rng: &mut Rng, disk: &SimDisk, last: bool, planted: Planted) -> Self {
        disk.set_capacity(CAPACITY);
        disk.remove_folders();
        let mut armed = Vec::new();
        let mut drawn = Self {
            full: None,
            is_full: false,
            room: 0,
            slow: None,
            delay_ms: Arc::default(),
            rot_at: None,
            failed_before: disk.failed().len(),
            slowed: false,
        };
        let kinds = if last { 0 } else { [0, 1, 1, 2][rng.below(4)] };
        for _ in 0..kinds {
            match rng.below(8) {
                0 => {
                    drawn.full = Some(Window::draw(rng));
                    drawn.room = [0, 1500, 6000, 40_000][rng.below(4)];
                }
                1 => armed.push(fault(rng, &["write", "set the length of", "create", "rename"])),
                2 => armed.push(fault(rng, &["sync"])),
                3 => armed.push(fault(rng, &["sync", "sync folder", "sync all"])),
                // A start reads little.
                4 => armed.push(Fault { after: rng.below(30), ..fault(rng, &["read"]) }),
                5 => drawn.slow = Some((Window::draw(rng), rng.between(30, 900) as u64)),
                _ => drawn.rot_at = Some(Duration::from_millis(rng.between(0, 600) as u64)),
            }
        }
        match planted {
            Planted::FailedSyncBelieved if !last => {
                disk.trust_failed_syncs();
                armed.push(Fault { operations: &["sync"], place: "/t-", after: rng.below(20), times: 1 });
                armed.push(Fault { operations: &["sync"], place: "/esker-journal-", after: rng.below(60), times: 3 });
            }
            Planted::RotServed if !last => drawn.rot_at = Some(Duration::ZERO),
            _ => {}
        }
        disk.set_faults(armed);
        drawn
    }

    /// For the environment: blocking work waits for up to so many milliseconds.
    pub fn delay_ms(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.delay_ms)
    }

    /// Brings the disk into the state of this moment of the life.
    pub fn advance(&mut self, at: Duration, disk: &SimDisk) {
        let full = self.full.is_some_and(|window| window.holds(at));
        if full != self.is_full {
            self.is_full = full;
            disk.set_capacity(if full { disk.used() + self.room } else { CAPACITY });
        }
        let slow = self.slow.filter(|(window, _)| window.holds(at)).map_or(0, |(_, most)| most);
        self.slowed |= slow > 0;
        self.delay_ms.store(slow, Ordering::Relaxed);
    }

    /// A full or slow disk is one no longer then.
    pub fn passed_at(&self) -> Option<Duration> {
        self.full.iter().chain(self.slow.iter().map(|(window, _)| window)).map(|window| window.to).max()
    }

    /// The failures of this life.
    pub fn failures(&self, disk: &SimDisk) -> Vec<String> {
        disk.failed().split_off(self.failed_before)
    }

    /// Something failed that only a restart mends: any EIO, and a full disk where the metadata log was written or a file was synced.
    pub fn needs_restart(&self, disk: &SimDisk) -> bool {
        self.failures(disk).iter().any(|what| needs_restart(what))
    }

    /// Adds this life's faults to the counts.
    pub fn count(&self, disk: &SimDisk, counts: &mut BTreeMap<&'static str, usize>) {
        let failures = self.failures(disk);
        for (kind, first, then) in KINDS {
            let hits = failures.iter().filter(|what| what.starts_with(first) && what.contains(then)).count();
            *counts.entry(kind).or_default() += hits;
        }
        *counts.entry("slow disk").or_default() += usize::from(self.slowed);
    }
}
