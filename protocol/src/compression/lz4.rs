//! LZ4 frames by Kafka's rules: version 1, independent blocks, no dictionary; block checksums are held against the data, a content
//! checksum is not looked at, a content size is skipped.
//!
//! The frame is read here and not by the codec's crate, since Kafka's rules differ and since blocks then unpack straight into place.
//! Kafka's first versions computed the header checksum over the magic number too (KAFKA-3160): messages of magic 0 carry that.

use std::hash::Hasher;
use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::codec::{Compression, CompressionError, first_guess};

const CODEC: Compression = Compression::Lz4;
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const FLAG_INDEPENDENT: u8 = 0x20;
const FLAG_BLOCK_CHECKSUM: u8 = 0x10;
const FLAG_CONTENT_SIZE: u8 = 0x08;
const FLAGS_RESERVED: u8 = 0x03; // dictionary id, reserved
const UNCOMPRESSED_BLOCK: u32 = 0x8000_0000;

/// Which bytes the checksum in the frame header covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderChecksum {
    /// The descriptor, as the format defines it: magic 1 and 2.
    Right,
    /// Magic number and descriptor: what Kafka writes into messages of magic 0. When reading, any is taken.
    Legacy,
}

pub(super) fn compress(
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
    checksum: HeaderChecksum,
) -> Result<(), CompressionError> {
    if let Some(level) = level.filter(|level| !(1..=17).contains(level)) {
        return Err(CompressionError::Level { codec: CODEC, level });
    }
    let start = out.len();
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, &mut *out);
    encoder.write_all(input).map_err(|e| CompressionError::pack(CODEC, e))?;
    encoder.finish().map_err(|e| CompressionError::pack(CODEC, e))?;
    // Not even a header comes out for nothing; readers need one.
    if out.len() == start || input.is_empty() {
        out.truncate(start);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0x60, 0x40, 0, 0, 0, 0, 0]);
        fix_checksum(out, start, HeaderChecksum::Right);
    }
    if checksum == HeaderChecksum::Legacy {
        fix_checksum(out, start, checksum);
    }
    Ok(())
}

/// Sets the checksum of the frame header (one without a content size) at `start`.
fn fix_checksum(out: &mut [u8], start: usize, checksum: HeaderChecksum) {
    if let Some(frame) = out.get_mut(start..) {
        let from = if checksum == HeaderChecksum::Legacy { 0 } else { 4 };
        let hash = frame.get(from..6).map(header_hash);
        if let (Some(byte), Some(hash)) = (frame.get_mut(6), hash) {
            *byte = hash;
        }
    }
}

fn header_hash(bytes: &[u8]) -> u8 {
    (hash(bytes) >> 8) as u8
}

fn hash(bytes: &[u8]) -> u32 {
    let mut hasher = XxHash32::with_seed(0);
    hasher.write(bytes);
    hasher.finish_32()
}

pub(super) fn decompress(input: &[u8], limit: usize, checksum: HeaderChecksum) -> Result<Vec<u8>, CompressionError> {
    let (frame, mut rest) = Frame::parse(input, checksum)?;
    let mut out = Vec::with_capacity(first_guess(input, limit));
    loop {
        let word = take_u32(&mut rest)?;
        let length = (word & !UNCOMPRESSED_BLOCK) as usize;
        if word == 0 {
            return Ok(out);
        }
        if length > frame.block_size {
            return Err(corrupt("a block is larger than the frame allows"));
        }
        let (data, after) = rest.split_at_checked(length).ok_or_else(|| corrupt("a block is cut"))?;
        rest = after;
        if frame.block_checksums && take_u32(&mut rest)? != hash(data) {
            return Err(corrupt("a block checksum is wrong"));
        }
        let start = out.len();
        if word & UNCOMPRESSED_BLOCK != 0 {
            out.extend_from_slice(data);
        } else {
            // Reserved is the room for one block: 4 MiB at most.
            out.resize(start + frame.block_size.min(data.len().saturating_mul(256)), 0);
            let room = out.get_mut(start..).unwrap_or_default();
            let written = lz4_flex::block::decompress_into(data, room).map_err(corrupt)?;
            out.truncate(start + written);
        }
        if out.len() > limit {
            return Err(CompressionError::TooLarge { codec: CODEC, limit });
        }
    }
}

struct Frame {
    block_size: usize,
    block_checksums: bool,
}

impl Frame {
    fn parse(input: &[u8], checksum: HeaderChecksum) -> Result<(Self, &[u8]), CompressionError> {
        let cut = || corrupt("the frame header is cut");
        let descriptor = input.strip_prefix(&MAGIC).ok_or_else(|| corrupt("no frame starts here"))?;
        let [flags, sizes, ..] = *descriptor else { return Err(cut()) };
        if flags >> 6 != 1 || flags & FLAGS_RESERVED != 0 {
            return Err(corrupt("the frame is of a version or kind that is not supported"));
        }
        if flags & FLAG_INDEPENDENT == 0 {
            return Err(corrupt("blocks depend on each other"));
        }
        let block_size = match sizes {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(corrupt("the block size is not one of LZ4's")),
        };
        let length = if flags & FLAG_CONTENT_SIZE != 0 { 10 } else { 2 };
        let (head, rest) = descriptor.split_at_checked(length).ok_or_else(cut)?;
        let (stored, rest) = rest.split_first().ok_or_else(cut)?;
        if checksum == HeaderChecksum::Right && *stored != header_hash(head) {
            return Err(corrupt("the checksum of the frame header is wrong"));
        }
        Ok((Self { block_size, block_checksums: flags & FLAG_BLOCK_CHECKSUM != 0 }, rest))
    }
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, CompressionError> {
    let (word, after) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("the frame has no end"))?;
    *rest = after;
    Ok(u32::from_le_bytes(*word))
}

fn corrupt(reason: impl ToString) -> CompressionError {
    CompressionError::corrupt(CODEC, reason)
}
