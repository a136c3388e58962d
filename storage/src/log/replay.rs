//! Rebuilds producer state, leader epochs and transaction indexes from the batches: at a start, and after a truncation.

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use super::append;
use crate::{
    BatchHeader, LogConfig,
    dir::LogDir,
    error::FileError,
    files::{LOG, SNAPSHOT, offset_of, segment_path},
    index::AbortedTxn,
    io::Context,
    producers::Producers,
    scan::{Damage, Window, scan_through},
    segment::Segment,
};

/// Producer state and epochs from the newest producer snapshot and the batches after it.
pub(super) struct Replay {
    pub producers: Producers,
    /// Offset of the snapshot that was read, -1 for none.
    pub snapshot_at: i64,
    /// Batches from here on are replayed.
    pub from: i64,
    /// Epochs seen, with the offset of their first batch here.
    pub epochs: Vec<(i32, i64)>,
    /// Transaction indexes of segments from this base offset on are rebuilt.
    pub anew_from: i64,
}

impl Replay {
    /// Reads the newest sound snapshot at or below `end`; wrong ones are removed.
    pub(super) fn load(
        log_dir: &LogDir,
        dir: &Path,
        config: &LogConfig,
        end: i64,
        now_ms: i64,
    ) -> Result<Self, FileError> {
        let mut replay =
            Self { producers: Producers::default(), snapshot_at: -1, from: 0, epochs: Vec::new(), anew_from: i64::MAX };
        let names = log_dir.disk.list(dir).context("list", dir)?;
        let mut snapshots: Vec<i64> = names.iter().filter_map(|(name, _)| offset_of(name, SNAPSHOT)).collect();
        snapshots.sort_unstable();
        for offset in snapshots.into_iter().rev().filter(|offset| *offset <= end) {
            let path = segment_path(dir, offset, SNAPSHOT);
            let bytes = log_dir.disk.read(&path).context("read", &path)?;
            match Producers::decode(&bytes, now_ms, config.producer_id_expiration_ms) {
                Ok(producers) => {
                    (replay.producers, replay.snapshot_at, replay.from) = (producers, offset, offset);
                    break;
                }
                Err(what) => {
                    tracing::warn!(path = %path.display(), what, "removing a damaged producer snapshot");
                    log_dir.disk.remove_file(&path).context("remove", &path)?;
                }
            }
        }
        Ok(replay)
    }

    /// Walks the batches from `from` to `end`; also completes the transaction indexes.
    pub(super) fn run(&mut self, segments: &[Arc<Segment>], end: i64) -> Result<(), FileError> {
        for segment in segments.iter().filter(|segment| segment.size() > 0 && segment.next_offset() > self.from) {
            if segment.base_offset >= end {
                break;
            }
            let position = segment.view()?.offsets()?.floor(segment.relative(self.from));
            let path = segment.path(LOG);
            let file = segment.file_once()?;
            let mut window = Window::new(file.as_ref(), &path);
            let mut aborted = Vec::new();
            let (limit, base) = (segment.size(), segment.base_offset);
            let mut damage = Damage {
                segment: base,
                durable_up_to: i64::MAX,
                next: segment.next_offset(),
                known: &segment.damaged,
                found: Vec::new(),
            };
            scan_through(&mut window, u64::from(position), limit, base, i64::MAX, &mut damage, |_, step, bytes| {
                if step.magic != 2 || step.last_offset < self.from || step.base_offset >= end {
                    return;
                }
                if self.epochs.last().is_none_or(|(epoch, _)| *epoch < step.leader_epoch) {
                    self.epochs.push((step.leader_epoch, step.base_offset));
                }
                if step.producer_id < 0 || step.base_offset < self.snapshot_at {
                    return;
                }
                let Ok(header) = BatchHeader::parse(bytes) else { return };
                let marker = step.control.then(|| append::end_marker(&header, &Bytes::copy_from_slice(bytes)));
                let done = self.producers.apply(&header, step.base_offset, marker.flatten());
                aborted.extend(done.filter(|done| done.aborted));
            })?;
            let known = segment.transactions.entries().last().map_or(-1, |entry| entry.last_offset);
            let mut changed = segment.base_offset >= self.anew_from;
            for done in aborted.into_iter().filter(|done| done.last_offset > known) {
                segment.transactions.push(AbortedTxn {
                    producer_id: done.producer_id,
                    first_offset: done.first_offset,
                    last_offset: done.last_offset,
                    last_stable_offset: done.last_stable_offset,
                });
                changed = true;
            }
            if changed {
                segment.write_transactions()?;
            }
        }
        Ok(())
    }
}
