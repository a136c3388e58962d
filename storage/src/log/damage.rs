//! The damaged ranges of a log, found by recovery and by the scrub. Esker's own file `damaged-ranges` keeps them, since a clean
//! start walks little and would miss them.
//!
//! Flushed data is never truncated for damage: the sound data around it is served, and reads inside of it fail. The file's rows are
//! hints: each is verified before it is trusted.

use std::{path::Path, sync::Arc};

use super::Log;
use crate::{
    DamagedRange,
    error::FileError,
    files::{self, DAMAGED, LOG, segment_path},
    io::{Context, Disk, Open},
    scan::{Window, scan},
    segment::Segment,
};

impl Log {
    /// Parts of the log that recovery, the scrub or a reader found damaged and that readers cannot get, in order. Those that
    /// retention, DeleteRecords or a truncation took away are left out.
    pub fn damaged_ranges(&self) -> Vec<DamagedRange> {
        self.collect_ranges(|segment| segment.damaged.iter().cloned().chain(segment.lost_range()).collect())
    }

    /// The ranges for the file: data that was lost while the broker runs is detected again at the next start.
    fn recorded_ranges(&self) -> Vec<DamagedRange> {
        self.collect_ranges(|segment| segment.damaged.clone())
    }

    fn collect_ranges(&self, of: impl Fn(&Segment) -> Vec<DamagedRange>) -> Vec<DamagedRange> {
        let (start, end) = (self.log_start_offset(), self.log_end_offset());
        let segments = self.segments.load();
        let ranges = segments.iter().flat_map(|segment| of(segment));
        ranges.filter(|range| range.end_offset > start && range.first_offset < end).collect()
    }

    /// Records that another process cut a segment's file, after opening it failed for that; false if `error` has another cause, or
    /// the cut was known. The caller has checked that `segments` are still in the log: the file is no other log's.
    pub(super) fn note_cut(&self, segments: &[Arc<Segment>], error: &FileError) -> bool {
        let ends_early = error.source.kind() == std::io::ErrorKind::UnexpectedEof;
        let segment = segments.iter().find(|segment| ends_early && segment.path(LOG) == error.path);
        segment.is_some_and(|segment| segment.note_if_cut().unwrap_or_default())
    }

    /// Segments that are not written any more.
    pub(crate) fn closed_segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.load();
        let closed = segments.len().saturating_sub(1);
        segments.iter().take(closed).cloned().collect()
    }

    /// Replaces a closed segment by one with these damaged ranges; `damaged` is the complete list. False, without any change, if
    /// the segment is no longer in the log (retention, compaction, a truncation).
    pub(crate) fn mark_damaged(&self, segment: &Arc<Segment>, damaged: Vec<DamagedRange>) -> Result<bool, FileError> {
        // The folder is not renamed while this lock is held.
        let _maintenance = self.lock_maintenance();
        let known = {
            let _writer = self.lock_writer();
            if self.is_offline() {
                return Ok(false);
            }
            let known = self.recorded_ranges();
            let mut segments = Vec::clone(&self.segments.load());
            let Some((_, closed)) = segments.split_last_mut() else { return Ok(false) };
            let Some(held) = closed.iter_mut().find(|held| Arc::ptr_eq(held, segment)) else { return Ok(false) };
            *held = Arc::new(segment.with_damage(damaged));
            self.segments.store(Arc::new(segments));
            known
        };
        self.report_damage(&known)?;
        Ok(true)
    }

    /// Logs the damage, and writes the file if the ranges changed.
    pub(super) fn report_damage(&self, known: &[DamagedRange]) -> Result<(), FileError> {
        let ranges = self.recorded_ranges();
        for range in &ranges {
            tracing::error!(
                topic = %self.topic, partition = self.partition, first_offset = range.first_offset,
                end_offset = range.end_offset, segment = range.segment, position = range.position,
                bytes = range.end_position.saturating_sub(range.position), what = %range.what,
                "records that were on disk are damaged; everything around them is served"
            );
        }
        if ranges == known {
            return Ok(());
        }
        let path = self.dir.join(DAMAGED);
        let written = if ranges.is_empty() {
            self.log_dir.disk.remove_file(&path)
        } else {
            self.log_dir.disk.replace(&path, encode_ranges(&ranges).as_bytes(), true)
        };
        self.log_dir.record_failure(written.context("write", &path))
    }
}

/// The ranges of the file that are still damaged. `sizes` are bases and sizes of the data files.
pub(super) fn read_ranges(disk: &dyn Disk, dir: &Path, sizes: &[(i64, u64)]) -> Result<Vec<DamagedRange>, FileError> {
    let path = dir.join(DAMAGED);
    let Some(bytes) = files::read_optional(disk, &path)? else { return Ok(Vec::new()) };
    let rows = match decode_ranges(&bytes) {
        Ok(rows) => rows,
        Err(what) => {
            tracing::warn!(path = %path.display(), what, "ignoring a damaged list of damage");
            return Ok(Vec::new());
        }
    };
    let mut ranges = Vec::new();
    for range in rows {
        let size = sizes.iter().find(|(base, _)| *base == range.segment).map_or(0, |(_, size)| *size);
        if range.position < range.end_position && range.end_position <= size && is_damaged(disk, dir, &range)? {
            ranges.push(range);
        }
    }
    Ok(ranges)
}

fn is_damaged(disk: &dyn Disk, dir: &Path, range: &DamagedRange) -> Result<bool, FileError> {
    let path = segment_path(dir, range.segment, LOG);
    let file = disk.open(&path, Open::Existing).context("open", &path)?;
    let mut window = Window::new(file.as_ref(), &path);
    let (position, limit) = (range.position, range.end_position);
    let end = scan(&mut window, position, limit, range.first_offset, i64::MIN, range.end_offset, |_, _, _| {});
    // Unreadable data is damaged, too.
    Ok(end.map_or(true, |end| end.damage.is_some()))
}

fn encode_ranges(ranges: &[DamagedRange]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("0\n{}\n", ranges.len());
    for DamagedRange { first_offset, end_offset, segment, position, end_position, what } in ranges {
        let _ = writeln!(text, "{first_offset} {end_offset} {segment} {position} {end_position} {what}");
    }
    text
}

fn decode_ranges(bytes: &[u8]) -> Result<Vec<DamagedRange>, String> {
    let row = |line: &str| {
        let mut words = line.splitn(6, ' ');
        Some(DamagedRange {
            first_offset: words.next()?.parse().ok()?,
            end_offset: words.next()?.parse().ok()?,
            segment: words.next()?.parse().ok()?,
            position: words.next()?.parse().ok()?,
            end_position: words.next()?.parse().ok()?,
            what: words.next().unwrap_or_default().to_owned(),
        })
    };
    let lines = files::checkpoint_lines(bytes)?;
    lines.into_iter().map(|line| row(line).ok_or_else(|| format!("line {line:?} is no range"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let what = "a batch has a wrong CRC".to_owned();
        let range = DamagedRange { first_offset: 3, end_offset: 5, segment: 0, position: 99, end_position: 300, what };
        let text = encode_ranges(std::slice::from_ref(&range));
        assert_eq!(text, "0\n1\n3 5 0 99 300 a batch has a wrong CRC\n");
        assert_eq!(decode_ranges(text.as_bytes()).unwrap(), [range]);
        assert!(decode_ranges(b"0\n1\n3 5 x\n").is_err());
    }
}
