//! The seam to the file system: everything that storage does to files goes through [`Disk`] and [`LogFile`], so that a
//! faulty implementation can stand in for the real one in tests.
//!
//! What must hold for any implementation: a write that returned `Ok` is visible to reads and maps of the same file at once; it
//! survives a power cut only after `sync_data` returned `Ok`, and a file's name only after `sync_dir` of its folder. Unsynced
//! writes may reach the disk in any order and in parts; names in one folder do so in the order of the calls, as file systems with a
//! journal see to. After a failed sync the state of everything written since the last good sync is unknown.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, IoSliceMut, Write},
    num::NonZero,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{Advice, FallocateFlags, FlockOperation},
    io::{Errno, ReadWriteFlags},
};

use crate::{error::FileError, mmap::Map};

/// The kernel truncates a request to read ahead to its own read-ahead size and the largest request of the disk.
const READ_AHEAD_STEP: u64 = 256 << 10;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Must exist.
    Existing,
    /// Is created if missing.
    OrCreate,
    /// Is created, or emptied. Only for files that have no map.
    Empty,
}

/// An open data or index file. Offsets and lengths are bytes.
pub trait LogFile: Send + Sync + Debug {
    /// Writes all of `parts`, one after the other, at `offset`. On an error any part of it may be in the file.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Reads at `offset` until `buf` is full or the file ends; returns the bytes read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Current length.
    fn size(&self) -> io::Result<u64>;
    /// Modification time, wall clock ms.
    fn modified_ms(&self) -> io::Result<i64>;
    /// Sets the modification time. A hint.
    fn set_modified_ms(&self, _ms: i64) {}
    /// Cuts or extends the file; frees reserved space past `len` (which does not change the modification time). Never below what a
    /// map has published.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves disk space without changing the length, so that a full disk shows here. Does nothing where unsupported.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;
    /// `fdatasync`.
    fn sync_data(&self) -> io::Result<()>;
    /// Starts the writeback of the file without waiting for it, so that a `sync_data` soon after has less to wait for. A hint; a
    /// failure shows at that sync.
    fn start_write_out(&self) {}
    /// A read-only map of the first `len` bytes, which may be more than there are.
    fn map(&self, len: usize) -> io::Result<Map>;
    /// Whether a page of the page cache is up to date: its read may still be in flight. (For a missing page the call itself may
    /// start the read.)
    fn is_read(&self, _offset: u64) -> bool {
        true
    }
    /// Whether all pages of this range are in the page cache. Reads none of them, and starts no read.
    fn is_in_memory(&self, _offset: u64, _len: u64) -> bool {
        true
    }
    /// Disables the kernel's read-ahead: callers request it explicitly. Every handle that reads data files must do so. The kernel
    /// marks pages that it read ahead, and a reader that reaches a marked page triggers further read-ahead up to the end of the
    /// file, even with read-ahead disabled on its own handle.
    fn disable_read_ahead(&self) {}
    /// Starts to read this range; does not wait. A hint.
    fn read_ahead(&self, _offset: u64, _len: u64) {}
    /// Drops the pages of this range from the page cache. A hint.
    fn drop_pages(&self, _offset: u64, _len: u64) {}
}

/// A file system.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn LogFile>>;
    /// Reads a small file whole.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Replaces a small file in one step (temporary file, then rename); with `sync` the content and the name are durable
    /// afterwards.
    fn replace(&self, path: &Path, content: &[u8], sync: bool) -> io::Result<()>;
    /// Renames a file or folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; a missing file is no error.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names and sizes of the entries of a folder; `None` for the size of a folder.
    fn list(&self, path: &Path) -> io::Result<Vec<(String, Option<u64>)>>;
    /// Makes names created, renamed or removed in this folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Flushes the whole file system of this folder: data, lengths and names (`syncfs`).
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    /// Total and usable bytes of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<(u64, u64)>;
    /// Takes the lock file `path` until the result is dropped; `None` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Debug + Send + Sync>>>;
}

/// Adds the action and the path to a system error.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, FileError>;
    /// As `context`, for paths that must be built: only an error pays for that.
    fn context_of(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T, FileError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError { action, path: path.to_path_buf(), source })
    }
    fn context_of(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T, FileError> {
        self.map_err(|source| FileError { action, path: path(), source })
    }
}

/// The real file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsDisk;

#[derive(Debug)]
struct OsFile {
    file: Arc<File>,
    /// The file system refused fallocate once; it is not tried again.
    no_reserve: AtomicBool,
}

impl LogFile for OsFile {
    fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match rustix::io::pwritev(&self.file, parts, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset = offset.saturating_add(written as u64);
                    IoSlice::advance_slices(&mut parts, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let since = self.file.metadata()?.modified()?.duration_since(SystemTime::UNIX_EPOCH);
        Ok(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }

    fn set_modified_ms(&self, ms: i64) {
        let since = Duration::from_millis(u64::try_from(ms).unwrap_or_default());
        // Without it the modification time is the current time.
        let _ = self.file.set_modified(SystemTime::UNIX_EPOCH + since);
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.file.metadata()?;
        self.file.set_len(len)?;
        if before.len() == len
            && let Ok(modified) = before.modified()
        {
            let _ = self.file.set_modified(modified);
        }
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.no_reserve.load(Ordering::Relaxed) {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.no_reserve.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_write_out(&self) {
        // rustix has no such call.
        let (fd, all) = (self.file.as_raw_fd(), 0);
        // SAFETY: it takes no pointers, and the descriptor is open for as long as `self.file` is.
        #[allow(unsafe_code)]
        let _ = unsafe { libc::sync_file_range(fd, 0, all, libc::SYNC_FILE_RANGE_WRITE) };
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        Map::of_open(&self.file, len)
    }

    fn is_read(&self, offset: u64) -> bool {
        let mut byte = [0u8; 1];
        let read = rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
        // Another error: not supported here, so the state is unknown.
        read != Err(Errno::AGAIN)
    }

    fn is_in_memory(&self, offset: u64, len: u64) -> bool {
        // A read with RWF_NOWAIT cannot tell: it starts the read of a missing page, and a fast disk finishes that at once.
        let end = usize::try_from(offset.saturating_add(len)).unwrap_or(usize::MAX);
        Map::of(&self.file, end).map_or(true, |map| map.is_range_resident(offset, len))
    }

    fn disable_read_ahead(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Random);
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let mut at = offset;
        while at < end {
            let part = (end - at).min(READ_AHEAD_STEP);
            let _ = rustix::fs::fadvise(&self.file, at, NonZero::new(part), Advice::WillNeed);
            at += part;
        }
    }

    fn drop_pages(&self, offset: u64, len: u64) {
        // For the kernel a length of 0 means up to the end of the file.
        if let Some(len) = NonZero::new(len) {
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), Advice::DontNeed);
        }
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(how != Open::Existing)
            .truncate(how == Open::Empty)
            .open(path)?;
        Ok(Arc::new(OsFile { file: Arc::new(file), no_reserve: AtomicBool::new(false) }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn replace(&self, path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        if sync {
            file.sync_all()?;
        }
        drop(file);
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) if sync => self.sync_dir(parent),
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, Option<u64>)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = match entry.metadata() {
                Ok(kind) => kind,
                // The entry was removed or renamed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            found.push((name, (!kind.is_dir()).then_some(kind.len())));
        }
        Ok(found)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(path)?;
        Ok((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Debug + Send + Sync>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
