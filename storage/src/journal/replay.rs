//! A start after a crash: what the journal holds of a log is written to its segments where they lack it.
//!
//! Must never: bring back a segment that retention took, or change bytes that are there already.

use std::path::Path;

use super::scan::Entry;
use crate::{
    error::FileError,
    files::{self, LOG, segment_path},
    io::{Context, Disk, LogFile, Open},
};

/// Compared and written at once.
const CHUNK: usize = 1 << 20;

/// A log that is about to be opened.
pub(crate) struct Replay<'a> {
    pub disk: &'a dyn Disk,
    /// The partition's folder.
    pub dir: &'a Path,
    pub recovery_point: i64,
    pub entries: &'a [Entry],
}

/// What a replay did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Everything below was acknowledged; 0 if the journal says nothing.
    pub end: i64,
    /// Bytes that segments lacked.
    pub written: u64,
}

/// Completes the segments of a log; `bases` are base offsets and sizes of its data files, in order.
pub(crate) fn replay_journal(log: &Replay<'_>, bases: &mut Vec<(i64, u64)>) -> Result<Replayed, FileError> {
    let mut done = Replayed::default();
    for entry in log.entries.iter().filter(|entry| entry.header.next_offset > log.recovery_point) {
        let header = &entry.header;
        let base = header.segment;
        let known = bases.iter().position(|(known, _)| *known == base);
        let index = match known {
            Some(index) => index,
            // The name of the newest one may be lost. One that lies before others went by retention.
            None if bases.last().is_none_or(|(last, _)| *last < base) => {
                files::create_segment(log.disk, log.dir, base)?;
                bases.push((base, 0));
                bases.len() - 1
            }
            None => continue,
        };
        let Some((_, size)) = bases.get_mut(index) else { continue };
        if header.position > *size {
            tracing::error!(
                folder = %log.dir.display(), segment = base, size, position = header.position,
                "the journal holds batches behind the end of their segment: what lies between is lost"
            );
        }
        let path = segment_path(log.dir, base, LOG);
        let file = log.disk.open(&path, Open::Existing).context("open", &path)?;
        done.written += complete(file.as_ref(), header.position, &entry.bytes).context("write to", &path)?;
        *size = (*size).max(header.position.saturating_add(entry.bytes.len() as u64));
        done.end = done.end.max(header.next_offset);
    }
    if done.written > 0 {
        tracing::info!(folder = %log.dir.display(), bytes = done.written, end = done.end, "completed a log from the journal");
    }
    Ok(done)
}

/// Writes what of `bytes` is not at `position`; returns how many bytes were written.
fn complete(file: &dyn LogFile, position: u64, bytes: &[u8]) -> std::io::Result<u64> {
    let (mut at, mut written) = (position, 0);
    let mut there = vec![0; bytes.len().min(CHUNK)];
    for chunk in bytes.chunks(CHUNK) {
        let there = there.get_mut(..chunk.len()).unwrap_or_default();
        let read = file.read_at(there, at)?;
        if read < chunk.len() || there != chunk {
            file.write_at(&mut [std::io::IoSlice::new(chunk)], at)?;
            written += chunk.len() as u64;
        }
        at = at.saturating_add(chunk.len() as u64);
    }
    Ok(written)
}
