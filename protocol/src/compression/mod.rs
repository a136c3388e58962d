//! The four codecs in Kafka's framing, both ways.
//!
//! Unpacking never makes more than the caller's limit, whatever the data claims about itself: output grows as it is produced, and
//! the first byte past the limit is an error. Contexts that are dear to make (zstd) are kept per thread.
//!
//! | codec | emitted | accepted |
//! |---|---|---|
//! | gzip | one member, levels 1-9 | any number of members |
//! | snappy | xerial blocks of 32 KiB, as Java | xerial, or one raw block (librdkafka, Go) |
//! | lz4 | one frame, independent 64 KiB blocks, no content checksum | the same with any block size and block checksums |
//! | zstd | one frame | any number of frames, window up to 128 MiB |

mod codec;
mod gzip;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod zstd;

use bytes::Bytes;

pub use codec::{Compression, CompressionError};
pub(crate) use lz4::HeaderChecksum;

/// Packs `input` and appends the result to `out`. `level` in the codec's own scale as in Kafka's configs (KIP-390): gzip 1-9 and -1,
/// lz4 1-17 (all pack alike here), zstd -131072 to 22; `None` is the default.
///
/// # Errors
/// No such level.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    match codec {
        Compression::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Compression::Gzip => gzip::compress(level, input, out),
        Compression::Snappy => snappy::compress(input, out),
        Compression::Lz4 => lz4::compress(level, input, out, HeaderChecksum::Right),
        Compression::Zstd => zstd::compress(level, input, out),
    }
}

/// Packs `input` into an lz4 frame with the header checksum that messages of magic 0 carry.
pub(crate) fn compress_legacy_lz4(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    lz4::compress(None, input, out, HeaderChecksum::Legacy)
}

/// Unpacks `input`, at most `limit` bytes. Data that is not compressed is a slice of the input.
///
/// # Errors
/// Broken data, or more than the limit.
pub fn decompress(codec: Compression, input: &Bytes, limit: usize) -> Result<Bytes, CompressionError> {
    decompress_with(codec, input, limit, HeaderChecksum::Right)
}

/// As [`decompress`]; messages of magic 0 come with lz4 header checksums that are wrong by Kafka's own doing.
pub(crate) fn decompress_with(
    codec: Compression,
    input: &Bytes,
    limit: usize,
    checksum: HeaderChecksum,
) -> Result<Bytes, CompressionError> {
    match codec {
        Compression::None if input.len() > limit => Err(CompressionError::TooLarge { codec, limit }),
        Compression::None => return Ok(input.clone()),
        Compression::Gzip => gzip::decompress(input, limit),
        Compression::Snappy => snappy::decompress(input, limit),
        Compression::Lz4 => lz4::decompress(input, limit, checksum),
        Compression::Zstd => zstd::decompress(input, limit),
    }
    .map(Into::into)
}
