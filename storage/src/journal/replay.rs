//! A start after a crash: what the journal holds of a log is written to its segments where they lack it.
//!
//! Must never: bring back a segment that retention took, or change bytes that are there already.

use crate::{
    error::FileError,
    files::{self, LOG, segment_path},
    io::{Context, LogFile, Open},
    log::Load,
};

/// Compared and written at once.
const CHUNK: usize = 1 << 20;

/// Completes the segments of a log; `bases` are base offsets and sizes of its data files, in order. Returns the offset below which
/// everything was acknowledged, 0 if the journal says nothing.
pub(crate) fn replay_journal(load: &Load, bases: &mut Vec<(i64, u64)>) -> Result<i64, FileError> {
    let (mut end, mut written) = (0, 0);
    for entry in load.journal.iter().filter(|entry| entry.header.next_offset > load.recovery_point) {
        let header = &entry.header;
        let base = header.segment;
        let known = bases.iter().position(|(known, _)| *known == base);
        let index = match known {
            Some(index) => index,
            // The name of the newest one may be lost. One that lies before others went by retention.
            None if bases.last().is_none_or(|(last, _)| *last < base) => {
                files::create_segment(load.log_dir.disk.as_ref(), &load.dir, base)?;
                bases.push((base, 0));
                bases.len() - 1
            }
            None => continue,
        };
        let Some((_, size)) = bases.get_mut(index) else { continue };
        if header.position > *size {
            tracing::error!(
                topic = %load.topic, partition = load.partition, segment = base, size, position = header.position,
                "the journal holds batches behind the end of their segment: what lies between is lost"
            );
        }
        let path = segment_path(&load.dir, base, LOG);
        let file = load.log_dir.disk.open(&path, Open::Existing).context("open", &path)?;
        written += complete(file.as_ref(), header.position, &entry.bytes).context("write to", &path)?;
        *size = (*size).max(header.position.saturating_add(entry.bytes.len() as u64));
        end = end.max(header.next_offset);
    }
    if written > 0 {
        load.log_dir.journal.note_replayed(written);
        tracing::info!(topic = %load.topic, partition = load.partition, bytes = written, end, "completed a log from the journal");
    }
    Ok(end)
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
