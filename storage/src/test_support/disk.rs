//! A disk that fills up, and breaks, on demand.

use std::{
    fmt::Debug,
    io::{self, IoSlice},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    io::{Disk, LogFile, Open, OsDisk},
    mmap::Map,
};

/// What it does wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Bytes that data files may still write.
    pub left: AtomicI64,
    pub reserves: AtomicBool,
    pub broken_sync: AtomicBool,
    pub broken_write: AtomicBool,
    /// A byte that files cannot read.
    pub bad_sector: Mutex<Option<u64>>,
}

#[derive(Debug, Clone)]
pub(crate) struct FaultyDisk(pub Arc<Faults>);

#[derive(Debug)]
struct FaultyFile(Arc<dyn LogFile>, Arc<Faults>);

impl LogFile for FaultyFile {
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        if self.1.broken_write.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let left = self.1.left.fetch_sub(bytes.len() as i64, Ordering::Relaxed);
        if left < bytes.len() as i64 {
            self.1.left.store(left, Ordering::Relaxed);
            // A torn write: some of it is in the file.
            self.0.write_at(&mut [IoSlice::new(&bytes[..left.max(0) as usize])], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_at(parts, offset)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.1.bad_sector.lock().is_some_and(|bad| (offset..offset + buf.len() as u64).contains(&bad)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.0.read_at(buf, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.1.reserves.load(Ordering::Relaxed) && len as i64 > self.1.left.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.reserve(offset, len)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.1.broken_sync.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.0.sync_data()
    }
    fn map(&self, len: usize) -> io::Result<Map> {
        self.0.map(len)
    }
    fn is_resident(&self, offset: u64, len: u64) -> bool {
        self.0.is_resident(offset, len)
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(FaultyFile(OsDisk.open(path, how)?, Arc::clone(&self.0))))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        OsDisk.read(path)
    }
    fn replace(&self, path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
        if self.0.left.load(Ordering::Relaxed) <= 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        OsDisk.replace(path, content, sync)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
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
