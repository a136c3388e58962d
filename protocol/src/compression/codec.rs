//! The codecs by number and name, and the errors that all of them share.
//!
//! A file of its own below the codecs, so that each codec imports it and not the module that chooses between them.

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
        /// The requested level.
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
    pub(super) fn corrupt(codec: Compression, reason: impl ToString) -> Self {
        Self::Corrupt { codec, reason: reason.to_string() }
    }

    pub(super) fn pack(codec: Compression, reason: impl ToString) -> Self {
        Self::Pack { codec, reason: reason.to_string() }
    }
}

/// First capacity for unpacking `input`: what JSON and the like come to, never more than the limit.
pub(super) fn first_guess(input: &[u8], limit: usize) -> usize {
    input.len().saturating_mul(4).clamp(512, 8 << 20).min(limit)
}
