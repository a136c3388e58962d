//! What leaves a log at its start: DeleteRecords, and retention by log start, time and bytes.
//!
//! Whole segments go, oldest first, and only below the high watermark. A log whose `cleanup.policy` lacks `delete` keeps
//! everything that DeleteRecords has not freed. (Compaction has its place beside this.)

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{Log, Writer};
use crate::{LogError, RetentionOutcome, error::FileError, files::LOG, io::Context, segment::Segment};

impl Log {
    /// DeleteRecords: moves the log start up to `offset` (at most the high watermark). Returns the new log start. The
    /// files go with the next retention pass.
    pub fn advance_log_start(&self, offset: i64) -> Result<i64, LogError> {
        self.log_dir.check()?;
        let mut writer = self.lock_writer();
        // Closed while the lock was waited for: a start that moved here would be lost.
        if self.is_offline() {
            return Err(LogError::Unknown { topic: self.topic.to_string(), partition: self.partition });
        }
        let high_watermark = self.high_watermark();
        if offset > high_watermark {
            return Err(LogError::OffsetOutOfRange { offset, low: self.log_start_offset(), high: high_watermark });
        }
        if offset > self.log_start_offset() {
            self.move_start(&mut writer, offset)?;
        }
        Ok(self.log_start_offset())
    }

    fn move_start(&self, writer: &mut Writer, offset: i64) -> Result<(), FileError> {
        self.start.store(offset, Ordering::Release);
        self.change_epochs(|epochs| epochs.truncate_from_start(offset));
        writer.producers.forget_finished_below(offset);
        self.refresh_unstable(&writer.producers);
        self.write_epochs(false)
    }

    /// Deletes segments that are due by log start, time or bytes, and forgets expired producers. Blocks.
    pub fn retention_pass(&self, now_ms: i64) -> Result<RetentionOutcome, LogError> {
        self.log_dir.check()?;
        let removed = {
            let mut writer = self.lock_writer();
            if self.is_offline() {
                return Ok(RetentionOutcome::default());
            }
            let config = self.config.load_full();
            writer.producers.expire(now_ms, config.producer_id_expiration_ms);
            let due = self.due(&config, now_ms)?;
            let removed = self.remove_first(&mut writer, due, now_ms);
            self.log_dir.noting(removed)?
        };
        let mut outcome = RetentionOutcome::default();
        for (segment, parked) in removed {
            // The one slow step, outside of the lock.
            self.remove_parked(parked)?;
            outcome.segments += 1;
            outcome.bytes += segment.size();
        }
        Ok(outcome)
    }

    /// Removes a data file that was renamed for it: now, or once `file.delete.delay.ms` has passed.
    pub(super) fn remove_parked(&self, path: PathBuf) -> Result<(), FileError> {
        let (disk, delay_ms) = (&self.log_dir.disk, self.config.load().file_delete_delay_ms);
        if delay_ms > 0 {
            self.log_dir.reaper.remove_file(disk, path, delay_ms);
            return Ok(());
        }
        self.noting(disk.remove_file(&path).context("remove", &path))
    }

    /// How many segments at the start are due; may include the active one.
    fn due(&self, config: &crate::LogConfig, now_ms: i64) -> Result<usize, FileError> {
        let segments = self.segments.load();
        let (start, high_watermark) = (self.log_start_offset(), self.high_watermark());
        let mut excess = self.size_bytes().saturating_sub(u64::try_from(config.retention_bytes).unwrap_or(u64::MAX));
        let mut due = 0;
        for (index, segment) in segments.iter().enumerate() {
            let active = index + 1 == segments.len();
            let end = if active { self.log_end_offset() } else { segment.next_offset() };
            if end > high_watermark || (active && segment.size() == 0) {
                break;
            }
            let below_start = !active && end <= start;
            let by_bytes = config.delete && config.retention_bytes >= 0 && excess >= segment.size();
            let by_time = || -> Result<bool, FileError> {
                if !config.delete || config.retention_ms < 0 {
                    return Ok(false);
                }
                Ok(now_ms.saturating_sub(segment.newest_ms()?) > config.retention_ms)
            };
            if !(below_start || by_bytes || by_time()?) {
                break;
            }
            excess = excess.saturating_sub(segment.size());
            due += 1;
        }
        Ok(due)
    }

    /// Takes the first `count` segments out of the log. Their data files are renamed, for removal by the caller.
    fn remove_first(
        &self,
        writer: &mut Writer,
        count: usize,
        now_ms: i64,
    ) -> Result<Vec<(Arc<Segment>, PathBuf)>, FileError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if count == self.segments.load().len() {
            let capacity = u64::from(self.config.load().segment_bytes);
            self.roll_to(writer, self.log_end_offset(), capacity, now_ms)?;
        }
        let mut kept = Vec::clone(&self.segments.load());
        let removed: Vec<Arc<Segment>> = kept.drain(..count.min(kept.len())).collect();
        let start = kept.first().map_or(self.log_end_offset(), |segment| segment.base_offset);
        // The start first: nobody then looks for a record that has gone.
        if start > self.log_start_offset() {
            self.move_start(writer, start)?;
        }
        self.segments.store(Arc::new(kept));
        self.recovery_point.fetch_max(start, Ordering::AcqRel);
        let mut parked = Vec::with_capacity(removed.len());
        for segment in removed {
            let from = segment.path(LOG);
            let mut to = from.clone().into_os_string();
            to.push(".deleted");
            let to = PathBuf::from(to);
            // From the front: after a crash in between the log has lost only what was due.
            self.log_dir.disk.rename(&from, &to).context("rename", &from)?;
            segment.remove_files()?;
            parked.push((segment, to));
        }
        writer.dir_dirty = true;
        self.remove_snapshots(|offset| offset < start)?;
        Ok(parked)
    }
}
