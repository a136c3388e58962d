use std::{
    fmt::Debug,
    io::{self, IoSlice},
    sync::atomic::{AtomicBool, AtomicI64},
};

use super::*;
use crate::{
    io::{LogFile, Open},
    mmap::Map,
};

/// A disk that fills up, and breaks, on demand.
#[derive(Debug, Default)]
struct Faults {
    /// Bytes that data files may still write.
    left: AtomicI64,
    reserves: AtomicBool,
    broken_sync: AtomicBool,
    broken_write: AtomicBool,
}

#[derive(Debug, Clone)]
struct FaultyDisk(Arc<Faults>);

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

fn try_append(log: &Log, value: &[u8]) -> Result<Appended, AppendError> {
    append_bytes(log, batch(esker_protocol::compression::Compression::None, &[(NOW, value)]), CLIENT, 0)
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    for reserves in [true, false] {
        let faults = Arc::new(Faults::default());
        faults.left.store(3000, Ordering::Relaxed);
        faults.reserves.store(reserves, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let log = Opening::new(small()).open_on(Arc::new(FaultyDisk(Arc::clone(&faults))), dir.path());
        let mut written = 0i64;
        for round in 0..5 {
            let mut refused = 0;
            while refused < 3 {
                match try_append(&log, &[written as u8; 100]) {
                    Ok(done) => {
                        assert_eq!(done.base_offset, written);
                        written += 1;
                    }
                    Err(AppendError::DiskFull(_)) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
                assert_eq!(log.log_end_offset(), written);
            }
            assert_eq!(read_all(&log, 0, 500).len() as i64, written);
            assert!(!log.is_offline());
            // What is on the disk at this moment opens as what was acknowledged.
            let image = tempfile::tempdir().unwrap();
            copy(dir.path(), image.path());
            assert_eq!(Opening::new(small()).open(image.path()).log_end_offset(), written, "round {round}");
            faults.left.store(1777, Ordering::Relaxed);
        }
        assert!(written > 30);
    }
}

#[test]
fn a_broken_disk_takes_the_dir_offline() {
    for sync in [true, false] {
        let faults = Arc::new(Faults::default());
        faults.left.store(i64::MAX, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let log = Opening::new(small()).open_on(Arc::new(FaultyDisk(Arc::clone(&faults))), dir.path());
        try_append(&log, b"one").unwrap();
        log.flush().unwrap();
        try_append(&log, b"two").unwrap();
        if sync {
            faults.broken_sync.store(true, Ordering::Relaxed);
            assert!(matches!(log.flush(), Err(LogError::File(_))));
            faults.broken_sync.store(false, Ordering::Relaxed);
        } else {
            faults.broken_write.store(true, Ordering::Relaxed);
            assert!(matches!(try_append(&log, b"three"), Err(AppendError::File(_))));
            faults.broken_write.store(false, Ordering::Relaxed);
        }
        assert!(matches!(log.flush(), Err(LogError::Offline { .. })), "for good");
        assert!(matches!(try_append(&log, b"three"), Err(AppendError::Offline { .. })));
        assert_eq!(log.recovery_point(), 1);
        assert_eq!(read_all(&log, 0, 500).len(), 2, "what is there is still served");
    }
}
