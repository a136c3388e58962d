//! `metadata.snapshot`: the records that make the image, and the log position that they stand for.
//!
//! It is written and read in chunks, so that no snapshot has to fit into memory. A new snapshot replaces the old one atomically
//! once all of it is durable: until then the last good one stays. All functions block on the disk.

mod chunks;

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{error::MetadataError, types::SnapshotMeta};
use crate::io::{Context, Disk, LogFile, Open};

use chunks::{Chunks, read_position, to_io, write_chunks};

pub(super) const NAME: &str = "metadata.snapshot";
/// Snapshots that are being written or received begin with this.
const UNFINISHED: &str = "metadata.snapshot.";

/// The snapshots of a folder.
#[derive(Debug)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Held while a snapshot is written: one after the other, and none over a newer one. True once none may be written.
    closed: Mutex<bool>,
    /// Held for a moment only: it is read on threads that must not wait for the disk.
    current: Mutex<Option<SnapshotFile>>,
    received: AtomicU64,
}

/// A whole snapshot on disk, open for reading. It stays readable when a newer one takes its place.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    file: Arc<dyn LogFile>,
    path: Arc<Path>,
    meta: Arc<SnapshotMeta>,
    /// Where the chunks of records begin.
    records: u64,
    len: u64,
    /// Removes a received file when the last handle is dropped.
    _received: Option<Arc<Received>>,
}

impl Snapshots {
    /// Opens the folder, which exists, and its snapshot, if there is one. Only its header and position are checked; reading it
    /// checks the rest.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, MetadataError> {
        for (name, _) in disk.list(dir).context("list", dir)? {
            if name.starts_with(UNFINISHED) {
                let path = dir.join(name);
                disk.remove_file(&path).context("remove", &path)?;
            }
        }
        let snapshot = open_current(disk.as_ref(), dir)?;
        let (closed, received) = (Mutex::new(false), AtomicU64::new(0));
        Ok(Self { disk, dir: dir.to_path_buf(), closed, current: Mutex::new(snapshot), received })
    }

    /// The newest whole snapshot. Does not wait for the disk.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.current.lock().clone()
    }

    /// Writes a snapshot of `chunks`, each of whole records, and returns it once it is durable. If a snapshot of at least the same
    /// position exists by now, that one is returned.
    pub fn write(
        &self,
        meta: &SnapshotMeta,
        chunks: impl IntoIterator<Item = io::Result<Bytes>>,
    ) -> io::Result<SnapshotFile> {
        let closed = self.closed.lock();
        if *closed {
            return Err(io::Error::other("the metadata log is closed"));
        }
        if let Some(newer) = self.current().filter(|snapshot| snapshot.meta.last >= meta.last) {
            return Ok(newer);
        }
        let (fresh, path) = (self.dir.join("metadata.snapshot.new"), self.dir.join(NAME));
        let file = self.disk.open(&fresh, Open::Empty).context("create", &fresh).map_err(to_io)?;
        write_chunks(file.as_ref(), &fresh, meta, chunks)?;
        file.sync_data().context("sync", &fresh).map_err(to_io)?;
        self.disk.rename(&fresh, &path).context("rename to", &path).map_err(to_io)?;
        self.disk.sync_dir(&self.dir).context("sync", &self.dir).map_err(to_io)?;
        let snapshot = SnapshotFile::open(file, &path, None)?;
        *self.current.lock() = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Makes a received snapshot the current one. Its checksums are verified during the copy.
    pub fn install(&self, snapshot: &SnapshotFile) -> io::Result<SnapshotFile> {
        self.write(&snapshot.meta, snapshot.chunks().map(|chunk| chunk.map_err(io::Error::from)))
    }

    /// Begins to receive a snapshot from another node.
    pub fn receive(&self) -> io::Result<SnapshotReceiver> {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{UNFINISHED}received-{number}"));
        let file = self.disk.open(&path, Open::Empty).context("create", &path).map_err(to_io)?;
        Ok(SnapshotReceiver { file, end: 0, received: Received { disk: Arc::clone(&self.disk), path } })
    }

    /// Refuses further snapshots, and waits for one that is being written.
    pub fn close(&self) {
        *self.closed.lock() = true;
    }
}

impl SnapshotFile {
    fn open(file: Arc<dyn LogFile>, path: &Path, received: Option<Received>) -> Result<Self, MetadataError> {
        let len = file.size().context("read the size of", path)?;
        let (meta, records) = read_position(file.as_ref(), path, len)?;
        let received = received.map(Arc::new);
        Ok(Self { file, path: path.into(), meta: Arc::new(meta), records, len, _received: received })
    }

    /// The log position of the snapshot.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The chunks of records. Each is verified before it is returned, and the total before the end: an error is the last item.
    pub fn chunks(&self) -> impl Iterator<Item = Result<Bytes, MetadataError>> {
        let mut chunks = Chunks::new(self.file.as_ref(), &self.path, self.len, self.records);
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let next = chunks.next_records();
            ended = !matches!(next, Ok(Some(_)));
            next.transpose()
        })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Reads the file's bytes as they are, to send them. The receiver verifies them.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// Opens the snapshot in `dir`, if there is one. Changes nothing.
pub(super) fn open_current(disk: &dyn Disk, dir: &Path) -> Result<Option<SnapshotFile>, MetadataError> {
    let path = dir.join(NAME);
    match disk.open(&path, Open::Existing) {
        Ok(file) => SnapshotFile::open(file, &path, None).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        error => Ok(error.context("open", &path).map(|_| None)?),
    }
}

/// A received file goes with its last handle.
#[derive(Debug)]
struct Received {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Drop for Received {
    fn drop(&mut self) {
        // A start removes it otherwise.
        let _ = self.disk.remove_file(&self.path);
    }
}

/// A snapshot that arrives from another node, piece by piece.
#[derive(Debug)]
pub struct SnapshotReceiver {
    file: Arc<dyn LogFile>,
    end: u64,
    received: Received,
}

impl SnapshotReceiver {
    /// Adds the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let path = &self.received.path;
        self.file.write_at(&mut [IoSlice::new(bytes)], self.end).context("write to", path).map_err(to_io)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Verifies all of it. It is not durable yet: [`Snapshots::install`] makes it so.
    pub fn finish(self) -> Result<SnapshotFile, MetadataError> {
        let path = self.received.path.clone();
        let snapshot = SnapshotFile::open(self.file, &path, Some(self.received))?;
        for chunk in snapshot.chunks() {
            chunk?;
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests;
