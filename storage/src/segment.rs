//! One segment: a data file with its indexes, read through one long-lived map.
//!
//! The log's single writer appends and publishes the size with Release; readers take what is published with Acquire and
//! hand out slices of the map. The file never shrinks under a map: a truncated segment is replaced by a shorter one
//! over the same file ([`Segment::sealed`]), and the file is cut when the last slice of the old map is gone.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    error::{FileError, ReadError},
    files::{self, INDEX, LOG, SEALED, TIME_INDEX, TXN_INDEX},
    index::{OffsetEntry, OffsetIndex, TimeEntry, TimeIndex, TransactionIndex, sound_entries, sound_times},
    io::{Context, Disk, LogFile, Open},
    mmap::Map,
    scan::{Window, scan},
    types::ReadInfo,
    walk::{self, STEP_BYTES, Step},
};

/// Bytes at the end of the active segment that were written too recently to be anywhere but in memory.
const HOT_TAIL: u64 = 32 << 20;
/// No cut is due.
const KEEP: u64 = u64::MAX;

/// The open data file. Cut when nobody can read past its sealed size any more.
#[derive(Debug)]
struct DataFile {
    file: Arc<dyn LogFile>,
    disk: Arc<dyn Disk>,
    cut_to: AtomicU64,
    /// What the `.sealed` file says while this cut is due: another seal's marker is not ours to remove.
    seal: OnceLock<String>,
    marker: PathBuf,
    /// The file of the segment that this one was sealed into: its own cut, a shorter one, must wait for ours.
    next: OnceLock<Arc<DataFile>>,
}

impl Drop for DataFile {
    fn drop(&mut self) {
        let cut_to = *self.cut_to.get_mut();
        // If this fails the marker stays, and the cut is made when the log is opened next.
        if cut_to == KEEP {
            return;
        }
        let longer = self.file.size().is_ok_and(|len| len > cut_to);
        let cut = !longer || self.file.set_len(cut_to).is_ok();
        let ours =
            || self.disk.read(&self.marker).is_ok_and(|text| self.seal.get().is_some_and(|s| s.as_bytes() == text));
        if cut && ours() {
            let _ = self.disk.remove_file(&self.marker);
        }
    }
}

/// What the slices of a map keep alive. The map goes before the file is cut: fields drop in order.
struct MapOwner {
    map: Map,
    _file: Arc<DataFile>,
}

impl AsRef<[u8]> for MapOwner {
    fn as_ref(&self) -> &[u8] {
        self.map.as_ref()
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
    map: OnceLock<Bytes>,
    offsets: OnceLock<OffsetIndex>,
    times: OnceLock<TimeIndex>,
    /// Largest timestamp and the last offset of the batch that brought it; unknown for closed segments not yet asked.
    max_time: Mutex<Option<(i64, i64)>>,
    pub(crate) transactions: TransactionIndex,
    /// Wall clock ms: when it was created, or last written as the file system knows.
    pub(crate) touched_ms: i64,
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
    pub touched_ms: i64,
}

/// Indexes rebuilt from data, and how far the data is sound.
pub(crate) struct Rebuilt {
    pub offsets: Vec<OffsetEntry>,
    pub times: Vec<TimeEntry>,
    pub max_time: Option<(i64, i64)>,
    pub bytes_since_index: u64,
    pub first_timestamp: Option<i64>,
    pub end_position: u64,
    pub next_offset: i64,
    pub damage: Option<&'static str>,
}

impl Segment {
    /// A closed segment: its indexes and map come when they are asked for.
    pub(crate) fn closed(parts: SegmentParts) -> Self {
        let SegmentParts { disk, dir, base_offset, capacity, size, next_offset, index_interval, transactions, .. } =
            parts;
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
            transactions,
            touched_ms: parts.touched_ms,
        }
    }

    /// A segment whose indexes are in memory: the active one.
    pub(crate) fn active(parts: SegmentParts, rebuilt: &Rebuilt) -> Self {
        let segment = Self::closed(parts);
        let _ = segment.offsets.set(OffsetIndex::growing_from(&rebuilt.offsets));
        let _ = segment.times.set(TimeIndex::growing(rebuilt.times.clone()));
        *segment.max_time.lock() = rebuilt.max_time;
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
        self.size.store(size, Ordering::Release);
        self.next_offset.store(next_offset, Ordering::Release);
    }

    fn data(&self) -> Result<&Arc<DataFile>, FileError> {
        if let Some(data) = self.data.get() {
            return Ok(data);
        }
        let path = self.path(LOG);
        let file = self.disk.open(&path, Open::Existing).context("open", &path)?;
        let data = DataFile {
            file,
            disk: Arc::clone(&self.disk),
            cut_to: AtomicU64::new(KEEP),
            seal: OnceLock::new(),
            marker: self.path(SEALED),
            next: OnceLock::new(),
        };
        Ok(self.data.get_or_init(|| Arc::new(data)))
    }

    /// The open data file.
    pub(crate) fn file(&self) -> Result<&Arc<dyn LogFile>, FileError> {
        Ok(&self.data()?.file)
    }

    fn map(&self) -> Result<&Bytes, FileError> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let data = self.data()?;
        let len = usize::try_from(self.capacity).unwrap_or(usize::MAX);
        let map = data.file.map(len).context("map", &self.path(LOG))?;
        let owner = MapOwner { map, _file: Arc::clone(data) };
        Ok(self.map.get_or_init(|| Bytes::from_owner(owner)))
    }

    /// Offset relative to the base, as indexes have it.
    pub(crate) fn relative(&self, offset: i64) -> u32 {
        offset.saturating_sub(self.base_offset).clamp(0, i64::from(u32::MAX)) as u32
    }

    /// The offset index; loaded, or rebuilt if it is missing or wrong, at the first call for a closed segment.
    pub(crate) fn offsets(&self) -> Result<&OffsetIndex, FileError> {
        if self.offsets.get().is_none() {
            self.load_indexes()?;
        }
        Ok(self.offsets.get_or_init(OffsetIndex::growing))
    }

    /// The time index; as [`Self::offsets`].
    pub(crate) fn times(&self) -> Result<&TimeIndex, FileError> {
        if self.times.get().is_none() {
            self.load_indexes()?;
        }
        Ok(self.times.get_or_init(|| TimeIndex::growing(Vec::new())))
    }

    fn load_indexes(&self) -> Result<(), FileError> {
        if let (Some(offsets), Some(times)) = (self.mapped_index(INDEX, 8), self.mapped_index(TIME_INDEX, 12)) {
            let (offsets, times) = (OffsetIndex::File(offsets), TimeIndex::File(times));
            if self.fits(&offsets, &times)? {
                let _ = self.offsets.set(offsets);
                let _ = self.times.set(times);
                return Ok(());
            }
        }
        tracing::info!(segment = %self.path(LOG).display(), "rebuilding the indexes of a segment");
        let rebuilt = self.rebuild(Vec::new(), Vec::new(), i64::MAX)?;
        *self.max_time.lock() = rebuilt.max_time;
        let offsets = OffsetIndex::growing_from(&rebuilt.offsets);
        let times = TimeIndex::growing(rebuilt.times);
        self.write_index_files(&offsets, &times)?;
        let _ = self.offsets.set(offsets);
        let _ = self.times.set(times);
        Ok(())
    }

    fn mapped_index(&self, suffix: &str, entry: u64) -> Option<Bytes> {
        let file = self.disk.open(&self.path(suffix), Open::Existing).ok()?;
        let len = file.size().ok().filter(|len| len % entry == 0)?;
        let map = file.map(usize::try_from(len).ok()?).ok()?;
        Some(Bytes::from_owner(map))
    }

    /// Whether the last entries of index files match the data.
    fn fits(&self, offsets: &OffsetIndex, times: &TimeIndex) -> Result<bool, FileError> {
        let size = self.size();
        if size > 0 && times.len() == 0 {
            // A closed segment's time index ends with its largest timestamp, unless no batch has a time.
            return Ok(false);
        }
        let relative_end = self.relative(self.next_offset());
        if times.last().is_some_and(|last| last.relative_offset >= relative_end) {
            return Ok(false);
        }
        match offsets.last() {
            Some(last) => self.entry_matches(last),
            // Too few bytes for an entry, as far as that can be told without a walk.
            None => Ok(size <= u64::from(self.index_interval).saturating_mul(64)),
        }
    }

    /// Whether a batch lies where an entry says, ending with the entry's offset.
    fn entry_matches(&self, entry: OffsetEntry) -> Result<bool, FileError> {
        if u64::from(entry.position) >= self.size() {
            return Ok(false);
        }
        let path = self.path(LOG);
        let mut window = Window::new(self.file()?.as_ref(), &path);
        let view = window.view(u64::from(entry.position), STEP_BYTES, 0)?;
        let offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
        Ok(walk::step(view).is_ok_and(|step| step.last_offset == offset))
    }

    /// Makes the indexes anew from the data, beginning with entries that are trusted; batches at or above `check_from`
    /// have their CRC checked. Changes nothing.
    pub(crate) fn rebuild(
        &self,
        mut offsets: Vec<OffsetEntry>,
        mut times: Vec<TimeEntry>,
        check_from: i64,
    ) -> Result<Rebuilt, FileError> {
        while let Some(last) = offsets.last() {
            if self.entry_matches(*last)? {
                break;
            }
            offsets.pop();
        }
        let start = offsets.pop();
        // The batch of the last trusted entry is walked again; times that it or later batches brought come again too.
        let (position, from) = start.map_or((0, 0), |entry| (u64::from(entry.position), entry.relative_offset));
        times.retain(|entry| entry.relative_offset < from);
        let absolute = |relative: u32| self.base_offset.saturating_add(i64::from(relative));
        let mut out = Rebuilt {
            max_time: times.last().map(|entry| (entry.timestamp, absolute(entry.relative_offset))),
            offsets,
            times,
            // Makes the entry at `position` come again, if there was one.
            bytes_since_index: if start.is_some() { u64::from(self.index_interval) + 1 } else { 0 },
            first_timestamp: None,
            end_position: 0,
            next_offset: self.base_offset,
            damage: None,
        };
        let path = self.path(LOG);
        let mut window = Window::new(self.file()?.as_ref(), &path);
        if position > 0 {
            out.first_timestamp = walk::step(window.view(0, STEP_BYTES, 0)?).ok().map(|step| step.max_timestamp);
            out.next_offset = absolute(from);
        }
        let interval = u64::from(self.index_interval);
        let end = scan(&mut window, position, self.size(), self.base_offset, check_from, |position, step, _| {
            out.first_timestamp.get_or_insert(step.max_timestamp);
            if out.max_time.is_none_or(|(max, _)| step.max_timestamp > max) {
                out.max_time = Some((step.max_timestamp, step.last_offset));
            }
            if out.bytes_since_index > interval {
                let relative_offset = self.relative(step.last_offset);
                out.offsets.push(OffsetEntry { relative_offset, position: position as u32 });
                if let Some((timestamp, offset)) = out.max_time {
                    let entry = TimeEntry { timestamp, relative_offset: self.relative(offset) };
                    if timestamp >= 0 && out.times.last().is_none_or(|last| timestamp > last.timestamp) {
                        out.times.push(entry);
                    }
                }
                out.bytes_since_index = 0;
            }
            out.bytes_since_index = out.bytes_since_index.saturating_add(step.size as u64);
            out.next_offset = step.last_offset.saturating_add(1);
        })?;
        out.end_position = end.position;
        out.damage = end.damage;
        Ok(out)
    }

    /// Entries of the index files that could be true, to begin a rebuild with.
    pub(crate) fn stored_entries(&self, below: i64) -> (Vec<OffsetEntry>, Vec<TimeEntry>) {
        let mut offsets = sound_entries(&self.disk.read(&self.path(INDEX)).unwrap_or_default(), self.size());
        let limit = self.relative(below);
        offsets.retain(|entry| entry.relative_offset < limit);
        let last = offsets.last().map_or(0, |entry| entry.relative_offset);
        (offsets, sound_times(&self.disk.read(&self.path(TIME_INDEX)).unwrap_or_default(), last))
    }

    /// Notes a batch just appended: largest timestamp, and index entries if `interval` bytes have passed.
    pub(crate) fn note(&self, position: u64, last_offset: i64, max_timestamp: i64, with_entry: bool) {
        let mut max_time = self.max_time.lock();
        if max_time.is_none_or(|(max, _)| max_timestamp > max) {
            *max_time = Some((max_timestamp, last_offset));
        }
        if with_entry && let (Some(offsets), Some(times)) = (self.offsets.get(), self.times.get()) {
            offsets.push(OffsetEntry { relative_offset: self.relative(last_offset), position: position as u32 });
            if let Some((timestamp, offset)) = *max_time {
                times.push(TimeEntry { timestamp, relative_offset: self.relative(offset) });
            }
        }
    }

    /// Largest timestamp and the last offset of the batch that brought it; `None` if nothing has a time.
    pub(crate) fn max_time(&self) -> Result<Option<(i64, i64)>, FileError> {
        if self.size() == 0 {
            return Ok(None);
        }
        if let Some(known) = *self.max_time.lock() {
            return Ok(Some(known).filter(|(timestamp, _)| *timestamp >= 0));
        }
        let last = self.times()?.last();
        let mut max_time = self.max_time.lock();
        if max_time.is_none() {
            *max_time = last
                .map(|e| (e.timestamp, self.base_offset.saturating_add(i64::from(e.relative_offset))))
                .or(Some((-1, self.base_offset)));
        }
        Ok(max_time.filter(|(timestamp, _)| *timestamp >= 0))
    }

    /// Writes both index files whole, ending the time index with the largest timestamp (as Kafka closes a segment).
    pub(crate) fn write_indexes(&self) -> Result<(), FileError> {
        let (Some(offsets), Some(times)) = (self.offsets.get(), self.times.get()) else { return Ok(()) };
        if let (OffsetIndex::Growing(_), Some((timestamp, offset))) = (offsets, *self.max_time.lock()) {
            times.push(TimeEntry { timestamp, relative_offset: self.relative(offset) });
        }
        self.write_index_files(offsets, times)
    }

    fn write_index_files(&self, offsets: &OffsetIndex, times: &TimeIndex) -> Result<(), FileError> {
        if !matches!((offsets, times), (OffsetIndex::Growing(_), TimeIndex::Growing(_))) {
            return Ok(());
        }
        // Times first: after a crash they may then know more than the offsets, never less.
        for (suffix, bytes) in [(TIME_INDEX, times.encode_from(0)), (INDEX, offsets.encode_from(0))] {
            let path = self.path(suffix);
            self.disk.replace(&path, &bytes, false).context("write", &path)?;
        }
        Ok(())
    }

    /// Writes the transaction index file, if there is anything in it.
    pub(crate) fn write_transactions(&self) -> Result<(), FileError> {
        let path = self.path(TXN_INDEX);
        if self.transactions.is_empty() {
            return self.disk.remove_file(&path).context("remove", &path);
        }
        self.disk.replace(&path, &self.transactions.encode(), false).context("write", &path)
    }

    /// A shorter segment over the same file, for a truncation to `offset` at byte `size`. The file keeps its length
    /// while anybody can still read the old map; `.sealed` says how long it really is.
    pub(crate) fn sealed(&self, size: u64, offset: i64) -> Result<Self, FileError> {
        let marker = self.path(SEALED);
        let seal = format!("{size} {}\n", uuid::Uuid::new_v4());
        self.disk.replace(&marker, seal.as_bytes(), false).context("write", &marker)?;
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
            touched_ms: self.touched_ms,
        };
        let sealed = Self::closed(parts);
        let (offsets, limit) = (self.offsets()?, self.relative(offset));
        let offsets: Vec<_> =
            (0..offsets.len()).filter_map(|i| offsets.get(i)).take_while(|e| e.relative_offset < limit).collect();
        let last = offsets.last().map_or(0, |entry| entry.relative_offset);
        let times = self.times()?.entries().into_iter().take_while(|entry| entry.relative_offset <= last).collect();
        let rebuilt = sealed.rebuild(offsets, times, i64::MAX)?;
        let _ = sealed.offsets.set(OffsetIndex::growing_from(&rebuilt.offsets));
        let _ = sealed.times.set(TimeIndex::growing(rebuilt.times));
        *sealed.max_time.lock() = rebuilt.max_time;
        sealed.write_indexes()?;
        sealed.write_transactions()?;
        let data = self.data()?;
        let _ = data.next.set(Arc::clone(sealed.data()?));
        let _ = data.seal.set(seal);
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

    /// Walks headers in the map from `position` to the published end.
    pub(crate) fn steps(&self, position: u64) -> Result<Steps<'_>, FileError> {
        let limit = usize::try_from(self.size()).unwrap_or(usize::MAX);
        let data = self.map()?.get(..limit).unwrap_or_default();
        Ok(Steps { data, position: usize::try_from(position).unwrap_or(usize::MAX) })
    }

    /// A batch's bytes in the map.
    pub(crate) fn slice(&self, position: usize, size: usize) -> Result<Bytes, FileError> {
        let map = self.map()?;
        let end = position.saturating_add(size).min(map.len());
        Ok(map.slice(position.min(end)..end))
    }

    fn corrupt(&self, position: usize, what: &'static str) -> ReadError {
        ReadError::Corrupt { segment: self.base_offset, position: position as u64, what: what.to_owned() }
    }

    /// Position and step of the first batch that ends at or above `offset`; `None` if all end below.
    pub(crate) fn find(&self, offset: i64) -> Result<Option<(usize, Step)>, ReadError> {
        if self.size() == 0 {
            return Ok(None);
        }
        let position = self.offsets()?.floor(self.relative(offset));
        for step in self.steps(u64::from(position))? {
            let (position, step) = step.map_err(|(position, error)| self.corrupt(position, error.what()))?;
            if step.last_offset >= offset {
                return Ok(Some((position, step)));
            }
        }
        Ok(None)
    }

    /// See [`crate::Log::read`]; `None` if the segment has nothing at or above `from`.
    pub(crate) fn read(
        &self,
        from: i64,
        max_bytes: usize,
        up_to: i64,
        at_least_one: bool,
    ) -> Result<Option<ReadInfo>, ReadError> {
        let Some((start, first)) = self.find(from)? else { return Ok(None) };
        let mut info = ReadInfo { first_offset: from, next_offset: from, ..ReadInfo::default() };
        if first.last_offset >= up_to {
            return Ok(Some(info));
        }
        if first.size > max_bytes && !at_least_one {
            info.over_limit = true;
            return Ok(Some(info));
        }
        let mut end = start.saturating_add(first.size);
        let mut next_offset = first.last_offset.saturating_add(1);
        let limit = start.saturating_add(max_bytes).min(usize::try_from(self.size()).unwrap_or(usize::MAX));
        if limit > end {
            // Most of the way goes by the index: only the headers after its last fitting entry are walked.
            let near = self.offsets()?.floor_below(limit.min(u32::MAX as usize) as u32, self.relative(up_to));
            let position = near.map_or(end, |entry| end.max(entry.position as usize));
            for step in self.steps(position as u64)? {
                let (position, step) = step.map_err(|(position, error)| self.corrupt(position, error.what()))?;
                if position > end {
                    // Jumped: everything before this batch is in.
                    (end, next_offset) = (position, step.base_offset);
                }
                let batch_end = position.saturating_add(step.size);
                if batch_end > limit || step.last_offset >= up_to {
                    break;
                }
                (end, next_offset) = (batch_end, step.last_offset.saturating_add(1));
            }
        }
        info.records = self.slice(start, end.saturating_sub(start))?;
        (info.first_offset, info.next_offset) = (first.base_offset, next_offset);
        Ok(Some(info))
    }

    /// Whether reading `max_bytes` from `offset` on would find its pages in memory.
    pub(crate) fn is_resident(&self, offset: i64, max_bytes: u64, active: bool) -> bool {
        if active && self.size() <= HOT_TAIL {
            return true;
        }
        let (Some(offsets), Some(data)) = (self.offsets.get(), self.data.get()) else { return false };
        let position = u64::from(offsets.floor(self.relative(offset)));
        let left = self.size().saturating_sub(position);
        (active && left <= HOT_TAIL) || data.file.is_resident(position, left.min(max_bytes).max(1))
    }
}

/// Iterator over `(position, step)` of published batches.
pub(crate) struct Steps<'a> {
    data: &'a [u8],
    position: usize,
}

impl Iterator for Steps<'_> {
    type Item = Result<(usize, Step), (usize, walk::StepError)>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.position;
        let rest = self.data.get(position..).filter(|rest| !rest.is_empty())?;
        let step = walk::step(rest).and_then(|step| match step.size <= rest.len() {
            true => Ok(step),
            false => Err(walk::StepError::Short),
        });
        self.position = match &step {
            Ok(step) => position.saturating_add(step.size),
            Err(_) => self.data.len(),
        };
        Some(step.map(|step| (position, step)).map_err(|error| (position, error)))
    }
}
