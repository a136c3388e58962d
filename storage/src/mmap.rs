//! Read-only maps of files: the only `unsafe` of this crate.
//!
//! A map may be longer than its file (the active segment is mapped to its full possible size). Readers must never touch it at or
//! past the published end of the file, and this crate must never shrink a file below what is published in one of its maps.
//! Published bytes never change. If another process cuts a file nevertheless, or the disk cannot read a page, [`guard`] keeps the
//! process alive: such a map has a mark ([`Map::damaged_from`]), which readers check after the touch.
#![allow(unsafe_code)]

mod guard;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use guard::{Mark, Registration};
pub use guard::{is_any_damaged, unguarded_maps};
use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use parking_lot::RwLock;

/// A read-only map of the first `len` bytes of a file, which may still be shorter.
#[derive(Debug)]
pub struct Map(Option<Mapped>);

/// The registration goes before the map: fields drop in order.
#[derive(Debug)]
struct Mapped {
    guard: Registration,
    map: Mmap,
    /// The counter of maps that includes this one.
    counter: Option<Arc<AtomicUsize>>,
}

impl Map {
    /// Maps `len` bytes from the start of `file`. Nothing is read yet.
    pub fn of(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is private to this crate's segments and indexes, which keep the module's two rules: bytes are
        // touched only below the end that the one writer has published with Release (and they never change after
        // that), and a file that has a map is never shrunk below it: truncation goes through a new file, and deletion
        // unlinks, which keeps the pages. Other brokers are kept out by the lock file of the log dir; what any other process does to
        // the file shows as damage of the map.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        Ok(Self(Some(Mapped { guard: Registration::new(map.as_ptr().addr(), len), map, counter: None })))
    }

    fn map(&self) -> Option<&Mmap> {
        self.0.as_ref().map(|mapped| &mapped.map)
    }

    /// Offset from which the map no longer shows the file, because the file was cut there or cannot be read; `None` for a sound
    /// map. Valid for pages touched before the call. Costs one relaxed load.
    pub fn damaged_from(&self) -> Option<usize> {
        self.0.as_ref()?.guard.mark().damaged_from()
    }
}

/// Maps of open files by their first address, so that a connection can send a slice from its file (`sendfile`). Global, since
/// addresses are.
static MAPPED: RwLock<BTreeMap<usize, FileMap>> = RwLock::new(BTreeMap::new());

#[derive(Debug)]
struct FileMap {
    len: usize,
    file: Weak<File>,
    mark: Mark,
}

/// Calls `look` with the map that contains `slice`, and the offset of the slice in it; `None` for other memory.
fn with_map_of<R>(slice: &[u8], look: impl FnOnce(&FileMap, usize) -> R) -> Option<R> {
    let at = slice.as_ptr().addr();
    let mapped = MAPPED.read();
    let (start, map) = mapped.range(..=at).next_back()?;
    let offset = at.checked_sub(*start)?;
    (offset.checked_add(slice.len())? <= map.len).then(|| look(map, offset))
}

/// The file that `slice` is mapped from, and the offset of the slice in it; `None` for other memory, or when the file has been
/// closed since.
pub fn file_of(slice: &[u8]) -> Option<(Arc<File>, u64)> {
    let (file, offset) = with_map_of(slice, |map, offset| (map.file.upgrade(), offset as u64))?;
    Some((file?, offset))
}

/// Whether `slice` includes a damaged part of a map: it must not be sent then. Costs one relaxed load as long as no map is damaged.
pub fn is_damaged(slice: &[u8]) -> bool {
    let reaches = |map: &FileMap, offset: usize| {
        map.mark.damaged_from().is_some_and(|from| offset.saturating_add(slice.len()) > from)
    };
    is_any_damaged() && with_map_of(slice, reaches).unwrap_or_default()
}

/// As [`is_damaged`], after a touch of each page of the slice: for a slice that the kernel could not send. May wait for the disk.
pub fn verify_slice(slice: &[u8]) -> bool {
    let page = rustix::param::page_size();
    slice.iter().step_by(page).chain(slice.last()).for_each(|byte| {
        std::hint::black_box(*byte);
    });
    is_damaged(slice)
}

impl Map {
    /// As `of`, for a file that stays open: [`file_of`] finds it by any slice of the map.
    pub fn of_open(file: &Arc<File>, len: usize) -> io::Result<Self> {
        let map = Self::of(file, len)?;
        if let Some(Mapped { guard, map, .. }) = &map.0 {
            let entry = FileMap { len: map.len(), file: Arc::downgrade(file), mark: guard.mark() };
            MAPPED.write().insert(map.as_ptr().addr(), entry);
        }
        Ok(map)
    }

    /// Counts the map in `counter` for its lifetime. Once for each map.
    pub(crate) fn count_in(&mut self, counter: &Arc<AtomicUsize>) {
        if let Some(mapped) = self.0.as_mut().filter(|mapped| mapped.counter.is_none()) {
            counter.fetch_add(1, Ordering::Relaxed);
            mapped.counter = Some(Arc::clone(counter));
        }
    }

    /// Removes all pages from this process's resident memory (madvise DONTNEED). They stay in the page cache: the next touch is a
    /// minor fault, or a disk read if the kernel has evicted them meanwhile.
    pub fn release(&self) {
        self.release_range(0, u64::MAX);
    }

    /// As `release`, from `offset` on; both bounds in whole pages.
    pub(crate) fn release_range(&self, offset: u64, len: u64) {
        let Some(map) = self.map() else { return };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(map.len());
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(map.len() - offset);
        // SAFETY: the map is shared, read-only and of a file, so dropping its pages loses nothing: every later read finds
        // the same published bytes in the file. The range lies in the map.
        let released = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
        // A hint: without it the kernel reclaims the pages when it needs memory.
        let _ = released;
    }

    /// Whether all of its pages are in the page cache. For maps that are as long as their files. True if the kernel does not report
    /// it.
    pub(crate) fn is_resident(&self) -> bool {
        self.is_range_resident(0, u64::MAX)
    }

    /// As `is_resident`, for `len` published bytes from `offset` on (`mincore`). The call has no side effect: a read with
    /// `RWF_NOWAIT` would start the read of a missing page, and the next check of the same page would find it.
    pub(crate) fn is_range_resident(&self, offset: u64, len: u64) -> bool {
        let Some(map) = self.map() else { return true };
        let page = rustix::param::page_size();
        let mut pages = [0u8; 512];
        let mut at = usize::try_from(offset).unwrap_or(usize::MAX).min(map.len()) / page * page;
        let end = usize::try_from(offset.saturating_add(len)).unwrap_or(usize::MAX).min(map.len());
        while at < end {
            let len = (end - at).min(pages.len() * page);
            let found = pages.get_mut(..len.div_ceil(page)).unwrap_or_default();
            // SAFETY: the range begins at a page's start and lies in the map, which lives as long as `self`; the vector has a byte
            // for each of its pages. The call reads and changes none of them.
            let told =
                unsafe { libc::mincore(map.as_ptr().wrapping_add(at).cast_mut().cast(), len, found.as_mut_ptr()) };
            if told != 0 {
                return true;
            }
            if found.iter().any(|page| page & 1 == 0) {
                return false;
            }
            at += len;
        }
        true
    }

    /// Disables read-ahead at page faults (`MADV_RANDOM`): a fault reads that page only, since callers load the following pages
    /// before. Otherwise the kernel would read as much as its read-ahead allows (8 MiB on some disks) around each fault.
    pub(crate) fn disable_read_ahead(&self) {
        if let Some(map) = self.map() {
            let _ = map.advise(Advice::Random);
        }
    }

    /// Loads all its pages into memory. Blocks on the disk. For maps that are as long as their files.
    pub(crate) fn populate(&self) {
        if let Some(map) = self.map() {
            // If the kernel does not support it, or a page cannot be read, the later touch handles it.
            let _ = map.advise(Advice::PopulateRead);
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let Some(Mapped { map, counter, .. }) = &self.0 else { return };
        // Before it is unmapped: the address may be another map's a moment later.
        MAPPED.write().remove(&map.as_ptr().addr());
        if let Some(counter) = counter {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self.map().map(|map| &**map).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_slice_of_a_map_leads_to_its_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        let file = Arc::new(file);
        let map = Map::of_open(&file, 20_000).unwrap();
        let slice = &map.as_ref()[100..300];
        let (found, offset) = file_of(slice).unwrap();
        assert!(Arc::ptr_eq(&found, &file));
        assert_eq!(offset, 100);
        drop(found);
        assert!(file_of(&[0; 10]).is_none(), "memory of its own is no file's");
        drop(file);
        assert!(file_of(slice).is_none(), "a closed file is not sent from");
    }

    #[test]
    fn a_cut_file_damages_its_map_and_no_other() {
        let page = rustix::param::page_size();
        let make = || {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![7; 8 * page]).unwrap();
            let map = Map::of(&file, 16 * page).unwrap();
            (file, map)
        };
        let maps: Vec<_> = (0..3).map(|_| make()).collect();
        assert!(maps.iter().all(|(_, map)| map.as_ref()[..8 * page].iter().all(|byte| *byte == 7)));
        maps[1].0.set_len(page as u64 * 3).unwrap();
        assert_eq!(maps[1].1.damaged_from(), None, "no page was touched yet");
        assert_eq!(maps[1].1.as_ref()[5 * page + 17], 0);
        assert_eq!(maps[1].1.damaged_from(), Some(5 * page));
        assert_eq!(maps[1].1.as_ref()[4 * page - 1], 0);
        assert_eq!(maps[1].1.damaged_from(), Some(3 * page), "an earlier page counts");
        assert!(maps[1].1.as_ref()[..3 * page].iter().all(|byte| *byte == 7), "what is there is served");
        assert!(is_any_damaged());
        for other in [0, 2] {
            assert_eq!(maps[other].1.damaged_from(), None);
            assert!(maps[other].1.as_ref()[..8 * page].iter().all(|byte| *byte == 7));
        }
        // The place of a damaged map is given to a sound one.
        drop(maps);
        let (_file, map) = make();
        assert_eq!((map.damaged_from(), map.as_ref()[0]), (None, 7));
    }

    #[test]
    fn many_threads_meet_the_damage_at_once() {
        let page = rustix::param::page_size();
        for _ in 0..50 {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![7; 64 * page]).unwrap();
            let map = Map::of(&file, 64 * page).unwrap();
            file.set_len(0).unwrap();
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let (map, start) = (&map, &start);
                    scope.spawn(move || {
                        start.wait();
                        for at in (thread..64).rev().chain(0..64) {
                            let byte = map.as_ref()[at * page];
                            // Never a zero without the mark.
                            assert!(byte == 7 || map.damaged_from().is_some_and(|from| from <= at * page));
                            // A map made and dropped meanwhile takes and frees places in the table.
                            drop(Map::of(&tempfile::tempfile().unwrap(), page));
                        }
                    });
                }
            });
            assert_eq!(map.damaged_from(), Some(0));
        }
    }

    /// Runs the other test of this name in a process of its own, which a bus error in a map that is not registered must end.
    #[test]
    fn a_bus_error_elsewhere_ends_the_process() {
        use std::os::unix::process::ExitStatusExt;
        let test = "mmap::tests::a_bus_error_elsewhere_ends_the_process";
        if std::env::var_os("ESKER_TEST_BUS_ERROR").is_some() {
            let file = tempfile::tempfile().unwrap();
            file.set_len(10).unwrap();
            let ours = Map::of(&file, 10).unwrap();
            assert_eq!(ours.as_ref()[0], 0);
            // SAFETY: a private map of a private file; that the touch fails is the point.
            let unregistered = unsafe { MmapOptions::new().len(1 << 20).map(&file).unwrap() };
            std::hint::black_box(unregistered[1 << 19]);
            return;
        }
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env("ESKER_TEST_BUS_ERROR", "1")
            .output()
            .unwrap();
        assert_eq!(run.status.signal(), Some(libc::SIGBUS), "{run:?}");
    }
}
