//! `metadata.snapshot`: the records that make the image, and the log position that they stand for.
//!
//! It is written and read in chunks, so that no snapshot has to fit into memory. A new one takes the place of the old one in a
//! single step once all of it is durable: until then the last good one stays. Everything here blocks for the disk.

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

use super::{
    encode::{Fault, put_meta, read_meta},
    error::MetadataError,
    frames::{FILE_HEADER, FRAME_HEADER, check_header, file_header, frame_header, is_sound, read_frame_header},
    types::SnapshotMeta,
};
use crate::{
    error::FileError,
    io::{Context, Disk, LogFile, Open},
};

pub(super) const NAME: &str = "metadata.snapshot";
/// Snapshots that are being written or received begin with this.
const UNFINISHED: &str = "metadata.snapshot.";
const MAGIC: [u8; 8] = *b"esker-ms";

/// Kinds of chunks: the first byte of a frame.
const META: u8 = 1;
const RECORDS: u8 = 2;
const END: u8 = 3;

/// Longest content of a chunk. A length past it is damage.
const MAX_CHUNK: usize = 256 << 20;

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
        let path = dir.join(NAME);
        let snapshot = match disk.open(&path, Open::Existing) {
            Ok(file) => Some(SnapshotFile::open(file, &path, None)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            error => error.context("open", &path).map(|_| None)?,
        };
        let (closed, received) = (Mutex::new(false), AtomicU64::new(0));
        Ok(Self { disk, dir: dir.to_path_buf(), closed, current: Mutex::new(snapshot), received })
    }

    /// The newest whole snapshot. Does not wait for the disk.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.current.lock().clone()
    }

    /// Writes a snapshot of `chunks`, each of whole records, and returns it once it is durable. If there is one by now that stands
    /// for at least as much, that one is returned.
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
        let file = self.disk.open(&fresh, Open::Empty).context("create", &fresh).map_err(plain)?;
        write_chunks(file.as_ref(), &fresh, meta, chunks)?;
        file.sync_data().context("sync", &fresh).map_err(plain)?;
        self.disk.rename(&fresh, &path).context("rename to", &path).map_err(plain)?;
        self.disk.sync_dir(&self.dir).context("sync", &self.dir).map_err(plain)?;
        let snapshot = SnapshotFile::open(file, &path, None)?;
        *self.current.lock() = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Makes a snapshot from elsewhere the current one. Its checksums are verified on the way.
    pub fn install(&self, snapshot: &SnapshotFile) -> io::Result<SnapshotFile> {
        self.write(&snapshot.meta, snapshot.chunks().map(|chunk| chunk.map_err(io::Error::from)))
    }

    /// Begins to receive a snapshot from another node.
    pub fn receive(&self) -> io::Result<SnapshotReceiver> {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{UNFINISHED}received-{number}"));
        let file = self.disk.open(&path, Open::Empty).context("create", &path).map_err(plain)?;
        Ok(SnapshotReceiver { file, end: 0, received: Received { disk: Arc::clone(&self.disk), path } })
    }

    /// Refuses further snapshots, and waits for one that is being written.
    pub fn close(&self) {
        *self.closed.lock() = true;
    }
}

fn plain(error: FileError) -> io::Error {
    MetadataError::File(error).into()
}

/// Writes frames one behind the other.
struct ChunkWriter<'a> {
    file: &'a dyn LogFile,
    path: &'a Path,
    end: u64,
}

impl ChunkWriter<'_> {
    fn write_parts(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        self.file.write_at(&mut slices, self.end).context("write to", self.path).map_err(plain)?;
        self.end += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }

    fn write_frame(&mut self, content: &[u8]) -> io::Result<()> {
        let header = frame_header(self.end, content).ok().filter(|_| content.len() <= MAX_CHUNK);
        self.write_parts(&[&header.ok_or_else(too_long)?, content])
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a chunk of the metadata snapshot is too long")
}

/// The sums over the chunks of records, which the last chunk holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    bytes: u64,
    chunks: u32,
    crc: u32,
}

impl Total {
    fn add_chunk(&mut self, records: &[u8]) {
        self.bytes += records.len() as u64;
        self.chunks = self.chunks.saturating_add(1);
        self.crc = crc32c::crc32c_append(self.crc, records);
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![END];
        out.extend(self.bytes.to_be_bytes());
        out.extend(self.chunks.to_be_bytes());
        out.extend(self.crc.to_be_bytes());
        out
    }
}

fn write_chunks(
    file: &dyn LogFile,
    path: &Path,
    meta: &SnapshotMeta,
    chunks: impl IntoIterator<Item = io::Result<Bytes>>,
) -> io::Result<()> {
    let mut writer = ChunkWriter { file, path, end: 0 };
    writer.write_parts(&[&file_header(MAGIC)])?;
    let mut content = vec![META];
    put_meta(meta, &mut content).map_err(|_| too_long())?;
    writer.write_frame(&content)?;
    let mut total = Total::default();
    for chunk in chunks {
        let chunk = chunk?;
        content.clear();
        content.push(RECORDS);
        content.extend_from_slice(&chunk);
        writer.write_frame(&content)?;
        total.add_chunk(&chunk);
    }
    writer.write_frame(&total.encode())
}

impl SnapshotFile {
    fn open(file: Arc<dyn LogFile>, path: &Path, received: Option<Received>) -> Result<Self, MetadataError> {
        let len = file.size().context("read the size of", path)?;
        let mut header = [0; FILE_HEADER];
        let read = file.read_at(&mut header, 0).context("read", path)?;
        check_header(MAGIC, header.get(..read).unwrap_or_default(), path)?;
        let mut chunks =
            Chunks { file: file.as_ref(), path, len, position: FILE_HEADER as u64, total: Total::default() };
        let content = chunks.next_frame()?;
        let meta = match content.split_first() {
            Some((&META, meta)) => read_meta(meta).map_err(|fault| match fault {
                Fault::Unknown(what) => MetadataError::newer(path, what),
                Fault::Malformed(what) => MetadataError::damaged(path, what),
            })?,
            _ => return Err(MetadataError::damaged(path, "its first chunk is not its log position")),
        };
        let records = chunks.position;
        let received = received.map(Arc::new);
        Ok(Self { file, path: path.into(), meta: Arc::new(meta), records, len, _received: received })
    }

    /// The log position that it stands for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The chunks of records. Each is verified before it is returned, and the total before the end: an error is the last item.
    pub fn chunks(&self) -> impl Iterator<Item = Result<Bytes, MetadataError>> {
        let (file, path) = (self.file.as_ref(), self.path.as_ref());
        let mut chunks = Chunks { file, path, len: self.len, position: self.records, total: Total::default() };
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

/// Reads the frames of a snapshot in order.
struct Chunks<'a> {
    file: &'a dyn LogFile,
    path: &'a Path,
    len: u64,
    position: u64,
    total: Total,
}

impl Chunks<'_> {
    fn damaged(&self, what: &str) -> MetadataError {
        MetadataError::damaged(self.path, format!("{what} at byte {}", self.position))
    }

    fn next_frame(&mut self) -> Result<Vec<u8>, MetadataError> {
        let mut header = [0; FRAME_HEADER];
        let read = self.file.read_at(&mut header, self.position).context("read", self.path)?;
        let start = self.position + FRAME_HEADER as u64;
        let (length, crc) = match read_frame_header(&header).filter(|_| read == FRAME_HEADER) {
            // No more is allocated than the file has.
            Some((length, crc)) if length <= MAX_CHUNK && start + length as u64 <= self.len => (length, crc),
            _ => return Err(self.damaged("a chunk is missing or cut off")),
        };
        let mut content = vec![0; length];
        let read = self.file.read_at(&mut content, start).context("read", self.path)?;
        if read != length || !is_sound(self.position, &content, crc) {
            return Err(self.damaged("a chunk's checksum does not match"));
        }
        self.position = start + length as u64;
        Ok(content)
    }

    fn next_records(&mut self) -> Result<Option<Bytes>, MetadataError> {
        let position = self.position;
        let content = self.next_frame()?;
        match content.first() {
            Some(&RECORDS) => {
                let records = Bytes::from(content).slice(1..);
                self.total.add_chunk(&records);
                Ok(Some(records))
            }
            Some(&END) if content == self.total.encode() && self.position == self.len => Ok(None),
            Some(&END) => Err(self.damaged("the total does not match what is before it, or is not the end")),
            kind => {
                let kind = kind.copied().unwrap_or_default();
                let what = format!("chunks of kind {kind} (at byte {position}) are unknown to this version");
                Err(MetadataError::newer(self.path, what))
            }
        }
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
        self.file.write_at(&mut [IoSlice::new(bytes)], self.end).context("write to", path).map_err(plain)?;
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
