//! The bytes of a journal file.
//!
//! A file begins with one page of header; rounds follow, each at a page's start: a round header, then its entries. All numbers are
//! big-endian; `storage/FORMAT.md` has the tables. Every header has a checksum that covers the generation of the file and a sequence
//! number that never repeats, so that what an earlier use of the file left is never taken for something new.
//!
//! Must never: be changed without a new version.

use crate::Uuid;

/// The version that this build writes, and the newest that it reads.
pub(super) const VERSION: u16 = 1;
/// Rounds begin at multiples of this.
pub(super) const PAGE: u64 = 4096;
/// Bytes of a file's header, of the page that it has to itself.
pub(super) const FILE_HEADER: usize = 54;
/// Bytes of a round's header.
pub(super) const ROUND_HEADER: usize = 44;
/// Bytes of an entry's header.
pub(super) const ENTRY_HEADER: usize = 90;

const FILE_MAGIC: [u8; 8] = *b"esker-jn";
const ROUND_MAGIC: [u8; 4] = *b"EsJr";
const ENTRY_MAGIC: [u8; 4] = *b"EsJe";

/// What a file's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// The log dir that it belongs to.
    pub directory_id: Uuid,
    /// Rises with each use of a file of the journal.
    pub generation: u64,
    /// Files of an older generation hold nothing that is needed.
    pub floor: u64,
    /// Sequence number of the first entry.
    pub sequence: u64,
}

/// Why a file's header says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Zeros: prepared, and not used yet.
    Unused,
    /// Torn or damaged.
    Damaged,
    /// Of a version that this build does not know.
    Newer(u16),
}

/// What a round's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundHeader {
    pub generation: u64,
    /// Sequence number of its first entry.
    pub sequence: u64,
    pub entries: u32,
    /// Bytes of the round with this header, without the padding.
    pub bytes: u64,
}

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Batches of a segment, whose bytes follow the entry's header.
    Data,
    /// Everything of the log from `first_offset` on is void: it was truncated, deleted or moved away.
    Void,
    /// Everything of the log below `first_offset` is in its segments and on disk: compaction may write it anew.
    Synced,
}

/// An entry without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub kind: Kind,
    pub topic_id: Uuid,
    pub partition: i32,
    /// Base offset of the segment that the bytes belong to.
    pub segment: i64,
    /// Where in that segment's file.
    pub position: u64,
    /// Leader epoch of the log's latest batch.
    pub leader_epoch: i32,
    /// Offset of the first record.
    pub first_offset: i64,
    /// Offset after the last one.
    pub next_offset: i64,
    pub bytes: u32,
    /// CRC-32C of the bytes.
    pub crc: u32,
}

/// The smallest multiple of a page that is not below.
pub(super) fn align(position: u64) -> u64 {
    position.div_ceil(PAGE).saturating_mul(PAGE)
}

/// Reads fixed fields one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }
}

/// The fields of a header of `length` bytes whose last four are the CRC-32C of the others; `None` if it does not match.
fn checked(bytes: &[u8], length: usize) -> Option<Fields<'_>> {
    let (fields, crc) = bytes.get(..length)?.split_last_chunk::<4>()?;
    (crc32c::crc32c(fields) == u32::from_be_bytes(*crc)).then_some(Fields(fields))
}

fn seal(bytes: &mut Vec<u8>, from: usize) {
    let crc = crc32c::crc32c(bytes.get(from..).unwrap_or_default());
    bytes.extend(crc.to_be_bytes());
}

impl FileHeader {
    /// The file's first page.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAGE as usize);
        bytes.extend(FILE_MAGIC);
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.directory_id.0);
        for field in [self.generation, self.floor, self.sequence] {
            bytes.extend(field.to_be_bytes());
        }
        seal(&mut bytes, 0);
        bytes.resize(PAGE as usize, 0);
        bytes
    }

    /// `page` begins as the file does.
    pub(super) fn decode(page: &[u8]) -> Result<Self, BadHeader> {
        if page.iter().take(FILE_HEADER).all(|byte| *byte == 0) {
            return Err(BadHeader::Unused);
        }
        let Some(mut fields) = checked(page, FILE_HEADER) else { return Err(BadHeader::Damaged) };
        let mut decode = || {
            let (magic, version) = (fields.take::<8>()?, fields.u16()?);
            let directory_id = Uuid(fields.take()?);
            let header =
                Self { directory_id, generation: fields.u64()?, floor: fields.u64()?, sequence: fields.u64()? };
            (magic == FILE_MAGIC).then_some((version, header))
        };
        match decode() {
            Some((VERSION, header)) => Ok(header),
            Some((version, _)) => Err(BadHeader::Newer(version)),
            None => Err(BadHeader::Damaged),
        }
    }
}

impl RoundHeader {
    /// Appends it.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>, position: u64) {
        let from = bytes.len();
        bytes.extend(ROUND_MAGIC);
        for field in [self.generation, self.sequence, self.bytes, position] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend(self.entries.to_be_bytes());
        seal(bytes, from);
    }

    /// The header at the start of `bytes`, which stand at `position` of their file.
    pub(super) fn decode(bytes: &[u8], position: u64) -> Option<Self> {
        let mut fields = checked(bytes, ROUND_HEADER)?;
        let magic = fields.take::<4>()?;
        let (generation, sequence, length, at) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let header = Self { generation, sequence, entries: fields.u32()?, bytes: length };
        (magic == ROUND_MAGIC && at == position).then_some(header)
    }
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Void => 2,
            Self::Synced => 3,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Data, Self::Void, Self::Synced].into_iter().find(|kind| kind.code() == code)
    }
}

impl EntryHeader {
    /// Appends it, as entry `sequence` in a file of `generation`.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>, generation: u64, sequence: u64) {
        let from = bytes.len();
        bytes.extend(ENTRY_MAGIC);
        bytes.push(self.kind.code());
        bytes.push(0);
        bytes.extend(generation.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(self.topic_id.0);
        bytes.extend(self.partition.to_be_bytes());
        bytes.extend(self.segment.to_be_bytes());
        bytes.extend(self.position.to_be_bytes());
        bytes.extend(self.leader_epoch.to_be_bytes());
        bytes.extend(self.first_offset.to_be_bytes());
        bytes.extend(self.next_offset.to_be_bytes());
        bytes.extend(self.bytes.to_be_bytes());
        bytes.extend(self.crc.to_be_bytes());
        seal(bytes, from);
    }

    /// The header at the start of `bytes`, if it is entry `sequence` of `generation`.
    pub(super) fn decode(bytes: &[u8], generation: u64, sequence: u64) -> Option<Self> {
        let mut fields = checked(bytes, ENTRY_HEADER)?;
        let magic = fields.take::<4>()?;
        let [code, _] = fields.take::<2>()?;
        let own = (fields.u64()?, fields.u64()?);
        let header = Self {
            kind: Kind::of(code)?,
            topic_id: Uuid(fields.take()?),
            partition: fields.i32()?,
            segment: fields.i64()?,
            position: fields.u64()?,
            leader_epoch: fields.i32()?,
            first_offset: fields.i64()?,
            next_offset: fields.i64()?,
            bytes: fields.u32()?,
            crc: fields.u32()?,
        };
        (magic == ENTRY_MAGIC && own == (generation, sequence)).then_some(header)
    }
}
