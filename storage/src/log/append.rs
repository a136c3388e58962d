//! Appends: producer checks, offsets, one positioned write, indexes, then the new end is published.

use std::{
    io::{self, IoSlice},
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use esker_protocol::records::{BATCH_OVERHEAD, Batch, EndTxnMarker, TimestampType};

use super::{Log, Writer};
use crate::{
    AppendBatch, AppendError, Appended, BatchHeader, Env, LogConfig, LogError, Origin, blocking,
    error::FileError,
    files::{self, LOG, SNAPSHOT, segment_path},
    index::{AbortedTxn, OffsetIndex, TimeIndex},
    io::Context,
    open_files::Opened,
    producers::EndMarker,
    segment::{Rebuilt, Segment, SegmentParts},
    walk,
};

/// Reservations of at least so many bytes go through `blocking`, so that the wait delays no other task of an async worker.
const HAND_ON_FROM: u64 = 1 << 20;
/// Disk space is reserved in steps as large as the segment's current size, within these bounds.
pub(super) const MIN_RESERVE: u64 = 64 << 10;
const MAX_RESERVE: u64 = 16 << 20;
/// Positions in the offset index are 31 bits.
const MAX_SEGMENT: u64 = i32::MAX as u64;

/// The facts of a batch about to be written that the log needs.
struct Placed<'a> {
    header: &'a BatchHeader,
    base_offset: i64,
    leader_epoch: i32,
    size: usize,
    marker: Option<EndMarker>,
}

impl Placed<'_> {
    fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.header.last_offset_delta))
    }
}

impl Log {
    /// Appends one batch as leader in `leader_epoch`: producer checks, offsets, write, publish. `now_ms` is wall clock.
    ///
    /// The batch must have passed [`crate::validate::validate`]. Blocks for the write into the page cache only.
    pub fn append(
        &self,
        batch: AppendBatch<'_>,
        origin: Origin,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let AppendBatch { header, bytes } = batch;
        if bytes.len() < BATCH_OVERHEAD || header.total_size() != bytes.len() {
            return Err(AppendError::Corrupt { what: "the batch is not as long as its header says".to_owned() });
        }
        let config = self.config.load();
        if bytes.len() as u64 > u64::from(config.segment_bytes).min(MAX_SEGMENT) {
            return Err(AppendError::LargerThanSegment {
                size: bytes.len(),
                segment_bytes: config.segment_bytes.min(i32::MAX as u32),
            });
        }
        let marker = end_marker(header, bytes);
        let mut writer = self.lock_writer();
        self.check_writable()?;
        let base_offset = self.log_end_offset();
        if let Some(earlier) = writer.producers.check(header, marker, origin, base_offset)? {
            return Ok(Appended {
                base_offset: earlier.first_offset(),
                last_offset: earlier.last_offset,
                log_append_time: earlier.timestamp,
                duplicate: true,
                log_start_offset: self.log_start_offset(),
                flush_due: false,
            });
        }
        let placed = Placed { header, base_offset, leader_epoch, size: bytes.len(), marker };
        let last = matches!(origin, Origin::Coordinator { .. } | Origin::TransactionalOffsets { .. });
        self.prepare_append(&mut writer, &config, bytes.len(), &placed, last, now_ms)?;
        let head = walk::stamp(header, base_offset, leader_epoch);
        let rest = bytes.get(head.len()..).unwrap_or_default();
        let position = self.write(&writer, &mut [IoSlice::new(&head), IoSlice::new(rest)])?;
        self.record_batch(&mut writer, &config, position, &placed)?;
        self.publish(&mut writer, position + bytes.len() as u64, placed.last_offset() + 1, now_ms);
        let is_append_time = header.attributes.timestamp_type() == TimestampType::LogAppend;
        Ok(Appended {
            base_offset,
            last_offset: placed.last_offset(),
            log_append_time: if is_append_time { header.max_timestamp } else { -1 },
            duplicate: false,
            log_start_offset: self.log_start_offset(),
            flush_due: writer.unflushed_records >= config.flush_messages,
        })
    }

    /// Appends records that were fetched from the leader: whole v2 batches that keep their offsets and epochs, CRCs checked (a
    /// partial tail is dropped). On an error, the batches before the offending one are in the log.
    pub fn append_replicated(&self, records: Bytes, now_ms: i64) -> Result<Appended, AppendError> {
        let config = self.config.load();
        let batches = parse_replicated(&records)?;
        let mut writer = self.lock_writer();
        self.check_writable()?;
        let mut appended = Appended {
            base_offset: self.log_end_offset(),
            last_offset: self.log_end_offset().saturating_sub(1),
            log_append_time: -1,
            duplicate: false,
            log_start_offset: self.log_start_offset(),
            flush_due: false,
        };
        let (mut next, mut first) = (0, true);
        while let Some((start, header)) = batches.get(next) {
            let placed = placed_batch(header);
            let end = self.log_end_offset();
            if placed.base_offset < end {
                return Err(AppendError::OffsetsOutOfOrder { base_offset: placed.base_offset, log_end_offset: end });
            }
            self.prepare_append(&mut writer, &config, placed.size, &placed, false, now_ms)?;
            // One write contains as many batches as fit into the segment.
            let limit = segment_limit(&writer.active, &config);
            let mut group_end = next + 1;
            let (mut bytes, mut last) = (placed.size, placed.last_offset());
            while let Some((_, header)) = batches.get(group_end) {
                let more = placed_batch(header);
                let fits = writer.active.size() + (bytes + more.size) as u64 <= limit
                    && more.last_offset() - writer.active.base_offset <= i64::from(i32::MAX);
                if more.base_offset <= last || !fits {
                    break;
                }
                (bytes, last) = (bytes + more.size, more.last_offset());
                group_end += 1;
            }
            self.reserve_space(&mut writer, bytes, false)?;
            let group = records.get(*start..start.saturating_add(bytes)).unwrap_or_default();
            let mut position = self.write(&writer, &mut [IoSlice::new(group)])?;
            for (start, header) in batches.get(next..group_end).unwrap_or_default() {
                let mut placed = placed_batch(header);
                placed.marker = end_marker(header, &records.slice(*start..start.saturating_add(placed.size)));
                self.record_batch(&mut writer, &config, position, &placed)?;
                position += placed.size as u64;
            }
            if first {
                appended.base_offset = placed.base_offset;
                first = false;
            }
            appended.last_offset = last;
            self.publish(&mut writer, position, last + 1, now_ms);
            next = group_end;
        }
        appended.flush_due = writer.unflushed_records >= config.flush_messages;
        Ok(appended)
    }

    fn check_writable(&self) -> Result<(), AppendError> {
        if self.is_offline() {
            return Err(AppendError::Offline { topic: self.topic.to_string(), partition: self.partition });
        }
        Ok(())
    }

    /// Classifies a failed write: a full disk is retriable, every other error takes the dir offline.
    fn write_error(&self, error: FileError) -> AppendError {
        if error.is_full() {
            AppendError::DiskFull(error)
        } else {
            AppendError::File(self.log_dir.classify_error(error))
        }
    }

    /// A small derived file that does not fit is written later (at a flush, roll or close): the batch is in the log.
    fn ignore_full_disk(&self, result: Result<(), FileError>) -> Result<(), AppendError> {
        match result {
            Err(error) if error.is_full() => {
                tracing::warn!(topic = %self.topic, partition = self.partition, %error, "disk full; will be written later");
                Ok(())
            }
            result => result.map_err(|error| self.write_error(error)),
        }
    }

    /// Rolls if the batch needs it, and reserves disk space for it; the reserve of the disk is used only with `last`.
    fn prepare_append(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        size: usize,
        placed: &Placed<'_>,
        last: bool,
        now_ms: i64,
    ) -> Result<(), AppendError> {
        self.open_active(writer)?;
        let active = &writer.active;
        let used = active.size();
        let full = used + size as u64 > segment_limit(active, config);
        let index_full = || {
            let limit = u64::from(config.segment_index_bytes);
            let full = |(offsets, times): &(OffsetIndex, TimeIndex)| {
                offsets.file_size() + 8 > limit || times.file_size() + 24 > limit
            };
            entry_is_due(writer, config) && active.growing().is_some_and(full)
        };
        let due = full && (used > 0 || size as u64 > active.capacity)
            || used > 0
                && (self.roll_is_due(writer, config, placed.header.max_timestamp, now_ms)
                    || placed.last_offset() - active.base_offset > i64::from(i32::MAX)
                    || index_full()
                    // Readers could not reach records behind a hole: they go to a new file.
                    || active.lost_from().is_some())
            || used == 0 && placed.last_offset() - active.base_offset > i64::from(i32::MAX);
        if due {
            let capacity = u64::from(config.segment_bytes).max(size as u64).min(MAX_SEGMENT);
            blocking::run(self.log_dir.env(), || self.roll_to(writer, placed.base_offset, capacity, now_ms))
                .map_err(|error| self.write_error(error))?;
        }
        self.reserve_space(writer, size, last)
    }

    /// Opens the active segment's file if needed. If another process cut the file meanwhile, the segment counts as lost from there
    /// on: that is no fault of the disk.
    fn open_active(&self, writer: &Writer) -> Result<(), AppendError> {
        let active = &writer.active;
        let Err(error) = active.with_opened(|_| ()) else { return Ok(()) };
        match self.note_cut(std::slice::from_ref(active), &error) {
            true => Ok(()),
            false => Err(self.write_error(error)),
        }
    }

    /// `segment.ms` has passed between the first batch and this one (or since creation where batches have no time).
    fn roll_is_due(&self, writer: &Writer, config: &LogConfig, timestamp: i64, now_ms: i64) -> bool {
        let waited = match writer.first_timestamp {
            Some(first) if first >= 0 && timestamp >= 0 => timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(writer.active.touched_ms),
        };
        // A record must not outlive max.compaction.lag.ms for want of a closed segment.
        let segment_ms = match config.compact {
            true => config.segment_ms.min(config.max_compaction_lag_ms),
            false => config.segment_ms,
        };
        waited > segment_ms.saturating_sub(writer.jitter_ms.min(config.segment_jitter_ms))
    }

    fn reserve_space(&self, writer: &mut Writer, size: usize, last: bool) -> Result<(), AppendError> {
        let used = writer.active.size();
        let need = used + size as u64;
        if need <= writer.reserved {
            return Ok(());
        }
        let step = used.clamp(MIN_RESERVE, MAX_RESERVE);
        let wanted = if self.config.load().preallocate { u64::MAX } else { used.saturating_add(step) };
        let up_to = need.max(wanted.min(writer.active.capacity));
        let from = writer.reserved.max(used);
        let path = || writer.active.path(LOG);
        let opened = writer.active.opened().map_err(|error| self.write_error(error))?;
        let file = opened.file();
        let room = if last { u64::MAX } else { self.log_dir.writable_bytes() };
        let take = |up_to: u64| match up_to.saturating_sub(from) {
            more if more > room => Err(io::ErrorKind::StorageFull.into()),
            // Steps grow with the segment, so few appends come here; the file system may wait for its journal. Small first steps
            // are frequent with many small segments, and cost less than moving the worker's other tasks to another thread.
            more if more < HAND_ON_FROM => file.reserve(from, more).map(|()| up_to),
            more => blocking::run(self.log_dir.env(), || file.reserve(from, more)).map(|()| up_to),
        };
        // On a nearly full disk the needed bytes may still fit where the whole step does not.
        let reserved = take(up_to).or_else(|_| take(need));
        writer.reserved = reserved.context("reserve space in", &path()).map_err(|error| self.write_error(error))?;
        Ok(())
    }

    /// Writes at the published end of the active segment; nothing is visible yet. Returns the position.
    fn write(&self, writer: &Writer, parts: &mut [IoSlice<'_>]) -> Result<u64, AppendError> {
        let position = writer.active.size();
        let write = |opened: &Opened| {
            let file = opened.file();
            writer.active.set_unsynced(true);
            file.write_at(parts, position).map_err(|source| {
                // A partial write must not look like data after a crash. No reader reads past the published end.
                let _ = file.set_len(position);
                self.write_error(FileError { action: "write to", path: writer.active.path(LOG), source })
            })
        };
        writer.active.with_opened(write).map_err(|error| self.write_error(error))??;
        Ok(position)
    }

    /// Records a written batch in indexes, epochs and producer state.
    fn record_batch(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        position: u64,
        placed: &Placed<'_>,
    ) -> Result<(), AppendError> {
        let header = placed.header;
        self.ignore_full_disk(self.assign_epoch_at(placed.leader_epoch, placed.base_offset))?;
        let with_entry = entry_is_due(writer, config);
        writer.active.record_batch(position, placed.last_offset(), header.max_timestamp, with_entry);
        if with_entry {
            writer.bytes_since_index = 0;
        }
        writer.bytes_since_index += placed.size as u64;
        writer.first_timestamp.get_or_insert(header.max_timestamp);
        writer.unflushed_records = writer.unflushed_records.saturating_add(i64::from(header.records_count.max(0)));
        if header.producer_id >= 0 {
            if let Some(done) = writer.producers.apply(header, placed.base_offset, placed.marker)
                && done.aborted
            {
                writer.active.transactions.push(AbortedTxn {
                    producer_id: done.producer_id,
                    first_offset: done.first_offset,
                    last_offset: done.last_offset,
                    last_stable_offset: done.last_stable_offset,
                });
                self.ignore_full_disk(writer.active.write_transactions())?;
            }
            self.refresh_unstable(&writer.producers);
        }
        Ok(())
    }

    fn publish(&self, writer: &mut Writer, size: u64, end: i64, now_ms: i64) {
        writer.active.publish(size, end);
        writer.indexes_stale = true;
        self.end.store(end, Ordering::Release);
        // Changed under the writer's lock only.
        if self.dirty_since_ms.load(Ordering::Relaxed) > now_ms {
            self.dirty_since_ms.store(now_ms, Ordering::Release);
        }
        if self.unsynced_since_ms.load(Ordering::Relaxed) > now_ms {
            self.unsynced_since_ms.store(now_ms, Ordering::Release);
        }
        self.clock_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Closes the active segment and opens a new one, if the active one has records.
    pub fn roll(&self, now_ms: i64) -> Result<(), LogError> {
        self.log_dir.check_online()?;
        let mut writer = self.lock_writer();
        if writer.active.size() > 0 {
            let capacity = u64::from(self.config.load().segment_bytes).min(MAX_SEGMENT);
            self.roll_to(&mut writer, self.log_end_offset(), capacity, now_ms)
                .map_err(|error| self.log_dir.classify_error(error))?;
        }
        Ok(())
    }

    /// Makes a new active segment at `base_offset`; the old one is closed, or replaced if it is empty.
    pub(super) fn roll_to(
        &self,
        writer: &mut Writer,
        base_offset: i64,
        capacity: u64,
        now_ms: i64,
    ) -> Result<(), FileError> {
        let old = Arc::clone(&writer.active);
        let mut segments = Vec::clone(&self.segments.load());
        segments.pop();
        if old.size() > 0 {
            old.write_indexes()?;
            old.write_transactions()?;
            if old.lost_from().is_some() {
                // A file that another process cut gets its length back, so that the next start finds damage there, and does not
                // assign the same offsets again.
                let size = old.size();
                old.opened()?.file().set_len(size).context("cut", &old.path(LOG))?;
            }
            self.write_snapshot(writer, self.log_end_offset())?;
            segments.push(Arc::new(old.close(base_offset)));
            writer.unsynced_indexes = writer.unsynced_indexes.min(old.base_offset);
        }
        let reserved = match old.base_offset == base_offset {
            // Its files are there, and empty.
            true => files::create_segment(self.log_dir.disk.as_ref(), &self.dir, base_offset).map(|()| 0),
            false => self.create_files(writer, base_offset),
        }?;
        let active = self.empty_segment(base_offset, capacity, now_ms);
        if old.size() == 0 && old.base_offset != base_offset {
            old.remove_files()?;
        }
        // Only after the last step that can fail: a segment that is still written to must not be trimmed.
        let has_surplus = old.size() > 0 && writer.reserved > old.size();
        writer.untrimmed.extend(segments.last().filter(|_| has_surplus).cloned());
        segments.push(Arc::clone(&active));
        self.start_active(writer, active);
        writer.reserved = reserved;
        self.segments.store(Arc::new(segments));
        Ok(())
    }

    pub(super) fn start_active(&self, writer: &mut Writer, active: Arc<Segment>) {
        writer.active = active;
        writer.reserved = 0;
        writer.bytes_since_index = 0;
        writer.first_timestamp = None;
        writer.indexed_bytes = 0;
        writer.dir_dirty = true;
        writer.jitter_ms = jitter(self.log_dir.env(), self.config.load().segment_jitter_ms);
    }

    /// Creates an empty segment's files.
    pub(super) fn new_segment(&self, base_offset: i64, capacity: u64, now_ms: i64) -> Result<Arc<Segment>, FileError> {
        files::create_segment(self.log_dir.disk.as_ref(), &self.dir, base_offset)?;
        Ok(self.empty_segment(base_offset, capacity, now_ms))
    }

    /// A segment whose files are there, and empty.
    fn empty_segment(&self, base_offset: i64, capacity: u64, now_ms: i64) -> Arc<Segment> {
        let parts = SegmentParts {
            disk: Arc::clone(&self.log_dir.disk),
            files: Arc::clone(&self.log_dir.files),
            dir: self.dir.clone(),
            base_offset,
            capacity: capacity.min(MAX_SEGMENT),
            size: 0,
            next_offset: base_offset,
            index_interval: self.config.load().index_interval_bytes,
            transactions: Default::default(),
            damaged: Vec::new(),
            touched_ms: now_ms,
        };
        Arc::new(Segment::active(parts, &Rebuilt::empty(base_offset)))
    }

    /// Writes the producer state of `offset`, unless it is there.
    pub(super) fn write_snapshot(&self, writer: &mut Writer, offset: i64) -> Result<(), FileError> {
        if writer.snapshot_at == offset {
            return Ok(());
        }
        self.save_producers(&writer.producers.encode(), offset)?;
        writer.snapshot_at = offset;
        Ok(())
    }

    /// Writes an encoded producer state. Two threads must not do so for the same offset.
    pub(super) fn save_producers(&self, producers: &[u8], offset: i64) -> Result<(), FileError> {
        let path = segment_path(&self.dir, offset, SNAPSHOT);
        self.log_dir.disk.replace(&path, producers, false).context("write", &path)
    }
}

/// The next batch gets an entry in the indexes.
fn entry_is_due(writer: &Writer, config: &LogConfig) -> bool {
    writer.bytes_since_index > u64::from(config.index_interval_bytes)
}

pub(super) fn segment_limit(active: &Segment, config: &LogConfig) -> u64 {
    active.capacity.min(u64::from(config.segment_bytes)).min(MAX_SEGMENT)
}

fn placed_batch(header: &BatchHeader) -> Placed<'_> {
    Placed {
        header,
        base_offset: header.base_offset,
        leader_epoch: header.partition_leader_epoch,
        size: header.total_size(),
        marker: None,
    }
}

/// A random share of `segment.jitter.ms`.
pub(super) fn jitter(env: &dyn Env, max_ms: i64) -> i64 {
    if max_ms <= 0 { 0 } else { (env.random() as u64 >> 1) as i64 % max_ms }
}

/// Start and header of every whole batch, all checked.
fn parse_replicated(records: &Bytes) -> Result<Vec<(usize, BatchHeader)>, AppendError> {
    let corrupt = |what: &str| AppendError::Corrupt { what: what.to_owned() };
    let (mut found, mut at, mut expected) = (Vec::new(), 0usize, 0i64);
    while let Some(rest) = records.get(at..).filter(|rest| rest.len() >= BATCH_OVERHEAD) {
        let step = walk::step(rest).map_err(|error| corrupt(error.what()))?;
        if step.magic != 2 {
            return Err(corrupt("a leader sent a message of an old format"));
        }
        let Some(batch) = rest.get(..step.size) else { break };
        if !walk::crc_matches(batch, step.magic) {
            return Err(corrupt("wrong CRC"));
        }
        if step.base_offset < expected {
            return Err(corrupt("offsets go backwards"));
        }
        let header = BatchHeader::parse(batch).map_err(|error| corrupt(&error.to_string()))?;
        found.push((at, header));
        at = at.saturating_add(step.size);
        expected = step.last_offset.saturating_add(1);
    }
    Ok(found)
}

/// The marker in a control batch of a transaction; `None` for every other batch.
pub(super) fn end_marker(header: &BatchHeader, batch: &Bytes) -> Option<EndMarker> {
    if !header.attributes.is_control() || !header.has_producer_id() {
        return None;
    }
    let record = Batch { header: *header, bytes: batch.clone() }.records(batch.len()).ok()?.next()?.ok()?;
    let marker = EndTxnMarker::parse(record.key.as_deref()?, record.value.as_deref()?)?;
    Some(EndMarker { commit: marker.committed, coordinator_epoch: marker.coordinator_epoch })
}
