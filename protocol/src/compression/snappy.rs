//! snappy: in xerial's framing as Java writes it, and as one raw block as librdkafka and Go do.
//!
//! xerial: `82 "SNAPPY" 00 | version i32 | compatible version i32`, then `length i32 | raw block` until the end.

use super::codec::{Compression, CompressionError};

const CODEC: Compression = Compression::Snappy;
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER: usize = 16;
const BLOCK: usize = 32 * 1024;
/// A copy of 64 bytes takes 3 bytes: no raw block unpacks to more than this many times itself.
const MAX_RATIO: usize = 22;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(BLOCK.min(input.len()))];
    for chunk in input.chunks(BLOCK) {
        let length = encoder.compress(chunk, &mut block).map_err(|e| CompressionError::pack(CODEC, e))?;
        out.extend_from_slice(&(length as i32).to_be_bytes());
        out.extend_from_slice(block.get(..length).unwrap_or_default());
    }
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    if !input.starts_with(&MAGIC) {
        block(input, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = input.get(HEADER..).ok_or_else(|| corrupt("the header is cut"))?;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| corrupt("a block of negative length"))?;
        let (data, after) = after.split_at_checked(length).ok_or_else(|| corrupt("a block is cut"))?;
        block(data, limit, &mut out)?;
        rest = after;
    }
    if rest.is_empty() { Ok(out) } else { Err(corrupt("a block length is cut")) }
}

/// Unpacks one raw block behind what `out` holds.
fn block(data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let length = snap::raw::decompress_len(data).map_err(corrupt)?;
    if length > data.len().saturating_mul(MAX_RATIO) {
        return Err(corrupt("a block claims more than it can hold"));
    }
    let start = out.len();
    if length > limit.saturating_sub(start) {
        return Err(CompressionError::TooLarge { codec: CODEC, limit });
    }
    out.resize(start + length, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let written = snap::raw::Decoder::new().decompress(data, room).map_err(corrupt)?;
    out.truncate(start + written);
    Ok(())
}

fn corrupt(reason: impl ToString) -> CompressionError {
    CompressionError::corrupt(CODEC, reason)
}
