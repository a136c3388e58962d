//! A disk that fills up, and breaks, on demand.

use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    hooked::{Doing, HookedDisk, Hooks},
    io::{Disk, LogFile},
};

/// The faults of the disk.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Bytes that can still be written to data files.
    pub left: AtomicI64,
    pub reserves: AtomicBool,
    pub broken_sync: AtomicBool,
    pub broken_write: AtomicBool,
    /// Folders cannot be opened: the process is out of file handles.
    pub no_handles: AtomicBool,
    /// Position of a byte that cannot be read.
    pub bad_sector: Mutex<Option<u64>>,
}

/// A disk with these faults.
pub(crate) fn faulty(faults: &Arc<Faults>) -> Arc<dyn Disk> {
    let hooks: Arc<dyn Hooks> = Arc::<Faults>::clone(faults);
    Arc::new(HookedDisk(hooks))
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Hooks for Faults {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        match doing {
            Doing::Read { offset, len, .. } => {
                let bad = self.bad_sector.lock().is_some_and(|bad| (offset..offset + len).contains(&bad));
                if bad { Err(broken()) } else { Ok(()) }
            }
            Doing::Reserve { len, .. } if self.reserves.load(Ordering::Relaxed) && len as i64 > left => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Doing::Replace(_) if left <= 0 => Err(io::ErrorKind::StorageFull.into()),
            Doing::SyncDir(_) if self.no_handles.load(Ordering::Relaxed) => Err(io::Error::from_raw_os_error(24)),
            Doing::SyncData(_) if self.broken_sync.load(Ordering::Relaxed) => Err(broken()),
            _ => Ok(()),
        }
    }

    fn write(&self, file: &dyn LogFile, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        if self.broken_write.load(Ordering::Relaxed) {
            return Err(broken());
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let left = self.left.fetch_sub(bytes.len() as i64, Ordering::Relaxed);
        if left < bytes.len() as i64 {
            self.left.store(left, Ordering::Relaxed);
            // A torn write: some of it is in the file.
            file.write_at(&mut [IoSlice::new(&bytes[..left.max(0) as usize])], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_at(parts, offset)
    }
}
