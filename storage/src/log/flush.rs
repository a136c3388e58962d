//! Flushes of a log.
//!
//! `flush` syncs data, the indexes of closed segments, then the names and the epoch checkpoint, and only then moves the recovery
//! point. Below it indexes are trusted after a crash. Those of the active segment are trusted only up to the newest producer
//! snapshot below the recovery point, which `save_indexes` writes. Producer snapshots are written without a sync and have a
//! checksum.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use super::{Log, Spot, Writer};
use crate::{
    LogError,
    error::FileError,
    files::{LOG, PARTITION_METADATA, SNAPSHOT, offset_of},
    io::{Context, Open},
    segment::Segment,
};

/// The offset index is saved after it has grown by this much: 8 bytes stand for `index.interval.bytes` of data.
const INDEX_GROWTH: u64 = 32 << 10;

/// What a flush has to sync besides data.
struct Due {
    /// Data up to here.
    end: i64,
    /// Names in the folder.
    dir: bool,
    /// The folder's own name.
    folder_name: bool,
    /// Index files of segments from this base offset on.
    indexes: i64,
    /// Records that `flush.messages` counts, and when the oldest of them was appended.
    records: i64,
    dirty_since_ms: i64,
    unsynced_since_ms: i64,
    /// `end`, in the segments.
    spot: Spot,
}

impl Log {
    /// Flushes everything appended before the call; returns the recovery point. Blocks on the disk; appends continue meanwhile. A
    /// failed sync takes the log dir offline.
    pub fn flush(&self) -> Result<i64, LogError> {
        self.flush_up_to(true)
    }

    /// Starts the writeback that a `flush` soon after waits for. A hint: logs that are flushed together then wait for the disk
    /// together.
    pub fn start_flush(&self) {
        if self.is_offline() {
            return;
        }
        let segments = self.segments.load();
        let first = self.segments_from(&segments, self.recovery_point());
        for segment in segments.iter().skip(first) {
            if let Ok(file) = segment.file_once() {
                file.start_write_out();
            }
        }
    }

    /// As `flush`, but only for closed segments: what Kafka does after a roll.
    pub(crate) fn flush_closed(&self) -> Result<i64, LogError> {
        self.flush_up_to(false)
    }

    fn flush_up_to(&self, with_active: bool) -> Result<i64, LogError> {
        self.log_dir.check_online()?;
        let _flushing = self.flushing.lock();
        let (segments, due, truncations) = {
            let mut writer = self.lock_writer();
            let segments = self.segments.load_full();
            let end = if with_active { self.log_end_offset() } else { writer.active.base_offset };
            let names = with_active && (writer.dir_dirty || self.epochs.read().to_write(true));
            if end <= self.recovery_point() && writer.unsynced_indexes == i64::MAX && !names {
                return Ok(self.recovery_point());
            }
            let (mut records, mut dirty_since_ms, mut unsynced_since_ms) = (0, i64::MAX, i64::MAX);
            if with_active {
                records = std::mem::take(&mut writer.unflushed_records);
                dirty_since_ms = self.dirty_since_ms.swap(i64::MAX, Ordering::AcqRel);
                unsynced_since_ms = self.unsynced_since_ms.swap(i64::MAX, Ordering::AcqRel);
            }
            let position = if with_active { writer.active.size() } else { 0 };
            let due = Due {
                end,
                dir: std::mem::take(&mut writer.dir_dirty),
                folder_name: std::mem::take(&mut writer.folder_unsynced),
                indexes: std::mem::replace(&mut writer.unsynced_indexes, i64::MAX),
                records,
                dirty_since_ms,
                unsynced_since_ms,
                spot: Spot { offset: end, segment: writer.active.base_offset, position },
            };
            (segments, due, self.truncations.load(Ordering::Acquire))
        };
        let flushed = self.sync(&segments, &due);
        if flushed.is_err() {
            // The next flush must do it, if the dir stays online (no space, no file handles).
            let mut writer = self.lock_writer();
            writer.dir_dirty |= due.dir;
            writer.folder_unsynced |= due.folder_name;
            writer.unsynced_indexes = writer.unsynced_indexes.min(due.indexes);
            writer.unflushed_records = writer.unflushed_records.saturating_add(due.records);
            self.dirty_since_ms.fetch_min(due.dirty_since_ms, Ordering::AcqRel);
            self.unsynced_since_ms.fetch_min(due.unsynced_since_ms, Ordering::AcqRel);
        }
        self.record_failure(flushed)?;
        let _writer = self.lock_writer();
        if self.truncations.load(Ordering::Acquire) == truncations {
            self.recovery_point.fetch_max(due.end, Ordering::AcqRel);
            self.advance_durable(due.spot);
        }
        Ok(self.recovery_point())
    }

    fn sync(&self, segments: &[Arc<Segment>], due: &Due) -> Result<(), FileError> {
        let _sync = self.log_dir.files.read_admission.begin_sync();
        let first = self.segments_from(segments, self.recovery_point());
        // The last write to a closed segment may be a failed append that was cut off again.
        let first =
            first - usize::from(first.checked_sub(1).and_then(|at| segments.get(at)).is_some_and(|s| s.is_unsynced()));
        for segment in segments.iter().skip(first).filter(|segment| segment.base_offset < due.end) {
            let file = match segment.file_once() {
                Ok(file) => file,
                // Retention has removed the segment meanwhile.
                Err(_) if !self.segments.load().iter().any(|held| held.base_offset == segment.base_offset) => continue,
                Err(error) => return Err(error),
            };
            // Before the sync, which may miss concurrent writes.
            segment.set_unsynced(false);
            file.sync_data().context("sync", &segment.path(LOG)).inspect_err(|_| segment.set_unsynced(true))?;
        }
        for segment in segments.iter().filter(|segment| segment.base_offset >= due.indexes) {
            segment.sync_indexes()?;
        }
        let disk = &self.log_dir.disk;
        if due.folder_name {
            self.sync_if_there(&self.dir.join(PARTITION_METADATA))?;
            disk.sync_dir(self.log_dir.path()).context("sync", self.log_dir.path())?;
        }
        if due.dir {
            disk.sync_dir(&self.dir).context("sync", &self.dir)?;
        }
        self.write_epochs(true)
    }

    /// A folder of an old Kafka has no `partition.metadata`.
    fn sync_if_there(&self, path: &Path) -> Result<(), FileError> {
        match self.log_dir.disk.open(path, Open::Existing) {
            Ok(file) => file.sync_data().context("sync", path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("open", path),
        }
    }

    /// Whether the oldest unflushed append is older than `flush.ms`.
    pub fn flush_due(&self, now_ms: i64) -> bool {
        let since = self.dirty_since_ms.load(Ordering::Acquire);
        since != i64::MAX && now_ms.saturating_sub(since) >= self.config.load().flush_ms
    }

    /// Bytes past the recovery point, which recovery would have to check, and when (wall clock ms) the oldest of them were
    /// appended; `None` if all is flushed, or no flush is possible: offline, or deleted. Counted from the index entry before: never
    /// too few.
    pub fn unflushed(&self) -> Option<(u64, i64)> {
        let (point, segments) = (self.recovery_point(), self.segments.load());
        if self.log_end_offset() <= point || self.is_offline() {
            return None;
        }
        let first = self.segments_from(&segments, point);
        let bytes = segments.iter().skip(first).map(|segment| {
            let flushed = segment.growing().map_or(0, |(offsets, _)| offsets.floor(segment.relative(point)));
            segment.size().saturating_sub(flushed.into())
        });
        // Unknown for data from before the start: counts as long ago.
        let since = self.unsynced_since_ms.load(Ordering::Acquire);
        Some((bytes.sum(), if since == i64::MAX { i64::MIN } else { since }))
    }

    /// Whether a clean close has anything to flush.
    pub(crate) fn needs_flush(&self) -> bool {
        let writer = self.lock_writer();
        self.log_end_offset() > self.recovery_point()
            || writer.indexes_stale
            || writer.dir_dirty
            || writer.unsynced_indexes != i64::MAX
            || self.epochs.read().to_write(true)
    }

    /// Writes the active segment's indexes and the producer state if they have grown much since the last save, so that a restart
    /// after a crash has little to walk. Once a later flush has moved the recovery point past the snapshot, the index entries below
    /// it are durable, too, and are trusted.
    ///
    /// Blocks; appends continue meanwhile.
    pub(crate) fn save_indexes(&self) -> Result<(), LogError> {
        // Only a roll can interfere.
        let _maintenance = self.lock_maintenance();
        let active = {
            let mut writer = self.lock_writer();
            // If nothing of the segment is flushed (as with Kafka's defaults), recovery walks it from its start anyway.
            if self.is_offline() || self.recovery_point() <= writer.active.base_offset {
                return Ok(());
            }
            let bytes = writer.active.growing().map_or(0, |(offsets, _)| offsets.file_size());
            let grown = bytes.saturating_sub(writer.indexed_bytes);
            if grown == 0 || grown < (writer.indexed_bytes / 8).min(INDEX_GROWTH) {
                return Ok(());
            }
            writer.indexed_bytes = bytes;
            Arc::clone(&writer.active)
        };
        Ok(self.log_dir.record_failure(self.save_active(&active))?)
    }

    fn save_active(&self, active: &Segment) -> Result<(), FileError> {
        active.write_indexes()?;
        active.write_transactions()?;
        // The snapshot is of the log end after these writes: a flush that covers more begins later, and so syncs them. An older end
        // could be passed by a flush that began before the writes ended.
        let snapshot = {
            let mut writer = self.lock_writer();
            writer.unsynced_indexes = writer.unsynced_indexes.min(active.base_offset);
            writer.dir_dirty = true;
            let end = self.log_end_offset();
            // A roll has written its own snapshot.
            let due = writer.active.base_offset == active.base_offset && writer.snapshot_at != end;
            due.then(|| {
                // A concurrent roll must not write the same file.
                writer.snapshot_at = end;
                (end, writer.producers.encode())
            })
        };
        if let Some((end, producers)) = snapshot {
            let saved = self.save_producers(&producers, end);
            let mut writer = self.lock_writer();
            writer.dir_dirty = true;
            if saved.is_err() && writer.snapshot_at == end {
                writer.snapshot_at = -1;
            }
            drop(writer);
            saved?;
        }
        // The newest snapshot below the recovery point is still needed.
        let recovery_point = self.recovery_point();
        let names = self.log_dir.disk.list(&self.dir).context("list", &self.dir)?;
        let inside = names.iter().filter_map(|(name, _)| offset_of(name, SNAPSHOT));
        let inside = inside.filter(|offset| (active.base_offset + 1..recovery_point).contains(offset));
        let newest = inside.max().unwrap_or(recovery_point);
        self.remove_snapshots(|offset| (active.base_offset + 1..newest).contains(&offset))
    }

    /// Writes indexes and the producer state, and closes the log. With `flush` it flushes them; else the caller syncs the whole
    /// file system and then calls `mark_flushed`.
    pub(crate) fn close_clean(&self, flush: bool) -> Result<(), LogError> {
        if let Err(offline) = self.log_dir.check_online() {
            // Nothing is written any more: the producer state may include batches that no reader ever saw.
            self.close();
            return Err(offline);
        }
        let trimmed = self.trim_closed();
        let closed = {
            let _maintenance = self.lock_maintenance();
            let mut writer = self.lock_writer();
            let result = self.write_derived(&mut writer);
            self.closed.store(true, Ordering::Release);
            result
        };
        trimmed?;
        self.log_dir.record_failure(closed)?;
        if flush {
            self.flush()?;
        } else {
            self.write_epochs(false)?;
        }
        Ok(())
    }

    /// Writes the active segment's indexes and the producer state of the log end, and frees reserved space.
    fn write_derived(&self, writer: &mut Writer) -> Result<(), FileError> {
        let active = Arc::clone(&writer.active);
        if writer.indexes_stale {
            writer.unsynced_indexes = writer.unsynced_indexes.min(active.base_offset);
            active.write_indexes()?;
            active.write_transactions()?;
        }
        self.remove_spare(writer)?;
        if writer.reserved > active.size() || active.lost_from().is_some() {
            active.opened()?.file().set_len(active.size()).context("cut", &active.path(LOG))?;
            writer.reserved = 0;
        }
        self.write_snapshot(writer, self.log_end_offset())
    }

    /// Calls `install`, which replaces this log by another one. Nothing is written here meanwhile, and after a success never again.
    /// Readers continue until then.
    pub(crate) fn replace_with<R>(&self, install: impl FnOnce() -> Result<R, LogError>) -> Result<R, LogError> {
        let _maintenance = self.lock_maintenance();
        let mut writer = self.lock_writer();
        self.log_dir.check_online()?;
        self.log_dir.record_failure(self.write_derived(&mut writer))?;
        self.write_epochs(false)?;
        let installed = install()?;
        self.release_files();
        Ok(installed)
    }

    /// As [`Log::flush_closed`], and tells the journal, so that recovery does not replay entries over the flushed data: compaction
    /// may rewrite it.
    pub(crate) fn flush_closed_for_good(&self) -> Result<(), LogError> {
        let point = self.flush_closed()?;
        Ok(self.log_dir.record_failure(self.log_dir.journal.synced(self.key(), point))?)
    }

    /// Marks a closed log as flushed.
    pub(crate) fn mark_flushed(&self) {
        if self.closed.load(Ordering::Acquire) {
            self.recovery_point.store(self.log_end_offset(), Ordering::Release);
            self.durable.store(self.log_end_offset(), Ordering::Release);
        }
    }
}
