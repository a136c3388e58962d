//! Bounds how many segments have their files open and mapped.
//!
//! A segment's file and maps are opened at the first use and stay open, so that the hot path makes no system call for them. With
//! tens of thousands of partitions that would be more descriptors than a process may have, and more maps than the kernel allows
//! (`vm.max_map_count`). Past the limit the least recently used segments are closed (the clock algorithm), and opened again at
//! their next use. Slices of readers keep their map and file open independently of the limit.
//!
//! Must never close a segment whose path no longer names its file: such segments are pinned (see [`Handle::pin`]). Segments with
//! unsynced data are closed last. Closing them loses nothing: the kernel keeps a writeback error with the inode, as long as it has
//! pages, and reports it to the next fsync through a new descriptor.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    Env, MachineEnv,
    error::FileError,
    eviction::{ColdCache, EvictPages},
    index::{OffsetIndex, TimeIndex},
    io::LogFile,
    mmap::Map,
    read_admission::ReadAdmission,
    residency::Residency,
};

/// The default limit of open segments.
const DEFAULT_LIMIT: usize = 4096;
/// The file keeps its length.
const KEEP: u64 = u64::MAX;
/// No part of the data file is lost.
pub(crate) const SOUND: u64 = u64::MAX;

/// Statistics of open files and segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFileStats {
    /// Data files that are open now, by segments or by slices of them.
    pub files: usize,
    /// Segments that are open now.
    pub segments: usize,
    /// Segments that may be.
    pub limit: usize,
    /// Number of segment opens.
    pub opened: u64,
    /// Number of segments closed for the limit.
    pub evicted: u64,
}

/// See the module. One for all logs of a broker.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) residency: Residency,
    pub(crate) read_admission: Arc<ReadAdmission>,
    /// Id of the next handle.
    next_id: AtomicU64,
    /// Number of maps of data and index files. A map may outlive this value.
    maps: Arc<AtomicUsize>,
    limit: AtomicUsize,
    /// Open handles in the order in which they were opened or got a second chance; each once.
    ring: Mutex<VecDeque<Weak<Handle>>>,
    /// Data files that are open.
    files: AtomicUsize,
    /// Handles that hold one.
    segments: AtomicUsize,
    opened: AtomicU64,
    evicted: AtomicU64,
    pub(crate) cold: ColdCache,
}

impl Default for OpenFiles {
    fn default() -> Self {
        Self::new(Arc::new(MachineEnv::default()))
    }
}

impl OpenFiles {
    pub(crate) fn new(env: Arc<dyn Env>) -> Self {
        Self {
            read_admission: Arc::new(ReadAdmission::new(Arc::clone(&env))),
            env,
            residency: Residency::default(),
            next_id: AtomicU64::new(1),
            maps: Arc::default(),
            limit: AtomicUsize::new(DEFAULT_LIMIT),
            ring: Mutex::default(),
            files: AtomicUsize::new(0),
            segments: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            cold: ColdCache::default(),
        }
    }

    /// Number of maps of data and index files, including maps that only slices hold.
    pub(crate) fn maps(&self) -> usize {
        self.maps.load(Ordering::Relaxed)
    }

    /// Counts a map for its lifetime.
    pub(crate) fn count_map(&self, map: &mut Map) {
        map.count_in(&self.maps);
    }

    pub(crate) fn set_limit(&self, segments: usize) {
        self.limit.store(segments.max(1), Ordering::Relaxed);
        self.shrink(self.limit());
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> OpenFileStats {
        OpenFileStats {
            files: self.files.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
            limit: self.limit(),
            opened: self.opened.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// Everything that is open now.
    pub(crate) fn all(&self) -> Vec<Arc<Opened>> {
        let ring = self.ring.lock();
        ring.iter().filter_map(|handle| handle.upgrade()?.slot.load_full()).collect()
    }

    fn added(&self, handle: &Arc<Handle>) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let mut ring = self.ring.lock();
        // Dropped segments leave dead entries in the ring.
        if ring.len() > 64 && ring.len() / 2 > self.segments.load(Ordering::Relaxed) {
            ring.retain(|handle| handle.strong_count() > 0);
        }
        ring.push_back(Arc::downgrade(handle));
        drop(ring);
        let limit = self.limit();
        if self.segments.load(Ordering::Relaxed) > limit {
            // Several at a time, since the search for candidates is the costly part.
            self.shrink(limit - limit / 16);
        }
    }

    /// Closes segments until `limit` are open, or no candidate is left.
    fn shrink(&self, limit: usize) {
        // Closing files and maps is slow: it happens outside of the lock.
        let mut gone = Vec::new();
        let mut ring = self.ring.lock();
        // First segments that were not used since the last round; then any; then also those with unsynced data.
        let mut chances = 3 * ring.len();
        let all = ring.len();
        while chances > 0 && self.segments.load(Ordering::Relaxed) > limit {
            let Some(handle) = ring.pop_front() else { break };
            let round = 3 - chances.div_ceil(all.max(1));
            chances -= 1;
            let Some(open) = handle.upgrade() else { continue };
            let stays = open.used.swap(false, Ordering::Relaxed) && round < 1
                || open.unsynced.load(Ordering::Relaxed) && round < 2;
            match stays {
                true => ring.push_back(handle),
                false => match open.close_unused() {
                    Some(opened) => gone.push(opened),
                    None if open.slot.load().is_some() => ring.push_back(handle),
                    None => {}
                },
            }
        }
        drop(ring);
        self.evicted.fetch_add(gone.len() as u64, Ordering::Relaxed);
    }
}

/// The open data file. After a truncation it is cut once no slice reaches past its new size.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) file: Arc<dyn LogFile>,
    cut_to: AtomicU64,
    /// The file of the truncated copy of this segment: its own cut, to a smaller size, must come after ours.
    next: OnceLock<Arc<DataFile>>,
    files: Arc<OpenFiles>,
}

impl DataFile {
    fn new(file: Arc<dyn LogFile>, files: Arc<OpenFiles>) -> Self {
        files.files.fetch_add(1, Ordering::Relaxed);
        Self { file, cut_to: AtomicU64::new(KEEP), next: OnceLock::new(), files }
    }

    /// Cuts the file to `size` when its last user drops it, and before `next` is cut.
    pub(crate) fn truncate_when_unused(&self, size: u64, next: Arc<DataFile>) {
        let _ = self.next.set(next);
        self.cut_to.store(size, Ordering::Release);
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        let cut_to = *self.cut_to.get_mut();
        // The marker stays until the next start, which repeats the cut and syncs it; a drop must not sync.
        if cut_to != KEEP && self.file.size().is_ok_and(|len| len > cut_to) {
            let _ = self.file.set_len(cut_to);
        }
        self.files.files.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EvictPages for DataFile {
    fn evict_pages(&self, at: u64, len: u64) {
        self.file.drop_pages(at, len);
    }
}

/// The owner that the slices of a map keep alive. The map is dropped before the file is cut: fields drop in order.
struct MapOwner {
    map: Arc<Map>,
    _file: Arc<DataFile>,
}

impl AsRef<[u8]> for MapOwner {
    fn as_ref(&self) -> &[u8] {
        Map::as_ref(&self.map)
    }
}

/// The open files and maps of a segment.
#[derive(Debug)]
pub(crate) struct Opened {
    map: OnceLock<(Bytes, Arc<Map>)>,
    pub(crate) data: Arc<DataFile>,
    /// Of a closed segment.
    pub(crate) offsets: OnceLock<OffsetIndex>,
    /// Of a closed segment after a lookup by time.
    pub(crate) times: OnceLock<TimeIndex>,
    /// Replaces both, once one of their files was damaged while it was mapped.
    pub(crate) rebuilt: OnceLock<(OffsetIndex, TimeIndex)>,
}

impl Opened {
    pub(crate) fn files(&self) -> &OpenFiles {
        &self.data.files
    }

    /// The data file.
    pub(crate) fn file(&self) -> &dyn LogFile {
        self.data.file.as_ref()
    }

    /// The map of the data file, as long as the file may grow.
    pub(crate) fn map(&self, capacity: u64) -> std::io::Result<&Bytes> {
        if let Some((bytes, _)) = self.map.get() {
            return Ok(bytes);
        }
        let mut map = self.data.file.map(usize::try_from(capacity).unwrap_or(usize::MAX))?;
        self.files().count_map(&mut map);
        let map = Arc::new(map);
        map.disable_read_ahead();
        let owner = MapOwner { map: Arc::clone(&map), _file: Arc::clone(&self.data) };
        Ok(&self.map.get_or_init(|| (Bytes::from_owner(owner), map)).0)
    }

    /// The map, if there is one.
    pub(crate) fn mapped(&self) -> Option<&Arc<Map>> {
        self.map.get().map(|(_, map)| map)
    }

    /// Removes the map's pages from this process's resident memory; they stay in the page cache, and slices stay valid.
    pub(crate) fn release(&self) {
        if let Some(map) = self.mapped() {
            map.release();
        }
    }
}

impl EvictPages for Opened {
    fn evict_pages(&self, at: u64, len: u64) {
        if let Some(map) = self.mapped() {
            map.release_range(at, len);
        }
    }
}

/// A segment's handle to its open files. Segments over the same file share one handle: the active segment, and the closed one that
/// it becomes.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Unique among all files of this broker.
    pub(crate) id: u64,
    files: Arc<OpenFiles>,
    slot: ArcSwapOption<Opened>,
    used: AtomicBool,
    /// Written to since the last sync.
    unsynced: AtomicBool,
    /// Position from which the data file is lost: cut by another process, or unreadable. [`SOUND`] if it is not.
    lost_from: AtomicU64,
    state: Mutex<State>,
    /// Whether the files' names still belong to this segment; held while an index file is replaced by name without a lock of the
    /// log.
    pub(crate) owns_names: Mutex<bool>,
}

#[derive(Debug, Default)]
struct State {
    pinned: bool,
    /// Slices may still hold a closed file: it is used again then, so that a cut waits for all of them.
    last: Weak<DataFile>,
    /// The file of the segment that this one is a truncated copy of. While it is open, its cut is pending, and ours must wait for
    /// it.
    before: Weak<DataFile>,
}

impl Handle {
    pub(crate) fn new(files: Arc<OpenFiles>) -> Arc<Self> {
        Arc::new(Self {
            id: files.next_id.fetch_add(1, Ordering::Relaxed),
            files,
            slot: ArcSwapOption::empty(),
            used: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            lost_from: AtomicU64::new(SOUND),
            state: Mutex::default(),
            owns_names: Mutex::new(true),
        })
    }

    pub(crate) fn files(&self) -> &Arc<OpenFiles> {
        &self.files
    }

    /// The open files, without opening any.
    pub(crate) fn get(&self) -> Option<Arc<Opened>> {
        Guard::into_inner(self.peek())
    }

    /// As `get`, for a short use: takes no reference count.
    pub(crate) fn peek(&self) -> Guard<Option<Arc<Opened>>> {
        let opened = self.slot.load();
        if opened.is_some() && !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        opened
    }

    /// The open files; opens them if necessary.
    pub(crate) fn get_or_open(
        self: &Arc<Self>,
        open: impl Fn() -> Result<Arc<dyn LogFile>, FileError>,
    ) -> Result<Arc<Opened>, FileError> {
        match self.get() {
            Some(opened) => Ok(opened),
            None => self.open(open, false),
        }
    }

    /// Opens the files and keeps them open: the path is about to name another file, or a shorter one.
    pub(crate) fn pin(
        self: &Arc<Self>,
        open: impl Fn() -> Result<Arc<dyn LogFile>, FileError>,
    ) -> Result<Arc<Opened>, FileError> {
        self.open(open, true)
    }

    fn open(
        self: &Arc<Self>,
        open: impl Fn() -> Result<Arc<dyn LogFile>, FileError>,
        pin: bool,
    ) -> Result<Arc<Opened>, FileError> {
        let mut state = self.state.lock();
        if let Some(opened) = self.get() {
            state.pinned |= pin;
            return Ok(opened);
        }
        let data = match state.last.upgrade() {
            Some(data) => data,
            None => {
                let file = open().or_else(|error| match error.is_exhausted() {
                    // The rest of the process opens files, too.
                    true => {
                        self.files.shrink(self.files.segments.load(Ordering::Relaxed) / 2);
                        open()
                    }
                    false => Err(error),
                })?;
                file.disable_read_ahead();
                Arc::new(DataFile::new(file, Arc::clone(&self.files)))
            }
        };
        state.pinned |= pin;
        state.last = Arc::downgrade(&data);
        self.files.segments.fetch_add(1, Ordering::Relaxed);
        let opened = Arc::new(Opened {
            map: OnceLock::new(),
            data,
            offsets: OnceLock::new(),
            times: OnceLock::new(),
            rebuilt: OnceLock::new(),
        });
        self.used.store(true, Ordering::Relaxed);
        self.slot.store(Some(Arc::clone(&opened)));
        drop(state);
        self.files.added(self);
        Ok(opened)
    }

    /// Sets the file of the segment that this one is a truncated copy of: this file stays open as long as that one.
    pub(crate) fn set_predecessor(&self, before: &Arc<DataFile>) {
        self.state.lock().before = Arc::downgrade(before);
    }

    /// Position from which the data file is lost, or [`SOUND`].
    pub(crate) fn lost_from(&self) -> u64 {
        self.lost_from.load(Ordering::Relaxed)
    }

    /// Marks the data file as lost from `position` on; false if that was known.
    pub(crate) fn set_lost_from(&self, position: u64) -> bool {
        self.lost_from.fetch_min(position, Ordering::Relaxed) > position
    }

    /// Whether the file was written to since its last sync.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Relaxed)
    }

    /// Records that the file was written to, or synced.
    pub(crate) fn set_unsynced(&self, unsynced: bool) {
        if self.unsynced.load(Ordering::Relaxed) != unsynced {
            self.unsynced.store(unsynced, Ordering::Relaxed);
        }
    }

    fn close_unused(&self) -> Option<Arc<Opened>> {
        // A thread that opens or pins the segment right now uses it.
        let state = self.state.try_lock()?;
        if state.pinned || state.before.strong_count() > 0 {
            return None;
        }
        let opened = self.slot.swap(None)?;
        self.files.segments.fetch_sub(1, Ordering::Relaxed);
        Some(opened)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.slot.load().is_some() {
            self.files.segments.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
