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

mod gzip;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod zstd;

use bytes::Bytes;

pub(crate) use lz4::HeaderChecksum;

/// A codec of Kafka's; the numbers are the lowest attribute bits of a batch or message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// By its number in the attributes.
    ///
    /// # Errors
    /// 5 and above are no codec.
    pub fn from_id(id: u8) -> Result<Self, CompressionError> {
        match id {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            id => Err(CompressionError::UnknownCodec { id }),
        }
    }

    /// Its number in the attributes.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Its name in Kafka's configs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// By its name in Kafka's configs; topics call none "uncompressed".
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" | "uncompressed" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            "snappy" => Some(Self::Snappy),
            "lz4" => Some(Self::Lz4),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why data could not be packed or unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The attributes name a codec that does not exist.
    #[error("{id} is no compression codec")]
    UnknownCodec {
        /// The number.
        id: u8,
    },
    /// The data is not what the codec makes, or not in the framing that Kafka uses.
    #[error("the {codec} data is broken: {reason}")]
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What was wrong.
        reason: String,
    },
    /// The data unpacks to more than is allowed here.
    #[error("the {codec} data unpacks to more than {limit} bytes")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// Bytes allowed.
        limit: usize,
    },
    /// A level that the codec does not have.
    #[error("{codec} has no compression level {level}")]
    Level {
        /// The codec.
        codec: Compression,
        /// What was asked for.
        level: i32,
    },
    /// The codec failed to pack (out of memory in it).
    #[error("{codec} could not pack: {reason}")]
    Pack {
        /// The codec.
        codec: Compression,
        /// The codec's words.
        reason: String,
    },
}

impl CompressionError {
    fn corrupt(codec: Compression, reason: impl ToString) -> Self {
        Self::Corrupt { codec, reason: reason.to_string() }
    }

    fn pack(codec: Compression, reason: impl ToString) -> Self {
        Self::Pack { codec, reason: reason.to_string() }
    }
}

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

/// First capacity for unpacking `input`: what JSON and the like come to, never more than the limit.
fn first_guess(input: &[u8], limit: usize) -> usize {
    input.len().saturating_mul(4).clamp(512, 8 << 20).min(limit)
}
