//! Walks a segment file from front to back through a buffer: for recovery, and to rebuild derived files.
//!
//! It reads with plain reads, never through a map: the file may be damaged, and may be cut short afterwards.

use crate::{
    DamagedRange,
    error::FileError,
    io::LogFile,
    walk::{self, STEP_BYTES, Step},
};

/// Read-ahead of a scan that looks at headers only, and of one that checks every byte.
const HEADERS_WINDOW: usize = 16 << 10;
const FULL_WINDOW: usize = 1 << 20;

/// Where a scan stopped.
#[derive(Debug)]
pub(crate) struct ScanEnd {
    /// End of the last sound batch.
    pub position: u64,
    /// Why the scan stopped; `None` at the end of the data.
    pub damage: Option<&'static str>,
}

/// Reads up to the buffer's length at a position; an error ends the scan.
pub(crate) type Read<'a> = &'a dyn Fn(&mut [u8], u64) -> std::io::Result<usize>;

/// Distance of the read-ahead of a walk from batch to batch.
const AHEAD: u64 = 8 << 20;

/// A window over a file. It reads ahead explicitly, since the kernel's read-ahead is disabled on its handle.
pub(crate) struct Window<'a> {
    file: &'a dyn LogFile,
    path: &'a std::path::Path,
    read: Option<Read<'a>>,
    buffer: Vec<u8>,
    start: u64,
    /// End of the range that was read ahead.
    begun: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn LogFile, path: &'a std::path::Path) -> Self {
        file.disable_read_ahead();
        Self { file, path, read: None, buffer: Vec::new(), start: 0, begun: 0 }
    }

    /// A window that reads by `read`.
    pub(crate) fn read_by(file: &'a dyn LogFile, path: &'a std::path::Path, read: Read<'a>) -> Self {
        Self { read: Some(read), ..Self::new(file, path) }
    }

    /// `len` bytes at `position` (fewer at the end of the file), reading at least `ahead` when it must read.
    pub(crate) fn view(&mut self, position: u64, len: usize, ahead: usize) -> Result<&[u8], FileError> {
        let inside = position.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let held = inside.filter(|skip| skip.checked_add(len).is_some_and(|end| end <= self.buffer.len()));
        let skip = match held {
            Some(skip) => skip,
            None => {
                let follows = inside.is_some_and(|skip| skip <= self.buffer.len());
                self.buffer.resize(len.max(ahead), 0);
                let read = match self.read {
                    Some(read) => read(&mut self.buffer, position),
                    None => {
                        if follows {
                            self.read_ahead(position.saturating_add(self.buffer.len() as u64));
                        }
                        self.file.read_at(&mut self.buffer, position)
                    }
                };
                let read =
                    read.map_err(|source| FileError { action: "read", path: self.path.to_path_buf(), source })?;
                self.buffer.truncate(read);
                self.start = position;
                0
            }
        };
        let end = skip.saturating_add(len).min(self.buffer.len());
        Ok(self.buffer.get(skip..end).unwrap_or_default())
    }

    fn read_ahead(&mut self, from: u64) {
        if self.begun < from.saturating_add(AHEAD / 2) {
            let (begun, until) = (self.begun.max(from), from.saturating_add(AHEAD));
            self.file.read_ahead(begun, until - begun);
            self.begun = until;
        }
    }
}

/// A copy of the first bytes of a batch, so that a move of the window does not lose them.
struct Head {
    bytes: [u8; STEP_BYTES],
    len: usize,
}

impl Head {
    /// Reads no more than it needs where the last batch was so large that the next header lies outside anyway.
    fn at(window: &mut Window<'_>, position: u64, ahead: usize) -> Result<Self, FileError> {
        let mut head = Self { bytes: [0; STEP_BYTES], len: 0 };
        let view = window.view(position, STEP_BYTES, ahead)?;
        for (to, from) in head.bytes.iter_mut().zip(view) {
            *to = *from;
        }
        head.len = view.len().min(STEP_BYTES);
        Ok(head)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn step(&self) -> Result<Step, walk::StepError> {
        walk::step(self.bytes())
    }
}

/// Steps over batches from `position` to `limit`, calling `each` with the position and step of every sound one and its
/// bytes (whole if checked, else at least the header). Batches that begin at or above `check_from` have their CRC
/// checked. `expected` is the lowest offset the first batch may have; all lie below `next`, where the next segment begins.
pub(crate) fn scan(
    window: &mut Window<'_>,
    mut position: u64,
    limit: u64,
    mut expected: i64,
    check_from: i64,
    next: i64,
    mut each: impl FnMut(u64, &Step, &[u8]),
) -> Result<ScanEnd, FileError> {
    let stop = |position, what| Ok(ScanEnd { position, damage: Some(what) });
    let mut ahead = if expected >= check_from { FULL_WINDOW } else { HEADERS_WINDOW };
    let mut following = None;
    while position < limit {
        let head = match following.take() {
            Some(head) => head,
            None => Head::at(window, position, ahead)?,
        };
        let step = match head.step() {
            Ok(step) => step,
            Err(error) => return stop(position, error.what()),
        };
        let end = position.saturating_add(step.size as u64);
        if end > limit {
            return stop(position, "the file ends inside a batch");
        }
        if step.base_offset < expected && !(step.magic < 2 && step.last_offset >= expected) {
            return stop(position, "offsets go backwards");
        }
        if step.last_offset >= next {
            return stop(position, "offsets overlap the next segment");
        }
        let checked = step.base_offset >= check_from;
        ahead = match checked {
            true => FULL_WINDOW,
            false if step.size > HEADERS_WINDOW / 4 => STEP_BYTES,
            false => HEADERS_WINDOW,
        };
        if checked {
            // The batch and the next header with one read.
            window.view(position, step.size.saturating_add(STEP_BYTES), ahead)?;
        }
        let after = if end < limit { Some(Head::at(window, end, ahead)?) } else { None };
        let leads_to = after.as_ref().map(Head::step);
        // No CRC covers a batch's base offset. A gap is allowed, unless the next batch lies in it.
        let follows = |after: &Step| after.base_offset >= expected && after.base_offset <= step.last_offset;
        if step.base_offset > expected
            && step.magic == 2
            && leads_to.as_ref().is_some_and(|after| after.as_ref().is_ok_and(follows))
        {
            return stop(position, "a batch has a wrong offset");
        }
        // The header of a batch without a valid next header is verified by CRC: its length may be wrong.
        let leads = |after: &Step| after.base_offset > step.last_offset || after.magic < 2;
        let check = checked || leads_to.is_some_and(|after| !after.as_ref().is_ok_and(leads));
        let whole = check || step.control;
        let bytes = if whole { window.view(position, step.size, ahead.max(step.size))? } else { head.bytes() };
        if bytes.len() < if whole { step.size } else { STEP_BYTES.min(step.size) } {
            return stop(position, "the file ends inside a batch");
        }
        if check && !walk::crc_matches(bytes, step.magic) {
            return stop(position, "a batch has a wrong CRC");
        }
        each(position, &step, bytes);
        following = after;
        position = end;
        expected = step.last_offset.saturating_add(1);
    }
    Ok(ScanEnd { position, damage: None })
}

/// The known damage of a segment before a scan, and the damage that the scan finds.
pub(crate) struct Damage<'a> {
    /// Base offset of the segment.
    pub segment: i64,
    /// Data below this offset was durable: behind damage the scan searches for the next sound batch and continues. Above, the first
    /// damage is the end.
    pub durable_up_to: i64,
    /// Where the next segment begins; `i64::MAX` for the last one.
    pub next: i64,
    /// Damage known already, in order: it is skipped.
    pub known: &'a [DamagedRange],
    /// All damage that was skipped, in order. An `end_offset` of `i64::MAX` means that nothing sound follows.
    pub found: Vec<DamagedRange>,
}

/// As [`scan`], through damage: see [`Damage`].
pub(crate) fn scan_through(
    window: &mut Window<'_>,
    mut position: u64,
    limit: u64,
    mut expected: i64,
    check_from: i64,
    damage: &mut Damage<'_>,
    mut each: impl FnMut(u64, &Step, &[u8]),
) -> Result<ScanEnd, FileError> {
    loop {
        let known = damage.known.iter().find(|range| range.end_position > position && range.position < limit);
        let until = known.map_or(limit, |range| range.position.max(position));
        let end = scan(window, position, until, expected, check_from, damage.next, |position, step, bytes| {
            expected = step.last_offset.saturating_add(1);
            each(position, step, bytes);
        })?;
        let range = match (end.damage, known) {
            (None, None) => return Ok(end),
            (None, Some(range)) => range.clone(),
            (Some(_), _) if expected >= damage.durable_up_to => return Ok(end),
            (Some(what), _) => {
                let next = next_sound(window, end.position.saturating_add(1), limit, expected..damage.next)?;
                let (end_position, end_offset) = next.unwrap_or((limit, damage.next));
                DamagedRange {
                    first_offset: expected,
                    end_offset,
                    segment: damage.segment,
                    position: end.position,
                    end_position,
                    what: what.to_owned(),
                }
            }
        };
        let (end_position, end_offset) = (range.end_position, range.end_offset);
        damage.found.push(range);
        if end_position >= limit {
            return Ok(ScanEnd { position: end.position, damage: end.damage.or(Some("damaged to its end")) });
        }
        (position, expected) = (end_position, end_offset.max(expected));
    }
}

/// Position and base offset of the first batch from `position` on that is sound to its last byte and has an offset in `offsets`:
/// finds the end of damage, where no header is valid.
fn next_sound(
    window: &mut Window<'_>,
    position: u64,
    limit: u64,
    offsets: std::ops::Range<i64>,
) -> Result<Option<(u64, i64)>, FileError> {
    for position in position..limit {
        let header = window.view(position, STEP_BYTES, FULL_WINDOW)?;
        if header.is_empty() {
            // The file is too short: positions behind its end need no check.
            break;
        }
        let Ok(step) = walk::step(header) else { continue };
        let fits = position.saturating_add(step.size as u64) <= limit;
        if fits && offsets.contains(&step.base_offset) && offsets.contains(&step.last_offset) {
            let bytes = window.view(position, step.size, FULL_WINDOW)?;
            if bytes.len() == step.size && walk::crc_matches(bytes, step.magic) {
                return Ok(Some((position, step.base_offset)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        io::{Disk, Open, OsDisk},
        mmap::Map,
    };

    const MIB: u64 = 1 << 20;

    /// The kernel's read-ahead marks a page, and the next read of that page triggers further read-ahead up to the end of the file,
    /// even with read-ahead disabled on the reader's handle.
    #[test]
    fn a_walk_does_not_trigger_kernel_read_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let mut file = std::fs::File::create_new(&path).unwrap();
        (0..24).for_each(|_| file.write_all(&vec![7; MIB as usize]).unwrap());
        file.sync_all().unwrap();
        let map = Map::of(&std::fs::File::open(&path).unwrap(), 24 << 20).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        if map.is_range_resident(20 * MIB, 1) {
            // A file system without a page cache.
            return;
        }
        let opened = OsDisk.open(&path, Open::Existing).unwrap();
        let mut window = Window::new(opened.as_ref(), &path);
        for at in 0..5 {
            assert_eq!(window.view(at * MIB, 100, FULL_WINDOW).unwrap().len(), 100);
        }
        let began = Instant::now();
        while !map.is_range_resident(5 * MIB, AHEAD / 2) {
            assert!(began.elapsed() < Duration::from_secs(60), "the next chunks are read ahead");
            std::thread::yield_now();
        }
        let (reader, mut buffer) = (OsDisk.open(&path, Open::Existing).unwrap(), vec![0; 64 << 10]);
        reader.disable_read_ahead();
        for at in (0..5 * MIB + AHEAD + 3 * MIB).step_by(buffer.len()) {
            reader.read_at(&mut buffer, at).unwrap();
            assert!(
                !map.is_range_resident((at + buffer.len() as u64).max(5 * MIB + AHEAD) + MIB / 8, 1),
                "read ahead at {at}"
            );
        }
    }
}
