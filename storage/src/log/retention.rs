//! Deletion at the start of a log: DeleteRecords, and retention by log start, time and bytes.
//!
//! Whole segments are deleted, oldest first, and only below the high watermark. A log whose `cleanup.policy` lacks `delete` keeps
//! everything that DeleteRecords has not deleted. (Compaction is separate.)
//!
//! A pass finds due segments by files and index entries without the writer's lock, takes the lock to change the list, and then
//! renames and removes files. The list changes before the files, and `maintenance` reserves their names meanwhile. After a crash in
//! between the next pass finds the same segments due again.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{Log, Writer};
use crate::{LogConfig, LogError, RetentionOutcome, error::FileError, files::LOG, io::Context, segment::Segment};

impl Log {
    /// DeleteRecords: moves the log start up to `offset` (at most the high watermark). Returns the new log start. The next
    /// retention pass deletes the files.
    pub fn advance_log_start(&self, offset: i64) -> Result<i64, LogError> {
        self.log_dir.check_online()?;
        let mut writer = self.lock_writer();
        // Closed while this thread waited for the lock: a change of the log start would be lost.
        if self.is_offline() {
            return Err(LogError::Unknown { topic: self.topic.to_string(), partition: self.partition });
        }
        let high_watermark = self.high_watermark();
        if offset > high_watermark {
            return Err(LogError::OffsetOutOfRange { offset, low: self.log_start_offset(), high: high_watermark });
        }
        if offset > self.log_start_offset() {
            self.move_start(&mut writer, offset);
            drop(writer);
            self.write_epochs(false)?;
        }
        Ok(self.log_start_offset())
    }

    /// Moves the log start in memory. The caller writes the epoch checkpoint once it has released the writer's lock; until then the
    /// file has epochs below the log start, which the next start removes.
    fn move_start(&self, writer: &mut Writer, offset: i64) {
        self.start.store(offset, Ordering::Release);
        self.change_epochs(|epochs| epochs.truncate_from_start(offset));
        writer.producers.forget_finished_below(offset);
        self.refresh_unstable(&writer.producers);
    }

    /// Deletes segments that are due by log start, time or bytes, and removes expired producers. Blocks; appends continue
    /// meanwhile.
    pub fn retention_pass(&self, now_ms: i64) -> Result<RetentionOutcome, LogError> {
        self.log_dir.check_online()?;
        let mut outcome = RetentionOutcome::default();
        let (parked, swept) = {
            // A truncation, a swap, a move or a close uses the same names.
            let _maintenance = self.lock_maintenance();
            if self.is_offline() {
                return Ok(outcome);
            }
            let config = self.config.load_full();
            let due = self.due_segments(&config, now_ms)?;
            let removed = self.log_dir.record_failure(self.detach_segments(&config, &due, now_ms))?;
            if removed.is_empty() {
                return Ok(outcome);
            }
            let parked = removed.iter().map(|segment| self.rename_deleted(segment)).collect::<Result<Vec<_>, _>>();
            // After the renames, or a flush under way would sync the folder too early.
            self.lock_writer().dir_dirty = true;
            let parked = self.log_dir.record_failure(parked)?;
            outcome.segments = removed.len();
            outcome.bytes = removed.iter().map(|segment| segment.size()).sum();
            // The snapshot at the first segment's start is needed, also where the log starts inside of it.
            let start = self.segments.load().first().map_or(0, |segment| segment.base_offset);
            (parked, self.remove_snapshots(|offset| offset < start).and_then(|()| self.write_epochs(false)))
        };
        // The one slow step, outside of all locks.
        for path in parked {
            self.remove_deleted(path)?;
        }
        self.record_failure(swept)?;
        Ok(outcome)
    }

    /// Removes a data file that was renamed for it: now, or once `file.delete.delay.ms` has passed.
    pub(super) fn remove_deleted(&self, path: PathBuf) -> Result<(), FileError> {
        let (disk, delay_ms) = (&self.log_dir.disk, self.config.load().file_delete_delay_ms);
        if delay_ms > 0 {
            self.log_dir.reaper.remove_file(disk, path, delay_ms);
            return Ok(());
        }
        self.record_failure(disk.remove_file(&path).context("remove", &path))
    }

    /// Segments at the start that are due, with their sizes; may include the active one. May read index files. The caller holds
    /// `maintenance`: of these only the active one may change before [`Self::detach_segments`].
    pub(super) fn due_segments(&self, config: &LogConfig, now_ms: i64) -> Result<Vec<u64>, FileError> {
        let segments = self.segments.load();
        let (start, high_watermark) = (self.log_start_offset(), self.high_watermark());
        let mut excess = self.size_bytes().saturating_sub(u64::try_from(config.retention_bytes).unwrap_or(u64::MAX));
        let mut due = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let active = index + 1 == segments.len();
            // The size first: `detach_segments` detects a later append by it.
            let size = segment.size();
            let end = if active { self.log_end_offset() } else { segment.next_offset() };
            if end > high_watermark || (active && size == 0) {
                break;
            }
            let below_start = !active && end <= start;
            let by_bytes = config.delete && config.retention_bytes >= 0 && excess >= size;
            let by_time = || -> Result<bool, FileError> {
                if !config.delete || config.retention_ms < 0 {
                    return Ok(false);
                }
                Ok(now_ms.saturating_sub(segment.newest_ms()?) > config.retention_ms)
            };
            if !(below_start || by_bytes || by_time()?) {
                break;
            }
            excess = excess.saturating_sub(size);
            due.push(size);
        }
        Ok(due)
    }

    /// Removes the first segments from the list, as long as their sizes are those of `due`. Their files still exist; only readers
    /// with the old list open them.
    pub(super) fn detach_segments(
        &self,
        config: &LogConfig,
        due: &[u64],
        now_ms: i64,
    ) -> Result<Vec<Arc<Segment>>, FileError> {
        let mut writer = self.lock_writer();
        if self.is_offline() {
            return Ok(Vec::new());
        }
        writer.producers.expire(now_ms, config.producer_id_expiration_ms);
        let high_watermark = self.high_watermark();
        let segments = self.segments.load();
        // The active segment may have been appended to since, or closed.
        let is_same = |(segment, size): &(&Arc<Segment>, &u64)| {
            segment.size() == **size && segment.next_offset() <= high_watermark
        };
        let count = segments.iter().zip(due).take_while(is_same).count();
        if count == 0 {
            return Ok(Vec::new());
        }
        if count == segments.len() {
            self.roll_to(&mut writer, self.log_end_offset(), u64::from(config.segment_bytes), now_ms)?;
        }
        let mut kept = Vec::clone(&self.segments.load());
        let removed: Vec<Arc<Segment>> = kept.drain(..count.min(kept.len())).collect();
        let start = kept.first().map_or(self.log_end_offset(), |segment| segment.base_offset);
        // The log start first: then no reader looks for a deleted record.
        if start > self.log_start_offset() {
            self.move_start(&mut writer, start);
        }
        self.segments.store(Arc::new(kept));
        self.recovery_point.fetch_max(start, Ordering::AcqRel);
        self.raise_durable_to_start(start);
        Ok(removed)
    }

    /// Renames the data file of a detached segment, for removal by the caller, and removes its derived files. The caller goes from
    /// the front: after a crash in between only due segments are missing.
    fn rename_deleted(&self, segment: &Segment) -> Result<PathBuf, FileError> {
        let from = segment.path(LOG);
        let mut to = from.clone().into_os_string();
        to.push(".deleted");
        let to = PathBuf::from(to);
        self.log_dir.disk.rename(&from, &to).context("rename", &from)?;
        segment.remove_files()?;
        Ok(to)
    }
}
