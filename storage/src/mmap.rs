//! Read-only maps of files: the only `unsafe` of this crate.
//!
//! A map may be longer than its file (the active segment is mapped to its full possible size). Whoever holds one must
//! never touch it at or past the published end of the file, and a file must never shrink below what is published in one
//! of its maps: both would be SIGBUS. Published bytes never change.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use parking_lot::RwLock;

/// A read-only map of the first `len` bytes of a file, which may not be there yet.
#[derive(Debug)]
pub struct Map(Option<Mmap>);

impl Map {
    /// Maps `len` bytes from the start of `file`. Nothing is read yet.
    pub fn of(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is private to this crate's segments and indexes, which keep the module's two rules: bytes are
        // touched only below the end that the one writer has published with Release (and they never change after
        // that), and a file that has a map is never shrunk below it: truncation goes through a new file, and deletion
        // unlinks, which keeps the pages. Other processes are kept out by the lock file of the log dir.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        MAPS.fetch_add(1, Ordering::Relaxed);
        Ok(Self(Some(map)))
    }
}

/// Maps that there are.
static MAPS: AtomicUsize = AtomicUsize::new(0);

/// How many maps of files this process has made and not dropped yet.
pub fn open_maps() -> usize {
    MAPS.load(Ordering::Relaxed)
}

/// Maps of open files by their first address: so that a slice of one can be sent from its file (`sendfile`) by whoever
/// knows nothing but the slice.
static MAPPED: RwLock<BTreeMap<usize, (usize, Weak<File>)>> = RwLock::new(BTreeMap::new());

/// The file that `slice` is mapped from, and where in it the slice begins; `None` for other memory, or when the file has
/// been closed since.
pub fn file_of(slice: &[u8]) -> Option<(Arc<File>, u64)> {
    let at = slice.as_ptr().addr();
    let mapped = MAPPED.read();
    let (start, (len, file)) = mapped.range(..=at).next_back()?;
    let offset = at.checked_sub(*start)?;
    if offset.checked_add(slice.len())? > *len {
        return None;
    }
    Some((file.upgrade()?, offset as u64))
}

impl Map {
    /// As `of`, for a file that stays open: [`file_of`] finds it by any slice of the map.
    pub fn of_open(file: &Arc<File>, len: usize) -> io::Result<Self> {
        let map = Self::of(file, len)?;
        if let Some(mapped) = &map.0 {
            MAPPED.write().insert(mapped.as_ptr().addr(), (mapped.len(), Arc::downgrade(file)));
        }
        Ok(map)
    }

    /// Takes all pages out of this process's resident memory. They stay in the page cache: the next touch brings them back
    /// without the disk, or with it if the kernel has dropped them meanwhile.
    pub fn release(&self) {
        self.release_range(0, u64::MAX);
    }

    /// As `release`, from `offset` on; both bounds in whole pages.
    pub(crate) fn release_range(&self, offset: u64, len: u64) {
        let Some(map) = &self.0 else { return };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(map.len());
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(map.len() - offset);
        // SAFETY: the map is shared, read-only and of a file, so dropping its pages loses nothing: every later read finds
        // the same published bytes in the file. The range lies in the map.
        let released = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
        // A hint: without it the kernel takes the pages when it needs them.
        let _ = released;
    }

    /// Whether a touch of any of its pages would find it in the page cache. For maps that are as long as their files. True
    /// where the kernel does not tell.
    pub(crate) fn is_resident(&self) -> bool {
        self.holds(0, u64::MAX)
    }

    /// As `is_resident`, for `len` bytes from `offset` on, which are published. Asking changes nothing: a read that must not wait
    /// (`RWF_NOWAIT`) would begin to read the page that it does not find, and the next who asks at the same place would find it.
    pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
        let Some(map) = &self.0 else { return true };
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

    /// A touch of a page that is not in memory reads that page and no more: whoever touches it has brought what follows in already. Else
    /// the kernel would read as much as its read-ahead allows (8 MiB on some disks) around each.
    pub(crate) fn read_as_told(&self) {
        if let Some(map) = &self.0 {
            let _ = map.advise(Advice::Random);
        }
    }

    /// Brings all its pages into memory. Blocks for the disk. For maps that are as long as their files.
    pub(crate) fn populate(&self) {
        if let Some(map) = &self.0 {
            // Where the kernel does not know it, or a page cannot be read, the touch will tell.
            let _ = map.advise(Advice::PopulateRead);
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if let Some(map) = &self.0 {
            // Before it is unmapped: the address may be another map's a moment later.
            MAPPED.write().remove(&map.as_ptr().addr());
            MAPS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
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
}
