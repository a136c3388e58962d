//! Walks a segment file from front to back through a buffer: for recovery, and to rebuild what is derived from the data.
//!
//! It reads with plain reads, never through a map: the file may be damaged, and may be cut short afterwards.

use crate::{
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
    /// Why it went no further; `None` at the end of the data.
    pub damage: Option<&'static str>,
}

/// A window over a file.
pub(crate) struct Window<'a> {
    file: &'a dyn LogFile,
    path: &'a std::path::Path,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn LogFile, path: &'a std::path::Path) -> Self {
        Self { file, path, buffer: Vec::new(), start: 0 }
    }

    /// `len` bytes at `position` (fewer at the end of the file), reading at least `ahead` when it must read.
    pub(crate) fn view(&mut self, position: u64, len: usize, ahead: usize) -> Result<&[u8], FileError> {
        let inside = position.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let held = inside.filter(|skip| skip.checked_add(len).is_some_and(|end| end <= self.buffer.len()));
        let skip = match held {
            Some(skip) => skip,
            None => {
                self.buffer.resize(len.max(ahead), 0);
                let read = self.file.read_at(&mut self.buffer, position);
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
}

/// Steps over batches from `position` to `limit`, calling `each` with the position and step of every sound one and its
/// bytes (whole if checked, else at least the header). Batches that begin at or above `check_from` have their CRC
/// checked. `expected` is the lowest offset the first batch may have.
pub(crate) fn scan(
    window: &mut Window<'_>,
    mut position: u64,
    limit: u64,
    mut expected: i64,
    check_from: i64,
    mut each: impl FnMut(u64, &Step, &[u8]),
) -> Result<ScanEnd, FileError> {
    let stop = |position, what| Ok(ScanEnd { position, damage: Some(what) });
    while position < limit {
        let full = expected >= check_from;
        let ahead = if full { FULL_WINDOW } else { HEADERS_WINDOW };
        let step = match walk::step(window.view(position, STEP_BYTES, ahead)?) {
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
        let check = step.base_offset >= check_from;
        let len = if check || step.control { step.size } else { STEP_BYTES.min(step.size) };
        let bytes = window.view(position, len, ahead)?;
        if bytes.len() < len {
            return stop(position, "the file ends inside a batch");
        }
        if check && !walk::crc_matches(bytes, step.magic) {
            return stop(position, "a batch has a wrong CRC");
        }
        each(position, &step, bytes);
        position = end;
        expected = step.last_offset.saturating_add(1);
    }
    Ok(ScanEnd { position, damage: None })
}
