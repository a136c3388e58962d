//! The scrub: reads closed segments at a bounded rate and checks their CRCs, so that bit rot is found while another replica may
//! still be intact, and not by the consumer that needs the records.
//!
//! It reads through handles of its own, never through a map: a bad sector is an error here, and SIGBUS there. A finding is verified
//! by a second read, then marked as recovery marks damage: the range answers CORRUPT_MESSAGE and the rest is served. It must never
//! change a data file.

#[cfg(test)]
mod tests;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use crate::{
    DamagedRange, Log, LogManager,
    dir::LogDir,
    error::FileError,
    files::LOG,
    io::{Context, LogFile, Open},
    residency::CHUNK,
    scan::{Damage, Window, scan_through},
    segment::Segment,
    throttle::Throttle,
};

/// Statistics of the scrub since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubStats {
    /// Bytes of segments that were checked to their end.
    pub bytes: u64,
    /// Segments that were checked to their end.
    pub segments: u64,
    /// Damaged ranges that were found.
    pub findings: u64,
    /// Finished rounds over all logs.
    pub rounds: u64,
    /// When the last of them ended, wall clock ms; 0 if none has.
    pub last_round_ms: i64,
}

/// See the module. Shared by the thread that runs it and readers of its statistics.
#[derive(Debug)]
pub struct Scrubber {
    throttle: Throttle,
    stop: AtomicBool,
    bytes: AtomicU64,
    segments: AtomicU64,
    findings: AtomicU64,
    rounds: AtomicU64,
    last_round_ms: AtomicI64,
}

impl Scrubber {
    /// A scrubber that reads only during [`Scrubber::round`], at this rate at most.
    pub fn new(bytes_per_second: f64) -> Self {
        Self {
            throttle: Throttle::new(bytes_per_second),
            stop: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            findings: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            last_round_ms: AtomicI64::new(0),
        }
    }

    /// Takes effect with the next read.
    pub fn set_rate(&self, bytes_per_second: f64) {
        self.throttle.set_rate(bytes_per_second);
    }

    /// Makes a running round end at its next read.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The statistics.
    pub fn stats(&self) -> ScrubStats {
        ScrubStats {
            bytes: self.bytes.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
            findings: self.findings.load(Ordering::Relaxed),
            rounds: self.rounds.load(Ordering::Relaxed),
            last_round_ms: self.last_round_ms.load(Ordering::Relaxed),
        }
    }

    /// Checks every closed segment of all logs once. `clock` is read at the end. False if it was stopped. Blocks for a long time.
    pub fn round(&self, logs: &LogManager, clock: impl Fn() -> i64) -> bool {
        let mut all = logs.logs();
        if let Some(turn) = (clock().unsigned_abs() as usize).checked_rem(all.len()) {
            // A broker that restarts often never finishes a round. The first log depends on the clock, so that rounds cover
            // different logs.
            all.rotate_left(turn);
        }
        for log in all {
            for segment in log.closed_segments() {
                if self.stopped() {
                    return false;
                }
                if log.is_offline() {
                    break;
                }
                match self.check(&log, &segment) {
                    Ok(()) => {}
                    Err(_) if self.stopped() => return false,
                    // Retention, for example, may remove files at any time.
                    Err(error) => {
                        tracing::debug!(topic = %log.topic(), partition = log.partition(), %error, "a segment could not be scrubbed");
                    }
                }
            }
        }
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.last_round_ms.store(clock(), Ordering::Relaxed);
        true
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn check(&self, log: &Log, segment: &Arc<Segment>) -> Result<(), FileError> {
        let path = segment.path(LOG);
        let damaged = self.damage_of(log, segment, &path)?;
        self.segments.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(segment.size(), Ordering::Relaxed);
        if damaged == segment.damaged {
            return Ok(());
        }
        // Memory may fail, too, and the file may just have been truncated or removed.
        let again = self.damage_of(log, segment, &path)?;
        let new = again.iter().filter(|range| !segment.damaged.contains(range)).count();
        if again != damaged || new == 0 {
            return Ok(());
        }
        if log.mark_damaged(segment, again)? {
            self.findings.fetch_add(new as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads in pieces under the admission control of cold reads. Pages that were not in memory before are dropped afterwards, so
    /// that they do not evict pages in use.
    fn read(&self, home: &LogDir, file: &dyn LogFile, mut buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while !buffer.is_empty() {
            let at = position.saturating_add(done as u64);
            let whole = usize::try_from(CHUNK - at % CHUNK).unwrap_or(usize::MAX).min(buffer.len());
            let (piece, rest) = buffer.split_at_mut(whole);
            self.throttle.acquire(home.env(), piece.len() as u64, &self.stop);
            if self.stopped() {
                return Err(io::Error::other("the broker stops"));
            }
            let permit = home.files.read_admission.admit_read();
            let was_in_memory = file.is_in_memory(at, piece.len() as u64);
            let read = file.read_at(piece, at)?;
            if !was_in_memory {
                let page_start = at - at % rustix::param::page_size() as u64;
                file.drop_pages(page_start, at.saturating_add(read as u64) - page_start);
            }
            drop(permit);
            done += read;
            if read < piece.len() {
                break;
            }
            buffer = rest;
        }
        Ok(done)
    }

    /// All damage of a segment, in order: known and new ranges.
    fn damage_of(&self, log: &Log, segment: &Segment, path: &Path) -> Result<Vec<DamagedRange>, FileError> {
        let file = log.home().disk.open(path, Open::Existing).context("open", path)?;
        let read = |buffer: &mut [u8], position: u64| self.read(log.home(), file.as_ref(), buffer, position);
        let mut window = Window::read_by(file.as_ref(), path, &read);
        let (limit, base, next) = (segment.size(), segment.base_offset, segment.next_offset());
        let mut damage =
            Damage { segment: base, durable_up_to: i64::MAX, next, known: &segment.damaged, found: Vec::new() };
        let (mut sound, mut follows) = (0, base);
        let walked = scan_through(&mut window, 0, limit, base, i64::MIN, &mut damage, |position, step, _| {
            sound = position.saturating_add(step.size as u64);
            follows = step.last_offset.saturating_add(1);
        });
        match walked {
            Ok(_) => Ok(damage.found),
            Err(error) if self.stopped() || error.is_exhausted() => Err(error),
            Err(error) => {
                let mut found = damage.found;
                let known_end = found.last().map(|range| (range.end_position, range.end_offset));
                let (position, first_offset) = known_end.map_or((sound, follows), |end| end.max((sound, follows)));
                let what = format!("the disk cannot read it: {}", error.source);
                found.push(DamagedRange {
                    first_offset,
                    end_offset: next,
                    segment: base,
                    position,
                    end_position: limit,
                    what,
                });
                Ok(found)
            }
        }
    }
}
