//! Truncation of a log's end: for a follower whose history differs from its leader's.
//!
//! Mapped files never shrink. The truncated segment is replaced by a shorter copy (its file is cut once no reader holds the old
//! map, or at the next start). A new segment begins at the cut, so published bytes are never overwritten.

use std::sync::{Arc, atomic::Ordering};

use super::{Log, Writer, replay};
use crate::{
    LogError,
    epochs::EpochCache,
    error::FileError,
    files::{SNAPSHOT, offset_of},
    io::Context,
    segment::Segment,
};

impl Log {
    /// Removes everything at and above `offset` (follower; KIP-101). No-op if the log is shorter. Blocks.
    pub fn truncate_to(&self, offset: i64) -> Result<(), LogError> {
        self.log_dir.check_online()?;
        if offset < 0 {
            return Err(LogError::OffsetOutOfRange { offset, low: 0, high: self.log_end_offset() });
        }
        let _maintenance = self.lock_maintenance();
        let mut writer = self.lock_writer();
        if offset >= self.log_end_offset() {
            return Ok(());
        }
        let now_ms = self.clock_ms.load(Ordering::Relaxed);
        let first = self.segments.load().first().map_or(0, |segment| segment.base_offset);
        let truncated = match offset <= first {
            true => self.recreate_at(&mut writer, offset, now_ms),
            false => self.truncate_segments(&mut writer, offset, now_ms),
        };
        Ok(truncated.map_err(|error| self.log_dir.take_offline(error))?)
    }

    /// Removes everything and restarts the log at `offset` (a follower whose leader has nothing below it). Blocks.
    pub fn truncate_fully_and_start_at(&self, offset: i64) -> Result<(), LogError> {
        self.log_dir.check_online()?;
        let now_ms = self.clock_ms.load(Ordering::Relaxed);
        let _maintenance = self.lock_maintenance();
        let mut writer = self.lock_writer();
        let truncated = self.recreate_at(&mut writer, offset, now_ms);
        Ok(truncated.map_err(|error| self.log_dir.take_offline(error))?)
    }

    fn recreate_at(&self, writer: &mut Writer, offset: i64, now_ms: i64) -> Result<(), FileError> {
        self.lower_offsets(offset)?;
        // Also the entries below: their segments are removed.
        self.log_dir.journal.void(self.key(), 0)?;
        // From the back, so that a crash leaves a log without holes.
        for segment in self.segments.load().iter().rev() {
            segment.remove_files()?;
        }
        self.remove_snapshots(|_| true)?;
        self.sync_names()?;
        self.install_segments(writer, Vec::new(), offset, now_ms)?;
        self.high_watermark.store(offset, Ordering::Release);
        writer.producers.clear();
        writer.snapshot_at = -1;
        self.refresh_unstable(&writer.producers);
        self.change_epochs(EpochCache::clear);
        self.sync_names()?;
        self.write_epochs(false)
    }

    /// Lowers all offsets to `offset`: no durable checkpoint may claim more, before anything is written there again.
    fn lower_offsets(&self, offset: i64) -> Result<(), FileError> {
        self.truncations.fetch_add(1, Ordering::AcqRel);
        self.recovery_point.fetch_min(offset, Ordering::AcqRel);
        self.lower_durable(offset);
        self.log_dir.journal.void(self.key(), offset)?;
        self.high_watermark.fetch_min(offset, Ordering::AcqRel);
        self.cleaned.fetch_min(offset, Ordering::AcqRel);
        self.log_dir.lower_checkpoints((&self.topic, self.partition), Some(offset))
    }

    fn sync_names(&self) -> Result<(), FileError> {
        self.log_dir.disk.sync_dir(&self.dir).context("sync", &self.dir)
    }

    fn truncate_segments(&self, writer: &mut Writer, offset: i64, now_ms: i64) -> Result<(), FileError> {
        self.lower_offsets(offset)?;
        let segments = self.segments.load_full();
        let keep = segments.partition_point(|segment| segment.base_offset < offset);
        for segment in segments.iter().skip(keep).rev() {
            segment.remove_files()?;
        }
        // Also those inside the truncated segment: they would make a start trust index files that are about to be rewritten.
        let last = keep.checked_sub(1).and_then(|last| segments.get(last)).map_or(offset, |last| last.base_offset);
        self.remove_snapshots(|snapshot| snapshot > last)?;
        // Removed segments must not reappear after the cut is durable: they would follow on a hole.
        self.sync_names()?;
        let mut kept: Vec<Arc<Segment>> = segments.iter().take(keep).cloned().collect();
        if let Some(last) = kept.pop() {
            writer.unsynced_indexes = writer.unsynced_indexes.min(last.base_offset);
            kept.push(Arc::new(self.truncate_segment(&last, offset)?));
        }
        self.install_segments(writer, kept, offset, now_ms)?;
        self.change_epochs(|epochs| epochs.truncate_from_end(offset));
        self.write_epochs(false)?;
        let segments = self.segments.load();
        let mut replay = replay::Replay::load(&self.log_dir, &self.dir, &self.config.load(), offset, now_ms)?;
        replay.run(&segments, offset)?;
        writer.producers = replay.producers;
        writer.snapshot_at = replay.snapshot_at;
        writer.producers.advance_high_watermark(self.high_watermark());
        self.refresh_unstable(&writer.producers);
        Ok(())
    }

    /// The part of a segment below `offset`, as a closed segment.
    fn truncate_segment(&self, segment: &Segment, offset: i64) -> Result<Segment, FileError> {
        let damaged = segment.damaged.iter().find(|range| range.contains(offset));
        let position = match segment.find(offset) {
            Ok(Some((position, _))) => position as u64,
            Ok(None) => segment.size(),
            // The offset lies in a damaged range: none of it is kept.
            Err(_) if let Some(range) = damaged => range.position,
            Err(crate::ReadError::Corrupt { .. }) if let Some(lost_from) = segment.lost_from() => lost_from,
            Err(crate::ReadError::File(error)) => return Err(error),
            Err(error) => {
                return Err(FileError {
                    action: "truncate",
                    path: self.dir.clone(),
                    source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
                });
            }
        };
        if position == segment.size() {
            segment.write_indexes()?;
            return Ok(segment.close(offset));
        }
        segment.truncated_copy(position, offset)
    }

    /// Replaces the segment list by `kept` and a new active segment at `offset`.
    fn install_segments(
        &self,
        writer: &mut Writer,
        kept: Vec<Arc<Segment>>,
        offset: i64,
        now_ms: i64,
    ) -> Result<(), FileError> {
        let capacity = u64::from(self.config.load().segment_bytes);
        let active = self.new_segment(offset, capacity, now_ms)?;
        let mut segments = kept;
        segments.push(Arc::clone(&active));
        // Only after the last step that can fail: if the disk fails half way, readers keep the old state.
        match segments.len() {
            1 => self.start.store(offset, Ordering::Release),
            _ => drop(self.start.fetch_min(offset, Ordering::AcqRel)),
        }
        self.saved_start.fetch_min(offset, Ordering::AcqRel);
        self.start_active(writer, active);
        self.segments.store(Arc::new(segments));
        self.end.store(offset, Ordering::Release);
        Ok(())
    }

    /// Removes producer snapshots of the offsets that `which` selects.
    pub(super) fn remove_snapshots(&self, which: impl Fn(i64) -> bool) -> Result<(), FileError> {
        let disk = &self.log_dir.disk;
        for (name, _) in disk.list(&self.dir).context("list", &self.dir)? {
            if offset_of(&name, SNAPSHOT).is_some_and(&which) {
                let path = self.dir.join(name);
                disk.remove_file(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }
}
