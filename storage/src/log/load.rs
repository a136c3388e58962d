//! Opens a log: loads segments, offsets and producer state from its folder.
//!
//! After a clean stop only the tail behind the last index entry is walked. After a crash everything from the recovery point on is
//! checked byte by byte, and headers are walked from the last producer snapshot below it on. A torn tail is cut off together with
//! all later segments. Nothing is mapped yet, so files may be cut here.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64},
    },
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::{Log, NO_TOPIC_ID, STABLE, Writer, append, damage, replay::Replay};
use crate::{
    DamagedRange, LoadProgress, LogConfig, OpenError, Uuid,
    compaction::finish_swaps,
    dir::LogDir,
    epochs::EpochCache,
    error::FileError,
    files::{self, INDEX, LEADER_EPOCHS, LOG, SEALED, SNAPSHOT, TIME_INDEX, TXN_INDEX, offset_of, segment_path},
    index::TransactionIndex,
    io::{Context, Open},
    journal::{Entry, Replay as JournalReplay, replay_journal},
    producers::Producers,
    segment::{Rebuilt, Segment, SegmentParts},
};

/// The facts of a log that are known before its folder is read.
#[derive(Debug)]
pub(crate) struct Load {
    pub log_dir: Arc<LogDir>,
    pub topic: Arc<str>,
    pub partition: i32,
    pub topic_id: Uuid,
    /// The partition's folder, which exists.
    pub dir: PathBuf,
    pub config: LogConfig,
    /// Everything below is flushed; 0 if unknown.
    pub recovery_point: i64,
    /// 0 if unknown.
    pub log_start: i64,
    /// 0 if unknown.
    pub high_watermark: i64,
    /// The last stop was clean: nothing needs to be checked.
    pub clean: bool,
    /// Just created: the folder's own name is not durable yet.
    pub created_now: bool,
    /// End of the last compaction, from its checkpoint; -1 if there was none.
    pub cleaned: i64,
    pub progress: Arc<LoadProgress>,
    pub now_ms: i64,
    /// The entries of this log in the journal of the log dir.
    pub journal: Vec<Entry>,
    /// Everything below is durable, in segments or in the journal; set by `open`.
    pub journaled: i64,
}

impl Load {
    /// Opens the log. Blocks; may read all data since the recovery point.
    pub(crate) fn open(mut self) -> Result<Log, OpenError> {
        let (mut bases, unindexed) = self.remove_leftovers()?;
        self.journaled = self.replay_journal(&mut bases)?;
        // After a failed sync it is unknown whether the journal's last rounds are durable.
        let durable = if self.log_dir.had_failed_sync() { self.recovery_point } else { self.known_durable_up_to() };
        if bases.is_empty() {
            files::create_segment(self.log_dir.disk.as_ref(), &self.dir, self.log_start)?;
            bases.push((self.log_start, 0));
        }
        let trusted_up_to = self.derived_trusted_up_to(&bases);
        let damaged = damage::read_ranges(self.log_dir.disk.as_ref(), &self.dir, &bases)?;
        let snapshot = self.newest_trusted_snapshot(trusted_up_to)?;
        let (mut segments, mut active) = self.load_segments(&bases, trusted_up_to, snapshot, &damaged)?;
        let mut end = active.1.next_offset;
        let first = segments.first().map_or(active.0.base_offset, |segment| segment.base_offset);
        let mut log_start = self.log_start.max(first);
        if log_start > end {
            tracing::warn!(topic = %self.topic, partition = self.partition, log_start, end, "the log ends below its start: starting anew there");
            active.0.remove_files()?;
            for segment in segments.iter().rev() {
                segment.remove_files()?;
            }
            segments.clear();
            active = self.create_segment(log_start)?;
            end = log_start;
        }
        log_start = log_start.min(end);
        let (active, rebuilt) = active;
        if unindexed == Some(active.base_offset) {
            files::create_missing_indexes(self.log_dir.disk.as_ref(), &self.dir, active.base_offset)?;
        }
        let active = Arc::new(active);
        let indexed_bytes = active.growing().map_or(0, |(offsets, _)| offsets.file_size());
        segments.push(Arc::clone(&active));
        let high_watermark = self.high_watermark.clamp(log_start, end);

        let (mut epochs, epochs_known) = self.read_epochs()?;
        let mut replay = Replay::load(&self.log_dir, &self.dir, &self.config, end.min(snapshot), self.now_ms)?;
        if !epochs_known {
            replay.from = 0;
        }
        replay.anew_from = trusted_up_to;
        replay.run(&segments, end)?;
        // From the first replayed batch on the batches take precedence.
        epochs.truncate_from_end(replay.epochs.first().map_or(end, |(_, start)| *start));
        for (epoch, start) in &replay.epochs {
            epochs.assign_start(*epoch, *start);
        }
        epochs.truncate_from_end(end);
        epochs.truncate_from_start(log_start);
        if self.clean {
            epochs.note_durable();
        }
        replay.producers.advance_high_watermark(high_watermark);

        let jitter_ms = append::jitter(self.log_dir.env(), self.config.segment_jitter_ms);
        let log = Log {
            topic: self.topic,
            partition: self.partition,
            topic_id: if self.topic_id == NO_TOPIC_ID { OnceLock::new() } else { OnceLock::from(self.topic_id) },
            log_dir: self.log_dir,
            dir: self.dir,
            segments: ArcSwap::from_pointee(segments),
            start: AtomicI64::new(log_start),
            saved_start: AtomicI64::new(log_start),
            end: AtomicI64::new(end),
            high_watermark: AtomicI64::new(high_watermark),
            first_unstable: AtomicI64::new(STABLE),
            awaits_high_watermark: AtomicBool::new(false),
            recovery_point: AtomicI64::new(if self.clean { end } else { self.recovery_point.min(end) }),
            durable: AtomicI64::new(if self.clean { end } else { durable.min(end) }),
            durable_spot: Mutex::new(None),
            cleaned: AtomicI64::new(self.cleaned),
            dirty_since_ms: AtomicI64::new(i64::MAX),
            unsynced_since_ms: AtomicI64::new(i64::MAX),
            clock_ms: AtomicI64::new(self.now_ms),
            truncations: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            latest_epoch: AtomicI32::new(epochs.latest_written().unwrap_or(-1)),
            epochs: RwLock::new(epochs),
            writer: Mutex::new(Writer {
                last_spare_check: (active.base_offset, active.size()),
                active,
                reserved: 0,
                bytes_since_index: rebuilt.bytes_since_index,
                first_timestamp: rebuilt.first_timestamp,
                jitter_ms,
                producers: replay.producers,
                snapshot_at: replay.snapshot_at,
                unflushed_records: 0,
                dir_dirty: !self.clean || self.created_now,
                indexes_stale: !self.clean,
                // The previous process may have ended before its first flush.
                folder_unsynced: self.created_now || self.recovery_point == 0,
                indexed_bytes,
                unsynced_indexes: trusted_up_to,
                untrimmed: Vec::new(),
                spare: None,
            }),
            maintenance: Mutex::new(()),
            flushing: Mutex::new(()),
            epochs_file: Mutex::default(),
            config: ArcSwap::from_pointee(self.config),
        };
        log.refresh_unstable(&log.writer.lock().producers);
        // Changed epochs are written with the next change, not here: ten thousand logs open in a second.
        log.report_damage(&damaged)?;
        log.remove_snapshots(|offset| offset > end.min(snapshot))?;
        Ok(log)
    }

    /// Completes the data files from the journal; returns the offset below which everything was acknowledged through the journal.
    fn replay_journal(&self, bases: &mut Vec<(i64, u64)>) -> Result<i64, FileError> {
        let log = JournalReplay {
            disk: self.log_dir.disk.as_ref(),
            dir: &self.dir,
            recovery_point: self.recovery_point,
            entries: &self.journal,
        };
        let replayed = replay_journal(&log, bases)?;
        self.log_dir.journal.note_replayed(replayed.written);
        Ok(replayed.end)
    }

    /// Everything below was durable: missing data below is damage, not a torn tail.
    fn known_durable_up_to(&self) -> i64 {
        self.recovery_point.max(self.journaled)
    }

    /// Removes the leftovers of a crash; returns bases and sizes of the data files, in order, and the base of the last one if it
    /// lacks an index file.
    #[allow(clippy::type_complexity)]
    fn remove_leftovers(&self) -> Result<(Vec<(i64, u64)>, Option<i64>), OpenError> {
        let disk = &self.log_dir.disk;
        finish_swaps(disk.as_ref(), &self.dir)?;
        let found = disk.list(&self.dir).context("list", &self.dir)?;
        let mut bases: Vec<(i64, u64)> = Vec::new();
        for (name, size) in &found {
            let path = self.dir.join(name);
            let leftover = [".tmp", ".deleted", ".cleaned"].iter().any(|end| name.ends_with(end));
            let lonely = [INDEX, TIME_INDEX, TXN_INDEX]
                .iter()
                .find_map(|suffix| offset_of(name, suffix))
                .is_some_and(|base| !found.iter().any(|(other, _)| offset_of(other, LOG) == Some(base)));
            if leftover || lonely {
                disk.remove_file(&path).context("remove", &path)?;
            } else if let (Some(base), Some(size)) = (offset_of(name, LOG), size) {
                bases.push((base, *size));
            }
        }
        bases.sort_unstable();
        let indexes = |base: i64| {
            found
                .iter()
                .filter(move |(name, _)| [INDEX, TIME_INDEX].iter().any(|end| offset_of(name, end) == Some(base)))
        };
        // Closed segments rebuild missing indexes when they are read.
        let last = bases.last().map(|(base, _)| *base);
        let unindexed = last.filter(|base| indexes(*base).count() < 2);
        let mut sealed = false;
        for (name, _) in &found {
            let Some(base) = offset_of(name, SEALED) else { continue };
            sealed = true;
            let marker = self.dir.join(name);
            let size = disk.read(&marker).context("read", &marker)?;
            let size = std::str::from_utf8(&size)
                .ok()
                .and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok());
            if let (Some(size), Some(entry)) = (size, bases.iter_mut().find(|(found, _)| *found == base))
                && entry.1 > size
            {
                let path = segment_path(&self.dir, base, LOG);
                let file = disk.open(&path, Open::Existing).context("open", &path)?;
                file.set_len(size).context("cut", &path)?;
                entry.1 = size;
            }
            // The cut is durable before the marker is removed.
            let path = segment_path(&self.dir, base, LOG);
            match disk.open(&path, Open::Existing) {
                Ok(file) => file.sync_data().context("sync", &path)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => Err(error).context("open", &path)?,
            }
            disk.remove_file(&marker).context("remove", &marker)?;
        }
        if sealed {
            // The removal is durable before the file grows again.
            disk.sync_dir(&self.dir).context("sync", &self.dir)?;
        }
        Ok((bases, unindexed))
    }

    /// Derived files of segments that begin below are trusted. After a clean stop all are; else only those that a flush has synced.
    /// Later ones may be half written, or belong to a history that was truncated.
    fn derived_trusted_up_to(&self, bases: &[(i64, u64)]) -> i64 {
        if self.clean {
            return i64::MAX;
        }
        let index = bases.partition_point(|(base, _)| *base < self.recovery_point).saturating_sub(1);
        bases.get(index).map_or(0, |(base, _)| *base)
    }

    /// Snapshots up to here are trusted, and index entries below, also those of the segment that contains the recovery point: both
    /// were written together, and a later flush has moved the recovery point past them. A snapshot at the recovery point itself is
    /// not trusted: that flush may have begun before the snapshot was written.
    fn newest_trusted_snapshot(&self, trusted_up_to: i64) -> Result<i64, FileError> {
        if self.clean {
            return Ok(i64::MAX);
        }
        let disk = self.log_dir.disk.as_ref();
        let names = disk.list(&self.dir).context("list", &self.dir)?;
        let offsets = names.iter().filter_map(|(name, _)| offset_of(name, SNAPSHOT));
        let mut inside: Vec<i64> = offsets.filter(|at| *at > trusted_up_to && *at < self.recovery_point).collect();
        inside.sort_unstable_by(|a, b| b.cmp(a));
        for offset in inside {
            let path = segment_path(&self.dir, offset, SNAPSHOT);
            let bytes = disk.read(&path).context("read", &path)?;
            if Producers::decode(&bytes, self.now_ms, self.config.producer_id_expiration_ms).is_ok() {
                return Ok(offset);
            }
        }
        Ok(trusted_up_to)
    }

    fn create_segment(&self, base_offset: i64) -> Result<(Segment, Rebuilt), FileError> {
        files::create_segment(self.log_dir.disk.as_ref(), &self.dir, base_offset)?;
        let rebuilt = Rebuilt::empty(base_offset);
        Ok((Segment::active(self.segment_parts(base_offset, 0, base_offset, true, &[])?, &rebuilt), rebuilt))
    }

    fn segment_parts(
        &self,
        base_offset: i64,
        size: u64,
        next_offset: i64,
        active: bool,
        damaged: &[DamagedRange],
    ) -> Result<SegmentParts, FileError> {
        let capacity = if active { u64::from(self.config.segment_bytes).min(i32::MAX as u64) } else { size };
        Ok(SegmentParts {
            disk: Arc::clone(&self.log_dir.disk),
            files: Arc::clone(&self.log_dir.files),
            dir: self.dir.clone(),
            base_offset,
            capacity,
            size,
            next_offset,
            index_interval: self.config.index_interval_bytes,
            transactions: self.read_transactions(base_offset, next_offset)?,
            damaged: damaged.iter().filter(|range| range.segment == base_offset).cloned().collect(),
            touched_ms: self.now_ms,
        })
    }

    /// The aborted transactions of a segment below `end`. A segment without any has no file. An unreadable file is an error:
    /// otherwise readers would see aborted records as committed.
    fn read_transactions(&self, base_offset: i64, end: i64) -> Result<TransactionIndex, FileError> {
        let bytes = files::read_optional(self.log_dir.disk.as_ref(), &segment_path(&self.dir, base_offset, TXN_INDEX))?;
        Ok(TransactionIndex::decode(&bytes.unwrap_or_default(), base_offset, end))
    }

    /// Loads the closed segments, and the active one with its indexes.
    #[allow(clippy::type_complexity)]
    fn load_segments(
        &self,
        bases: &[(i64, u64)],
        trusted_up_to: i64,
        snapshot: i64,
        known: &[DamagedRange],
    ) -> Result<(Vec<Arc<Segment>>, (Segment, Rebuilt)), OpenError> {
        let recover_from = bases.partition_point(|(base, _)| *base < trusted_up_to).min(bases.len().saturating_sub(1));
        // Unflushed data is checked to the last byte.
        let check_from = if self.clean { i64::MAX } else { self.recovery_point };
        let durable_up_to = if self.clean && self.recovery_point == 0 { i64::MAX } else { self.known_durable_up_to() };
        if !self.clean {
            self.progress.add_segments(bases.len() - recover_from);
        }
        let mut closed: Vec<Arc<Segment>> = Vec::new();
        for (index, (base, size)) in bases.iter().enumerate() {
            let next = bases.get(index + 1).map(|(next, _)| *next);
            let next_offset = next.unwrap_or(i64::MAX);
            let segment = Segment::closed(self.segment_parts(*base, *size, next_offset, false, known)?);
            if index < recover_from {
                closed.push(Arc::new(segment));
                continue;
            }
            // Behind the snapshot the index files may be incomplete.
            let (mut offsets, mut times) = (Vec::new(), Vec::new());
            if snapshot > *base {
                (offsets, times) = segment.stored_entries(snapshot);
                if !self.clean {
                    // A truncated time index cannot be detected: the data behind its last entry is walked again.
                    let timed = times.last().map(|entry| entry.relative_offset);
                    offsets.retain(|entry| timed.is_some_and(|timed| entry.relative_offset <= timed));
                }
            }
            let mut rebuilt = segment.rebuild(offsets, times, check_from, durable_up_to)?;
            if !self.clean {
                self.progress.count_recovered(1);
            }
            let lost = damaged_tail_end(*base, *size, &mut rebuilt, durable_up_to);
            // Of two unflushed segments, the later may be durable and the end of the earlier not. Without the cut readers would
            // wait in the hole. Compaction leaves holes, too, and Kafka even whole segments without a record; the topic's own
            // config is not known yet.
            let hole = |next: i64| {
                let compacted = rebuilt.gaps || self.cleaned >= 0 || self.config.compact;
                rebuilt.next_offset < next && next > self.known_durable_up_to() && !self.clean && !compacted
            };
            let torn = lost.is_none() && (rebuilt.damage.is_some() || next.is_some_and(hole));
            // If the next segment follows on the last batch, the bytes behind that batch are of a failed append.
            let whole = next == Some(rebuilt.next_offset);
            if torn {
                let later = bases.get(index + 1..).filter(|_| !whole).unwrap_or_default();
                self.truncate_torn_tail(&segment, &rebuilt, *size, later)?;
            }
            let size = if torn { rebuilt.end_position } else { *size };
            if self.log_dir.had_failed_sync() {
                segment.write_again(rebuilt.position_of(*base, self.recovery_point), size)?;
            }
            if torn && !whole || (next.is_none() && lost.is_none()) {
                let parts = self.walked_segment_parts(
                    *base,
                    rebuilt.end_position,
                    (rebuilt.next_offset, snapshot),
                    true,
                    &rebuilt,
                )?;
                return Ok((closed, (Segment::active(parts, &rebuilt), rebuilt)));
            }
            let next_offset = next.or(lost).unwrap_or(rebuilt.next_offset);
            let segment = Segment::active(
                self.walked_segment_parts(*base, size, (next_offset, snapshot), false, &rebuilt)?,
                &rebuilt,
            );
            segment.write_indexes()?;
            closed.push(Arc::new(segment.close(next_offset)));
            if next.is_none() {
                return Ok((closed, self.create_segment(next_offset)?));
            }
        }
        Ok((closed, self.create_segment(self.log_start)?))
    }

    /// The parts of a segment that was walked: its transaction index is trusted up to the snapshot; replay adds the later entries.
    fn walked_segment_parts(
        &self,
        base: i64,
        size: u64,
        (next_offset, snapshot): (i64, i64),
        active: bool,
        rebuilt: &Rebuilt,
    ) -> Result<SegmentParts, FileError> {
        let mut parts = self.segment_parts(base, size, next_offset, active, &rebuilt.damaged)?;
        if next_offset > snapshot {
            parts.transactions = self.read_transactions(base, snapshot)?;
        }
        Ok(parts)
    }

    /// Cuts a segment behind its last sound batch, and removes the later segments.
    fn truncate_torn_tail(
        &self,
        segment: &Segment,
        rebuilt: &Rebuilt,
        size: u64,
        later: &[(i64, u64)],
    ) -> Result<(), OpenError> {
        let what = rebuilt.damage.unwrap_or("the next segment does not follow on it");
        let lost = size.saturating_sub(rebuilt.end_position);
        if rebuilt.next_offset < self.known_durable_up_to() || self.clean {
            tracing::error!(segment = %segment.path(LOG).display(), position = rebuilt.end_position, bytes = lost, what, "damaged data that was on disk before; cutting the log there");
        } else {
            tracing::warn!(segment = %segment.path(LOG).display(), position = rebuilt.end_position, bytes = lost, what, "cutting a torn tail after a crash");
        }
        for (base, _) in later.iter().rev() {
            Segment::closed(self.segment_parts(*base, 0, *base, false, &[])?).remove_files()?;
        }
        segment.file_once()?.set_len(rebuilt.end_position).context("cut", &segment.path(LOG))?;
        Ok(())
    }

    /// The epoch checkpoint, and whether it could be read.
    fn read_epochs(&self) -> Result<(EpochCache, bool), OpenError> {
        let path = self.dir.join(LEADER_EPOCHS);
        // Kafka creates the file empty; a power cut may have left it so.
        let bytes = files::read_optional(self.log_dir.disk.as_ref(), &path)?.filter(|bytes| !bytes.is_empty());
        match bytes.map(|bytes| EpochCache::decode(&bytes)) {
            Some(Ok(cache)) => Ok((cache, true)),
            Some(Err(what)) => {
                tracing::warn!(path = %path.display(), what, "rebuilding the leader epochs from the log");
                Ok((EpochCache::default(), false))
            }
            None => Ok((EpochCache::default(), false)),
        }
    }
}

/// The offset after a segment whose flushed end is damaged: the file stays unchanged, so that an operator can repair it. `None` if
/// nothing is lost there, or the end of the lost part is unknown.
fn damaged_tail_end(base: i64, size: u64, rebuilt: &mut Rebuilt, durable_up_to: i64) -> Option<i64> {
    rebuilt.damage?;
    let last = rebuilt.damaged.last_mut().filter(|range| range.end_position >= size)?;
    if last.end_offset == i64::MAX {
        // For the last segment only the recovery point bounds the lost part.
        if durable_up_to == i64::MAX || durable_up_to <= rebuilt.next_offset.max(base) {
            rebuilt.damaged.pop();
            return None;
        }
        last.end_offset = durable_up_to;
    }
    Some(last.end_offset)
}

impl Rebuilt {
    /// Of a segment without data.
    pub(crate) fn empty(base_offset: i64) -> Self {
        Self {
            offsets: Vec::new(),
            times: Vec::new(),
            max_time: None,
            kept: (0, 0),
            bytes_since_index: 0,
            first_timestamp: None,
            end_position: 0,
            next_offset: base_offset,
            gaps: false,
            damage: None,
            damaged: Vec::new(),
        }
    }
}
