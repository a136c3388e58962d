//! The chunks of a snapshot: written one behind the other, and read the same way.
//!
//! No more than one chunk is in memory, and no length beyond the end of the file is accepted.

use std::{
    io::{self, IoSlice},
    path::Path,
};

use bytes::Bytes;

use crate::{
    io::{Context, LogFile},
    metalog::{
        encode::{Fault, put_meta, read_meta},
        error::MetadataError,
        frames::{FILE_HEADER, FRAME_HEADER, check_header, file_header, frame_header, is_sound, read_frame_header},
        types::SnapshotMeta,
    },
};

/// Kinds of chunks: the first byte of a frame.
pub(super) const MAGIC: [u8; 8] = *b"esker-ms";
pub(super) const META: u8 = 1;
pub(super) const RECORDS: u8 = 2;
pub(super) const END: u8 = 3;

/// Longest content of a chunk. A length past it is damage.
const MAX_CHUNK: usize = 256 << 20;

/// Writes frames one behind the other.
struct ChunkWriter<'a> {
    file: &'a dyn LogFile,
    path: &'a Path,
    end: u64,
}

impl ChunkWriter<'_> {
    fn write_parts(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        self.file.write_at(&mut slices, self.end).context("write to", self.path).map_err(to_io)?;
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

pub(super) fn write_chunks(
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

/// Opens a snapshot: verifies its header and returns its position, and where the chunks of records begin.
pub(super) fn read_position(file: &dyn LogFile, path: &Path, len: u64) -> Result<(SnapshotMeta, u64), MetadataError> {
    let mut header = [0; FILE_HEADER];
    let read = file.read_at(&mut header, 0).context("read", path)?;
    check_header(MAGIC, header.get(..read).unwrap_or_default(), path)?;
    let mut chunks = Chunks::new(file, path, len, FILE_HEADER as u64);
    let content = chunks.next_frame()?;
    match content.split_first() {
        Some((&META, meta)) => {
            let meta = read_meta(meta).map_err(|fault| match fault {
                Fault::Unknown(what) => MetadataError::newer(path, what),
                Fault::Malformed(what) => MetadataError::damaged(path, what),
            })?;
            Ok((meta, chunks.position))
        }
        _ => Err(MetadataError::damaged(path, "its first chunk is not its log position")),
    }
}

/// Reads the frames of a snapshot in order.
pub(super) struct Chunks<'a> {
    file: &'a dyn LogFile,
    path: &'a Path,
    len: u64,
    position: u64,
    total: Total,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(file: &'a dyn LogFile, path: &'a Path, len: u64, position: u64) -> Self {
        Self { file, path, len, position, total: Total::default() }
    }

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

    /// The next chunk of records; `None` at the end, once the total is verified.
    pub(super) fn next_records(&mut self) -> Result<Option<Bytes>, MetadataError> {
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

pub(super) fn to_io(error: crate::error::FileError) -> io::Error {
    MetadataError::File(error).into()
}
