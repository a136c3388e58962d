//! One segment: a data file with its indexes, read through one long-lived map.
//!
//! The log's single writer appends and publishes the size with Release; readers take what is published with Acquire and
//! hand out slices of the map. The file never shrinks under a map: a truncated segment is replaced by a shorter one
//! over the same file ([`Segment::sealed`]), and the file is cut when the last slice of the old map is gone.

mod indexes;
mod read;

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
pub(crate) use indexes::Rebuilt;
use parking_lot::Mutex;

use crate::{
    DamagedRange,
    error::FileError,
    files::{self, INDEX, LOG, SEALED, TIME_INDEX, TXN_INDEX},
    index::{OffsetIndex, TimeIndex, TransactionIndex},
    io::{Context, Disk, LogFile, Open},
    mmap::Map,
};

/// Bytes at the end of the active segment that were written too recently to be anywhere but in memory.
const HOT_TAIL: u64 = 32 << 20;
/// No cut is due.
const KEEP: u64 = u64::MAX;

/// The open data file. Cut when nobody can read past its sealed size any more.
#[derive(Debug)]
struct DataFile {
    file: Arc<dyn LogFile>,
    cut_to: AtomicU64,
    /// The file of the segment that this one was sealed into: its own cut, a shorter one, must wait for ours.
    next: OnceLock<Arc<DataFile>>,
}

impl Drop for DataFile {
    fn drop(&mut self) {
        let cut_to = *self.cut_to.get_mut();
        // The marker stays until the next start, which makes the cut if this fails: it can sync, and here is no place for that.
        if cut_to != KEEP && self.file.size().is_ok_and(|len| len > cut_to) {
            let _ = self.file.set_len(cut_to);
        }
    }
}

/// What the slices of a map keep alive. The map goes before the file is cut: fields drop in order.
struct MapOwner {
    map: Arc<Map>,
    _file: Arc<DataFile>,
}

impl AsRef<[u8]> for MapOwner {
    fn as_ref(&self) -> &[u8] {
        Map::as_ref(&self.map)
    }
}

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
    data: OnceLock<Arc<DataFile>>,
    map: OnceLock<(Bytes, Arc<Map>)>,
    offsets: OnceLock<OffsetIndex>,
    times: OnceLock<TimeIndex>,
    /// Largest timestamp and the last offset of the batch that brought it; unknown for closed segments not yet asked.
    max_time: Mutex<Option<(i64, i64)>>,
    pub(crate) transactions: TransactionIndex,
    written: Mutex<Written>,
    /// What cannot be read of it, in order.
    pub(crate) damaged: Vec<DamagedRange>,
    /// Wall clock ms: when it was created, or last written as the file system knows.
    pub(crate) touched_ms: i64,
}

/// Entries at the front of the index files that are as in memory: never written again, so that a crash cannot tear them.
#[derive(Debug, Default)]
struct Written {
    offsets: usize,
    times: usize,
    transactions: usize,
}

/// What a segment is made of at its birth or when it is loaded.
pub(crate) struct SegmentParts {
    pub disk: Arc<dyn Disk>,
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
    /// A closed segment: its indexes and map come when they are asked for.
    pub(crate) fn closed(parts: SegmentParts) -> Self {
        let SegmentParts { disk, dir, base_offset, capacity, size, next_offset, index_interval, .. } = parts;
        Self {
            disk,
            dir,
            base_offset,
            capacity: capacity.max(size),
            size: AtomicU64::new(size),
            next_offset: AtomicI64::new(next_offset),
            index_interval,
            data: OnceLock::new(),
            map: OnceLock::new(),
            offsets: OnceLock::new(),
            times: OnceLock::new(),
            max_time: Mutex::new(None),
            written: Mutex::new(Written { transactions: parts.transactions.entries().len(), ..Written::default() }),
            transactions: parts.transactions,
            damaged: parts.damaged,
            touched_ms: parts.touched_ms,
        }
    }

    /// A segment whose indexes are in memory: the active one.
    pub(crate) fn active(parts: SegmentParts, rebuilt: &Rebuilt) -> Self {
        let segment = Self::closed(parts);
        let _ = segment.offsets.set(OffsetIndex::growing_from(&rebuilt.offsets));
        let _ = segment.times.set(TimeIndex::growing(rebuilt.times.clone()));
        *segment.max_time.lock() = rebuilt.max_time;
        (segment.written.lock().offsets, segment.written.lock().times) = rebuilt.kept;
        segment
    }

    /// The same segment, closed: shares file and map; its indexes are those on disk, which must have been written.
    pub(crate) fn close(&self, next_offset: i64) -> Self {
        let closed = Self::closed(SegmentParts {
            disk: Arc::clone(&self.disk),
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
        if let Some(data) = self.data.get() {
            let _ = closed.data.set(Arc::clone(data));
        }
        if let Some(map) = self.map.get() {
            let _ = closed.map.set(map.clone());
        }
        *closed.max_time.lock() = *self.max_time.lock();
        closed
    }

    /// The same closed segment, of which something more cannot be read.
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

    /// Publishes what was written. Only the log's writer may call this.
    pub(crate) fn publish(&self, size: u64, next_offset: i64) {
        // Whoever sees the size sees the offset.
        self.next_offset.store(next_offset, Ordering::Release);
        self.size.store(size, Ordering::Release);
    }

    fn data(&self) -> Result<&Arc<DataFile>, FileError> {
        if let Some(data) = self.data.get() {
            return Ok(data);
        }
        let path = self.path(LOG);
        let file = self.disk.open(&path, Open::Existing).context("open", &path)?;
        let data = DataFile { file, cut_to: AtomicU64::new(KEEP), next: OnceLock::new() };
        Ok(self.data.get_or_init(|| Arc::new(data)))
    }

    /// The open data file.
    pub(crate) fn file(&self) -> Result<&Arc<dyn LogFile>, FileError> {
        Ok(&self.data()?.file)
    }

    /// The data file for one pass over it: not kept open if it was not.
    pub(crate) fn file_once(&self) -> Result<Arc<dyn LogFile>, FileError> {
        if let Some(data) = self.data.get() {
            return Ok(Arc::clone(&data.file));
        }
        let path = self.path(LOG);
        self.disk.open(&path, Open::Existing).context("open", &path)
    }

    fn map(&self) -> Result<&Bytes, FileError> {
        if let Some((bytes, _)) = self.map.get() {
            return Ok(bytes);
        }
        let data = self.data()?;
        // A log that was deleted and made again has files of the same names: behind their end nothing may be touched.
        let published = self.size();
        if data.file.size().context("look at", &self.path(LOG))? < published {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(FileError { action: "map all of", path: self.path(LOG), source });
        }
        let len = usize::try_from(self.capacity).unwrap_or(usize::MAX);
        let map = Arc::new(data.file.map(len).context("map", &self.path(LOG))?);
        let owner = MapOwner { map: Arc::clone(&map), _file: Arc::clone(data) };
        Ok(&self.map.get_or_init(|| (Bytes::from_owner(owner), map)).0)
    }

    /// Takes the map's pages out of this process's resident memory; they stay in the page cache, and slices stay good.
    pub(crate) fn release(&self) {
        if let Some((_, map)) = self.map.get() {
            map.release(usize::try_from(self.size()).unwrap_or(usize::MAX));
        }
    }

    /// Offset relative to the base, as indexes have it.
    pub(crate) fn relative(&self, offset: i64) -> u32 {
        offset.saturating_sub(self.base_offset).clamp(0, i64::from(u32::MAX)) as u32
    }

    /// Writes the transaction index file, if there is anything in it.
    pub(crate) fn write_transactions(&self) -> Result<(), FileError> {
        let path = self.path(TXN_INDEX);
        if self.transactions.is_empty() {
            return self.disk.remove_file(&path).context("remove", &path);
        }
        let entries = self.transactions.entries().len();
        let known = std::mem::replace(&mut self.written.lock().transactions, entries);
        self.write_index_file(&path, &self.transactions.encode_from(known), known * TransactionIndex::ENTRY)
    }

    /// A shorter segment over the same file, for a truncation to `offset` at byte `size`. The file keeps its length
    /// while anybody can still read the old map; `.sealed` says how long it really is.
    pub(crate) fn sealed(&self, size: u64, offset: i64) -> Result<Self, FileError> {
        let marker = self.path(SEALED);
        let seal = format!("{size}\n");
        // On disk before anything is appended behind the cut: else a power cut would bring back what was cut off.
        self.disk.replace(&marker, seal.as_bytes(), true).context("write", &marker)?;
        let mut transactions = TransactionIndex::default();
        if !self.transactions.is_empty() {
            transactions = TransactionIndex::decode(&self.transactions.encode(), self.base_offset, offset);
        }
        let parts = SegmentParts {
            disk: Arc::clone(&self.disk),
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
        let sealed = Self::closed(parts);
        let (offsets, limit) = (self.offsets()?, self.relative(offset));
        let offsets: Vec<_> =
            (0..offsets.len()).filter_map(|i| offsets.get(i)).take_while(|e| e.relative_offset < limit).collect();
        let last = offsets.last().map_or(0, |entry| entry.relative_offset);
        let times = self.times()?.entries().into_iter().take_while(|entry| entry.relative_offset <= last).collect();
        let rebuilt = sealed.rebuild(offsets, times, i64::MAX, i64::MAX)?;
        let _ = sealed.offsets.set(OffsetIndex::growing_from(&rebuilt.offsets));
        let _ = sealed.times.set(TimeIndex::growing(rebuilt.times));
        *sealed.max_time.lock() = rebuilt.max_time;
        sealed.write_indexes()?;
        sealed.write_transactions()?;
        let data = self.data()?;
        let _ = data.next.set(Arc::clone(sealed.data()?));
        data.cut_to.store(size, Ordering::Release);
        Ok(sealed)
    }

    /// Removes its files. Maps stay readable.
    pub(crate) fn remove_files(&self) -> Result<(), FileError> {
        // The data file goes first: without it the others mean nothing.
        for suffix in [LOG, SEALED, INDEX, TIME_INDEX, TXN_INDEX] {
            let path = self.path(suffix);
            self.disk.remove_file(&path).context("remove", &path)?;
        }
        Ok(())
    }
}
