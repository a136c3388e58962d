//! A disk for tests: the real one with a hook before each operation. The hook may wait, refuse the operation or replace it.
//!
//! Not for brokers. It is not among the tests, so that the broker's tests can use it, too.

use std::{
    fmt::Debug,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    io::{Disk, LogFile, Open, OsDisk},
    mmap::Map,
};

/// The operation that is about to run. Operations that change nothing and cannot fail in an interesting way have no hook.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Doing<'a> {
    Open(&'a Path, Open),
    Replace(&'a Path),
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    RemoveFile(&'a Path),
    SyncDir(&'a Path),
    Read {
        path: &'a Path,
        offset: u64,
        len: u64,
    },
    Reserve {
        path: &'a Path,
        len: u64,
    },
    /// `fdatasync`.
    SyncData(&'a Path),
}

/// The hooks of a [`HookedDisk`].
pub trait Hooks: Debug + Send + Sync {
    /// Returns when the operation may run; an error is returned in its place.
    fn before(&self, doing: Doing<'_>) -> io::Result<()>;

    /// Writes to a file.
    fn write(&self, file: &dyn LogFile, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        file.write_at(parts, offset)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct HookedDisk(pub Arc<dyn Hooks>);

#[derive(Debug)]
struct HookedFile {
    file: Arc<dyn LogFile>,
    path: PathBuf,
    hooks: Arc<dyn Hooks>,
}

impl LogFile for HookedFile {
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.hooks.write(self.file.as_ref(), parts, offset)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.hooks.before(Doing::Read { path: &self.path, offset, len: buf.len() as u64 })?;
        self.file.read_at(buf, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn modified_ms(&self) -> io::Result<i64> {
        self.file.modified_ms()
    }
    fn set_modified_ms(&self, ms: i64) {
        self.file.set_modified_ms(ms);
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.hooks.before(Doing::Reserve { path: &self.path, len })?;
        self.file.reserve(offset, len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.hooks.before(Doing::SyncData(&self.path))?;
        self.file.sync_data()
    }
    fn map(&self, len: usize) -> io::Result<Map> {
        self.file.map(len)
    }
    fn is_read(&self, offset: u64) -> bool {
        self.file.is_read(offset)
    }
    fn is_in_memory(&self, offset: u64, len: u64) -> bool {
        self.file.is_in_memory(offset, len)
    }
    fn disable_read_ahead(&self) {
        self.file.disable_read_ahead();
    }
    fn read_ahead(&self, offset: u64, len: u64) {
        self.file.read_ahead(offset, len);
    }
    fn drop_pages(&self, offset: u64, len: u64) {
        self.file.drop_pages(offset, len);
    }
}

impl Disk for HookedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn LogFile>> {
        self.0.before(Doing::Open(path, how))?;
        let file = OsDisk.open(path, how)?;
        Ok(Arc::new(HookedFile { file, path: path.to_owned(), hooks: Arc::clone(&self.0) }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        OsDisk.read(path)
    }
    fn replace(&self, path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
        self.0.before(Doing::Replace(path))?;
        OsDisk.replace(path, content, sync)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.before(Doing::Rename { from, to })?;
        OsDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.before(Doing::RemoveFile(path))?;
        OsDisk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_dir_all(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<(String, Option<u64>)>> {
        OsDisk.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.before(Doing::SyncDir(path))?;
        OsDisk.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        OsDisk.sync_all(path)
    }
    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        OsDisk.space(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Debug + Send + Sync>>> {
        OsDisk.lock(path)
    }
}
