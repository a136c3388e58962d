//! One replica's log: segments, offsets, producer state, leader epochs.
//!
//! One writer at a time, behind a lock that is held across the positioned write and nothing slower on the append path; readers take
//! no lock: they see the state that the writer published (segment size, then log end, both with Release).
//!
//! Background work changes the folder's files under `maintenance`, so that appends do not wait for its I/O: retention, index saves,
//! compaction's swap. Where the writer's state must not change either (truncation, close, a move to another log dir), the writer's lock
//! is taken, too. A roll takes only the writer's lock: it creates files of offsets that no other file has.
//! Lock order: `maintenance`, then `flushing`, then `writer`, then `epochs_file`, then `epochs`.

mod append;
mod checkpoint;
mod compact;
mod damage;
mod durable;
mod flush;
mod load;
mod pick;
mod read;
mod replay;
mod retention;
mod spare;
#[cfg(test)]
mod tests;
mod truncate;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard, RwLock};

pub(crate) use load::Load;

use crate::{
    EpochEndOffset, LogConfig, LogError, OpenTransaction, ProducerInfo, Uuid, VerificationGuard, blocking,
    dir::LogDir,
    epochs::EpochCache,
    error::FileError,
    files::{self, LEADER_EPOCHS},
    io::Context,
    journal::Spot,
    producers::Producers,
    segment::Segment,
};

/// The topic id of a log until it is known.
const NO_TOPIC_ID: Uuid = Uuid::ZERO;
/// No transaction bounds the last stable offset.
const STABLE: i64 = i64::MAX;

/// One replica's log: `Send + Sync`, one writer at a time (an internal lock), readers without locks.
#[derive(Debug)]
pub struct Log {
    topic: Arc<str>,
    partition: i32,
    /// Set once known.
    topic_id: OnceLock<Uuid>,
    log_dir: Arc<LogDir>,
    /// The partition's folder.
    dir: PathBuf,
    config: ArcSwap<LogConfig>,
    /// In order of base offsets, never empty; the last one is active.
    segments: ArcSwap<Vec<Arc<Segment>>>,
    start: AtomicI64,
    /// Highest log start that a durable checkpoint or the files have; may be above `start` after a truncation.
    saved_start: AtomicI64,
    end: AtomicI64,
    high_watermark: AtomicI64,
    first_unstable: AtomicI64,
    /// A finished transaction waits for the high watermark.
    awaits_high_watermark: AtomicBool,
    recovery_point: AtomicI64,
    durable: AtomicI64,
    /// The position of `durable` in the segments, if it is known.
    durable_spot: Mutex<Option<Spot>>,
    /// Where the last compaction ended; -1 if there was none.
    cleaned: AtomicI64,
    /// Time of the oldest append that is not durable; `i64::MAX` if all are.
    pub(crate) dirty_since_ms: AtomicI64,
    /// Time of the oldest append past the recovery point; `i64::MAX` if there is none.
    unsynced_since_ms: AtomicI64,
    /// Latest wall clock time that a caller passed.
    clock_ms: AtomicI64,
    /// Truncations so far: a flush that overlaps one does not move the recovery point.
    pub(crate) truncations: AtomicU64,
    closed: AtomicBool,
    epochs: RwLock<EpochCache>,
    /// The latest of `epochs`, -1 for none: appends read it. Changed under the writer's lock.
    pub(crate) latest_epoch: AtomicI32,
    writer: Mutex<Writer>,
    /// See the module. Held for I/O; the append path never takes it.
    maintenance: Mutex<()>,
    flushing: Mutex<()>,
    /// Held while the epoch checkpoint is written: flushes do so without the writer's lock. True once another log may have the
    /// folder's name: the checkpoint is not written then.
    epochs_file: Mutex<bool>,
}

/// The state of the writer.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) active: Arc<Segment>,
    /// Disk space of the active file is reserved up to here.
    reserved: u64,
    bytes_since_index: u64,
    /// Largest timestamp of the active segment's first batch: `segment.ms` counts from it.
    first_timestamp: Option<i64>,
    jitter_ms: i64,
    producers: Producers,
    /// Offset of the newest producer snapshot file.
    snapshot_at: i64,
    pub(crate) unflushed_records: i64,
    /// Names were created or removed in the folder since it was synced.
    dir_dirty: bool,
    /// Records were appended since the indexes were last written completely.
    indexes_stale: bool,
    /// The folder's own name and `partition.metadata` are not known to be durable.
    pub(crate) folder_unsynced: bool,
    /// Index files of segments from this base offset on are not known to be durable; `i64::MAX` if all are.
    unsynced_indexes: i64,
    /// Size of the index files when they were last written.
    indexed_bytes: u64,
    /// Closed segments whose files have space reserved past their end.
    untrimmed: Vec<Arc<Segment>>,
    /// Bytes reserved in the data file of the spare segment, if there is one.
    spare: Option<u64>,
    /// Base offset and size of the active segment at the last check for a spare segment.
    last_spare_check: (i64, u64),
}

impl Log {
    /// Topic name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Partition number.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Topic id of `partition.metadata`; all zeros if the folder has none.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id.get().copied().unwrap_or(NO_TOPIC_ID)
    }

    /// Sets the topic id of a log without one: the folder of an old Kafka, or one whose `partition.metadata` was lost before the
    /// first flush. Writes the file. False if the log has another id.
    pub(crate) fn adopt_topic_id(&self, topic_id: Uuid) -> Result<bool, LogError> {
        self.log_dir.check_online()?;
        let mut writer = self.lock_writer();
        if self.topic_id() == NO_TOPIC_ID {
            self.log_dir.record_failure(files::write_partition_metadata(
                self.log_dir.disk.as_ref(),
                &self.dir,
                topic_id,
            ))?;
            writer.folder_unsynced = true;
            let _ = self.topic_id.set(topic_id);
        }
        Ok(self.topic_id() == topic_id)
    }

    /// The key of the log in the journal.
    pub(crate) fn key(&self) -> (Uuid, i32) {
        (self.topic_id(), self.partition)
    }

    /// The log dir (not the partition's folder) it lies in.
    pub fn log_dir(&self) -> &Path {
        self.log_dir.path()
    }

    /// `directory.id` of its log dir.
    pub fn directory_id(&self) -> Uuid {
        self.log_dir.directory_id
    }

    pub(crate) fn home(&self) -> &Arc<LogDir> {
        &self.log_dir
    }

    /// The partition's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The writer's lock. Rolls, truncations and moves hold it for I/O: an async caller waits for that off its worker.
    pub(crate) fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        blocking::lock(self.log_dir.env(), &self.writer)
    }

    /// The lock of background work on the folder's files. The log is not truncated, closed or moved while it is held.
    fn lock_maintenance(&self) -> MutexGuard<'_, ()> {
        blocking::lock(self.log_dir.env(), &self.maintenance)
    }

    /// Current configuration.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// Replaces the configuration for later operations.
    pub fn update_config(&self, config: LogConfig) {
        self.config.store(Arc::new(config));
    }

    /// First offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.start.load(Ordering::Acquire)
    }

    /// The log start offset as far as it is durable: after a crash the log starts there, or later.
    pub fn saved_start_offset(&self) -> i64 {
        self.saved_start.load(Ordering::Acquire).min(self.log_start_offset())
    }

    /// Offset of the next record.
    pub fn log_end_offset(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    /// High watermark: offset below which every in-sync replica has the records.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// Moves the high watermark up to at most the log end; never down. Returns the old one if it moved.
    pub fn advance_high_watermark(&self, offset: i64) -> Option<i64> {
        let new = offset.min(self.log_end_offset());
        let old = self.high_watermark.fetch_max(new, Ordering::AcqRel);
        if old >= new {
            return None;
        }
        if self.awaits_high_watermark.load(Ordering::Acquire) {
            let mut writer = self.lock_writer();
            writer.producers.advance_high_watermark(self.high_watermark());
            self.refresh_unstable(&writer.producers);
        }
        Some(old)
    }

    /// First offset of the oldest transaction that is open, or finished by a marker above the high watermark.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        let first = self.first_unstable.load(Ordering::Acquire);
        (first != STABLE).then(|| first.max(self.log_start_offset()))
    }

    /// min(high watermark, first unstable offset): where read-committed readers stop.
    pub fn last_stable_offset(&self) -> i64 {
        // The unstable offset first: a marker replicated in between can only make the result lower than it could be.
        let unstable = self.first_unstable_offset();
        unstable.map_or(i64::MAX, |offset| offset).min(self.high_watermark())
    }

    fn refresh_unstable(&self, producers: &Producers) {
        self.first_unstable.store(producers.first_unstable_offset().unwrap_or(STABLE), Ordering::Release);
        self.awaits_high_watermark.store(producers.awaits_high_watermark(), Ordering::Release);
    }

    /// Bytes of all segments' data.
    pub fn size_bytes(&self) -> u64 {
        self.segments.load().iter().map(|segment| segment.size()).sum()
    }

    /// Number of segments, the active one included.
    pub fn segment_count(&self) -> usize {
        self.segments.load().len()
    }

    /// Everything below is flushed in its segments: recovery does not check it.
    pub fn recovery_point(&self) -> i64 {
        self.recovery_point.load(Ordering::Acquire)
    }

    /// After a disk error in its log dir, or once closed: nothing is written any more.
    pub fn is_offline(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.log_dir.is_offline()
    }

    /// End of an epoch as OffsetForLeaderEpoch answers it: (epoch, end) of the largest known epoch not above
    /// `leader_epoch`, -1 and -1 if it is unknown.
    pub fn epoch_end_offset(&self, leader_epoch: i32) -> EpochEndOffset {
        let end = self.log_end_offset();
        self.epochs.read().end_offset_for(leader_epoch, end)
    }

    /// Latest leader epoch known here.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.epochs.read().latest()
    }

    /// Leader epoch of the record at `offset`; from the log's end on, of the next record.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let end = self.log_end_offset();
        self.epochs.read().at(offset, end)
    }

    /// Begins `leader_epoch` at the log end: for a replica that becomes leader, before it accepts appends (KIP-101). It is in
    /// memory only until the epoch's first record is appended.
    pub fn begin_epoch(&self, leader_epoch: i32) -> Result<(), LogError> {
        self.log_dir.check_online()?;
        let _writer = self.lock_writer();
        self.epochs.write().begin_epoch(leader_epoch);
        Ok(())
    }

    /// Records the offset of an epoch's first record, and writes the checkpoint; the caller holds the writer lock.
    fn assign_epoch_at(&self, leader_epoch: i32, offset: i64) -> Result<(), FileError> {
        if leader_epoch <= self.latest_epoch.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.change_epochs(|epochs| epochs.assign_start(leader_epoch, offset));
        self.write_epochs(false)
    }

    /// Changes the known epochs in memory; the caller holds the writer lock.
    fn change_epochs(&self, change: impl FnOnce(&mut EpochCache)) {
        let mut epochs = self.epochs.write();
        change(&mut epochs);
        self.latest_epoch.store(epochs.latest_written().unwrap_or(-1), Ordering::Relaxed);
    }

    /// Writes the epoch checkpoint if it changed; with `sync`, also flushes it (a checkpoint that was only written is rewritten
    /// then).
    fn write_epochs(&self, sync: bool) -> Result<(), FileError> {
        let gone = self.epochs_file.lock();
        if *gone {
            return Ok(());
        }
        let text = {
            let mut epochs = self.epochs.write();
            if !epochs.to_write(sync) {
                return Ok(());
            }
            epochs.note_written(sync);
            epochs.encode()
        };
        let path = self.dir.join(LEADER_EPOCHS);
        let written = self.log_dir.disk.replace(&path, text.as_bytes(), sync).context("write", &path);
        if written.is_err() {
            self.epochs.write().note_unwritten();
        }
        self.record_failure(written)
    }

    /// As the log dir's function, except that a failure after the log was closed (deleted or moved) does not take the dir offline.
    fn record_failure<T>(&self, result: Result<T, FileError>) -> Result<T, FileError> {
        result.map_err(|error| if self.is_closed() { error } else { self.log_dir.classify_error(error) })
    }

    /// Producers with state, by id (DescribeProducers, KIP-664).
    pub fn producers(&self) -> Vec<ProducerInfo> {
        self.lock_writer().producers.describe()
    }

    /// The oldest open transaction, which bounds the last stable offset.
    pub fn oldest_open_transaction(&self) -> Option<OpenTransaction> {
        if self.first_unstable.load(Ordering::Acquire) == STABLE {
            return None;
        }
        self.lock_writer().producers.oldest_open()
    }

    /// Returns the guard for a producer's batch that may begin its transaction in this log; `None` if the transaction is open here
    /// already. The caller verifies the transaction with the coordinator before the append.
    pub fn begin_verification(&self, producer_id: i64, epoch: i16, first_sequence: i32) -> Option<VerificationGuard> {
        self.lock_writer().producers.begin_verification(producer_id, epoch, first_sequence)
    }

    /// Cancels a verification: the coordinator does not know the transaction of this guard.
    pub fn cancel_verification(&self, producer_id: i64, guard: VerificationGuard) {
        self.lock_writer().producers.cancel_verification(producer_id, guard);
    }

    /// Number of producers with state.
    pub fn producer_count(&self) -> usize {
        self.lock_writer().producers.len()
    }

    /// Removes all mapped pages from this process's resident memory. They stay in the page cache, and slices stay valid; the next
    /// read touches them again. Cheap; does not block.
    #[cfg(test)]
    pub(crate) fn release_memory(&self) {
        self.segments.load().iter().for_each(|segment| segment.release());
    }

    /// Closes the log for writes and reads; its folder may be renamed afterwards.
    pub(crate) fn close(&self) {
        let _maintenance = self.lock_maintenance();
        let _writer = self.lock_writer();
        self.release_files();
    }

    fn release_files(&self) {
        self.closed.store(true, Ordering::Release);
        *self.epochs_file.lock() = true;
        self.segments.load().iter().for_each(|segment| segment.mark_unlinked());
    }

    /// All segments, the active one last.
    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    /// Whether any of these segments is no longer in the log: explains a failure on them. Waits for a running truncation or swap,
    /// which change the files before the list. (Retention changes the list first.)
    pub(crate) fn has_dropped(&self, segments: &[Arc<Segment>]) -> bool {
        drop(self.lock_writer());
        !self.contains_all(segments)
    }

    /// Whether all of these segments are in the log now.
    pub(crate) fn contains_all(&self, segments: &[Arc<Segment>]) -> bool {
        let held = self.segments.load();
        segments.iter().all(|segment| held.iter().any(|held| Arc::ptr_eq(held, segment)))
    }

    /// Whether it was moved or deleted: another log may have its name.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn segments_from(&self, segments: &[Arc<Segment>], offset: i64) -> usize {
        segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }
}
