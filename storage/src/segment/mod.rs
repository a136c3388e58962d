//! One segment: a data file with its indexes, read through one long-lived map.
//!
//! The log's single writer appends and publishes the size with Release; readers load it with Acquire and return slices of the map.
//! The file never shrinks under a map: a truncated segment is replaced by a shorter one over the same file
//! ([`Segment::truncated_copy`]), and the file is cut when the last slice of the old map is gone.

mod indexes;
mod lost;
mod read;
mod rebuilt;
mod resident;

use std::{
    io::IoSlice,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
pub(crate) use rebuilt::Rebuilt;

use crate::{
    DamagedRange,
    error::FileError,
    files::{self, INDEX, LOG, SEALED, TIME_INDEX, TXN_INDEX},
    index::{OffsetIndex, TimeIndex, TransactionIndex},
    io::{Context, Disk, LogFile, Open},
    open_files::{Handle, OpenFiles, Opened},
};

/// Bytes of a file that are written again in one step.
const WRITE_AGAIN: usize = 1 << 20;

/// A mark that is never fresh: nothing lies at so large a position.
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Segment {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    pub(crate) base_offset: i64,
    /// The size may never grow past this: the map is this long.
    pub(crate) capacity: u64,
    size: AtomicU64,
    next_offset: AtomicI64,
    index_interval: u32,
    /// Its open file and maps, unless the limit of open files closed them.
    handle: Arc<Handle>,
    /// The indexes of an active segment, or indexes that were just rebuilt. Otherwise they are files.
    growing: OnceLock<(OffsetIndex, TimeIndex)>,
    /// Sizes of the index files that were found to match the data.
    checked_offsets: OnceLock<u64>,
    checked_times: OnceLock<u64>,
    /// Two marks in the recently appended data, the older first: the clock of [`residency`] in the upper half, the position in the
    /// lower. All data behind a fresh mark is in memory.
    recent: [AtomicU64; 2],
    /// Largest timestamp and the last offset of the batch that contains it; unknown for closed segments until the first lookup.
    max_time: Mutex<Option<(i64, i64)>>,
    pub(crate) transactions: TransactionIndex,
    written: Mutex<Written>,
    /// As `written`, for the transaction index. Separate, since the append of a marker writes this file.
    written_transactions: Mutex<usize>,
    /// Its damaged ranges, in order.
    pub(crate) damaged: Vec<DamagedRange>,
    /// Wall clock ms: when it was created or opened. A segment of records without a time is rolled by it.
    pub(crate) touched_ms: i64,
}

/// Number of leading entries of the index files that match memory: never rewritten, so that a crash cannot tear them.
#[derive(Debug, Default)]
struct Written {
    offsets: usize,
    times: usize,
}

/// The parts of a segment that is created or loaded.
pub(crate) struct SegmentParts {
    pub disk: Arc<dyn Disk>,
    pub files: Arc<OpenFiles>,
    pub dir: PathBuf,
    pub base_offset: i64,
    pub capacity: u64,
    pub size: u64,
    pub next_offset: i64,
    pub index_interval: u32,
    pub transactions: TransactionIndex,
    pub damaged: Vec<DamagedRange>,
    pub touched_ms: i64,
}

impl Segment {
    /// A closed segment: its indexes and map are loaded at first use.
    pub(crate) fn closed(parts: SegmentParts) -> Self {
        let SegmentParts { disk, files, dir, base_offset, capacity, size, next_offset, index_interval, .. } = parts;
        Self {
            disk,
            dir,
            base_offset,
            capacity: capacity.max(size),
            size: AtomicU64::new(size),
            next_offset: AtomicI64::new(next_offset),
            index_interval,
            handle: Handle::new(files),
            growing: OnceLock::new(),
            checked_offsets: OnceLock::new(),
            checked_times: OnceLock::new(),
            recent: [AtomicU64::new(NEVER), AtomicU64::new(NEVER)],
            max_time: Mutex::new(None),
            written: Mutex::default(),
            written_transactions: Mutex::new(parts.transactions.entries().len()),
            transactions: parts.transactions,
            damaged: parts.damaged,
            touched_ms: parts.touched_ms,
        }
    }

    /// A segment whose indexes are in memory: the active one.
    pub(crate) fn active(parts: SegmentParts, rebuilt: &Rebuilt) -> Self {
        let segment = Self::closed(parts);
        let times = TimeIndex::growing(rebuilt.times.clone());
        let _ = segment.growing.set((OffsetIndex::growing_from(&rebuilt.offsets), times));
        *segment.max_time.lock() = rebuilt.max_time;
        (segment.written.lock().offsets, segment.written.lock().times) = rebuilt.kept;
        segment
    }

    /// The same segment, closed: shares file and map; its indexes are the files, which must have been written.
    pub(crate) fn close(&self, next_offset: i64) -> Self {
        let mut closed = Self::closed(SegmentParts {
            disk: Arc::clone(&self.disk),
            files: Arc::clone(self.handle.files()),
            dir: self.dir.clone(),
            base_offset: self.base_offset,
            capacity: self.capacity,
            size: self.size(),
            next_offset,
            index_interval: self.index_interval,
            transactions: TransactionIndex::default(),
            damaged: self.damaged.clone(),
            touched_ms: self.touched_ms,
        });
        for entry in self.transactions.entries() {
            closed.transactions.push(entry);
        }
        closed.handle = Arc::clone(&self.handle);
        for (new, old) in closed.recent.iter().zip(&self.recent) {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        *closed.max_time.lock() = *self.max_time.lock();
        closed
    }

    /// A copy of this closed segment with these damaged ranges.
    pub(crate) fn with_damage(&self, damaged: Vec<DamagedRange>) -> Self {
        Self { damaged, ..self.close(self.next_offset()) }
    }

    pub(crate) fn path(&self, suffix: &str) -> PathBuf {
        files::segment_path(&self.dir, self.base_offset, suffix)
    }

    /// Published bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Offset after its last record (for a closed one: where the next segment begins).
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Acquire)
    }

    /// Publishes written data. Only the log's writer may call this.
    pub(crate) fn publish(&self, size: u64, next_offset: i64) {
        self.note_appended(size);
        // A reader that sees the size sees the offset, too.
        self.next_offset.store(next_offset, Ordering::Release);
        self.size.store(size, Ordering::Release);
    }

    /// The id of its file, unique for this broker.
    pub(crate) fn id(&self) -> u64 {
        self.handle.id
    }

    fn open_file(&self) -> Result<Arc<dyn LogFile>, FileError> {
        let path = self.path(LOG);
        let file = self.disk.open(&path, Open::Existing).context("open", &path)?;
        file.disable_read_ahead();
        Ok(file)
    }

    fn open_whole(&self) -> Result<Arc<dyn LogFile>, FileError> {
        let file = self.open_file()?;
        // A log that was deleted and created again has files of the same names: pages behind their end must not be touched. A
        // segment that is known to be damaged may have lost its end; the rest can be read.
        let known = !self.damaged.is_empty() || self.lost_from().is_some();
        if !known && file.size().context("look at", &self.path(LOG))? < self.size() {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(FileError { action: "map all of", path: self.path(LOG), source });
        }
        Ok(file)
    }

    /// Its open files; opens them if necessary.
    pub(crate) fn opened(&self) -> Result<Arc<Opened>, FileError> {
        self.handle.get_or_open(|| self.open_whole())
    }

    /// As `opened`, for a short use: takes no reference count.
    pub(crate) fn with_opened<R>(&self, work: impl FnOnce(&Opened) -> R) -> Result<R, FileError> {
        match self.handle.peek().as_ref() {
            Some(opened) => Ok(work(opened)),
            None => Ok(work(self.opened()?.as_ref())),
        }
    }

    /// The data file for one pass: it is not kept open afterwards, unless it was open.
    pub(crate) fn file_once(&self) -> Result<Arc<dyn LogFile>, FileError> {
        match self.handle.get() {
            Some(opened) => Ok(Arc::clone(&opened.data.file)),
            None => self.open_file(),
        }
    }

    /// Rewrites the bytes between two positions unchanged: the next sync makes them durable, although the kernel may have marked
    /// their pages as clean.
    pub(crate) fn write_again(&self, from: u64, to: u64) -> Result<(), FileError> {
        let (path, file) = (self.path(LOG), self.file_once()?);
        let mut buffer = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX).min(WRITE_AGAIN)];
        let mut at = from;
        while at < to {
            let part = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..part).unwrap_or_default();
            let read = file.read_at(part, at).context("read", &path)?;
            let part = part.get(..read).filter(|part| !part.is_empty());
            let Some(part) = part else { break };
            file.write_at(&mut [IoSlice::new(part)], at).context("write to", &path)?;
            at = at.saturating_add(read as u64);
        }
        Ok(())
    }

    /// Opens all files and keeps them open: a reader of this segment must not open the files that are about to take over its names.
    pub(crate) fn pin(&self) -> Result<(), FileError> {
        let opened = self.handle.pin(|| self.open_file())?;
        self.times(&opened)?;
        Ok(())
    }

    /// Marks that its files' names belong to another segment from now on, or are removed. Readers may continue; the indexes that
    /// they rebuild stay in memory.
    pub(crate) fn mark_unlinked(&self) {
        *self.handle.owns_names.lock() = false;
    }

    /// Whether the file was written to since its last sync.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.handle.is_unsynced()
    }

    /// Records that the file was written to (or is flushed).
    pub(crate) fn set_unsynced(&self, unsynced: bool) {
        self.handle.set_unsynced(unsynced);
    }

    /// Removes the map's pages from this process's resident memory; they stay in the page cache, and slices stay valid.
    pub(crate) fn release(&self) {
        if let Some(opened) = self.handle.get() {
            opened.release();
        }
    }

    /// Offset relative to the base, as indexes have it.
    pub(crate) fn relative(&self, offset: i64) -> u32 {
        offset.saturating_sub(self.base_offset).clamp(0, i64::from(u32::MAX)) as u32
    }

    /// Writes the transaction index file, if there is anything in it.
    pub(crate) fn write_transactions(&self) -> Result<(), FileError> {
        let path = self.path(TXN_INDEX);
        // Locked before the check for entries: an append of a marker may be writing the file.
        let mut written = self.written_transactions.lock();
        if self.transactions.is_empty() {
            return self.disk.remove_file(&path).context("remove", &path);
        }
        let encode = |from| self.transactions.encode_from(from);
        *written = self.write_index_file(&path, encode, (*written, TransactionIndex::ENTRY))?;
        Ok(())
    }

    /// A shorter segment over the same file, for a truncation to `offset` at byte `size`. The file keeps its length while a reader
    /// holds the old map; `.sealed` has the size of the segment.
    pub(crate) fn truncated_copy(&self, size: u64, offset: i64) -> Result<Self, FileError> {
        let marker = self.path(SEALED);
        let seal = format!("{size}\n");
        // Durable before anything is appended behind the cut: otherwise a power cut would restore the truncated data.
        self.disk.replace(&marker, seal.as_bytes(), true).context("write", &marker)?;
        let mut transactions = TransactionIndex::default();
        if !self.transactions.is_empty() {
            transactions = TransactionIndex::decode(&self.transactions.encode(), self.base_offset, offset);
        }
        let parts = SegmentParts {
            disk: Arc::clone(&self.disk),
            files: Arc::clone(self.handle.files()),
            dir: self.dir.clone(),
            base_offset: self.base_offset,
            capacity: size,
            size,
            next_offset: offset,
            index_interval: self.index_interval,
            transactions,
            damaged: self.damaged.iter().filter(|range| range.end_position <= size).cloned().collect(),
            touched_ms: self.touched_ms,
        };
        let copy = Self::closed(parts);
        // From here on the path may name a shorter file than this segment's.
        let opened = self.handle.pin(|| self.open_file())?;
        let (offsets, times) = (self.offsets(&opened)?, self.times(&opened)?);
        let limit = self.relative(offset);
        self.mark_unlinked();
        let mut entries: Vec<_> =
            (0..offsets.len()).filter_map(|i| offsets.get(i)).take_while(|e| e.relative_offset < limit).collect();
        let last = entries.last().map_or(0, |entry| entry.relative_offset);
        let mut timed: Vec<_> = times.entries().into_iter().take_while(|entry| entry.relative_offset <= last).collect();
        if offsets.is_damaged() || times.is_damaged() {
            (entries, timed) = (Vec::new(), Vec::new());
        }
        let rebuilt = copy.rebuild(entries, timed, i64::MAX, i64::MAX)?;
        let times = TimeIndex::growing(rebuilt.times);
        let _ = copy.growing.set((OffsetIndex::growing_from(&rebuilt.offsets), times));
        *copy.max_time.lock() = rebuilt.max_time;
        copy.write_indexes()?;
        copy.write_transactions()?;
        if let Some(position) = self.lost_from().filter(|position| *position < size) {
            copy.handle.set_lost_from(position);
        }
        copy.handle.set_predecessor(&opened.data);
        let after = copy.opened()?;
        opened.data.truncate_when_unused(size, Arc::clone(&after.data));
        Ok(copy)
    }

    /// How old its newest record is, as retention and compaction count: by its largest timestamp, or, of records without one, by when
    /// the file was last written to (as in Kafka).
    pub(crate) fn newest_ms(&self) -> Result<i64, FileError> {
        match self.max_time()? {
            Some((timestamp, _)) => Ok(timestamp),
            None => self.file_once()?.modified_ms().context("look at", &self.path(LOG)),
        }
    }

    /// Removes its files. Maps stay readable.
    pub(crate) fn remove_files(&self) -> Result<(), FileError> {
        self.mark_unlinked();
        // The data file first: the others depend on it.
        for suffix in [LOG, SEALED, INDEX, TIME_INDEX, TXN_INDEX] {
            let path = self.path(suffix);
            self.disk.remove_file(&path).context("remove", &path)?;
        }
        Ok(())
    }
}
