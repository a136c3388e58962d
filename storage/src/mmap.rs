//! Read-only maps of files: the only `unsafe` of this crate.
//!
//! A map may be longer than its file (the active segment is mapped to its full possible size). Whoever holds one must
//! never touch it at or past the published end of the file, and a file must never shrink below what is published in one
//! of its maps: both would be SIGBUS. Published bytes never change.
#![allow(unsafe_code)]

use std::{fs::File, io};

use memmap2::{Mmap, MmapOptions, UncheckedAdvice};

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
        Ok(Self(Some(map)))
    }
}

impl Map {
    /// Takes the pages of the first `len` bytes out of this process's resident memory. They stay in the page cache: the
    /// next touch brings them back without the disk, or with it if the kernel has dropped them meanwhile.
    pub fn release(&self, len: usize) {
        let Some(map) = &self.0 else { return };
        // SAFETY: the map is shared, read-only and of a file, so dropping its pages loses nothing: every later read finds
        // the same published bytes in the file.
        let released = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, len.min(map.len())) };
        // A hint: without it the kernel takes the pages when it needs them.
        let _ = released;
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
