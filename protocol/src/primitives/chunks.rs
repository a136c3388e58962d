//! A message as it leaves: a list of byte chunks for one vectored write.

use bytes::Bytes;

use crate::error::ErrorCode;

/// The chunks of one encoded message, in order.
#[derive(Debug, Clone, Default)]
pub struct Chunks {
    parts: Vec<Bytes>,
    len: usize,
    errors: Vec<ErrorCode>,
}

impl Chunks {
    pub(crate) fn new(parts: Vec<Bytes>, len: usize, errors: Vec<ErrorCode>) -> Self {
        Self { parts, len, errors }
    }

    /// Bytes over all chunks.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The errors that the message carries, in order; for metrics.
    pub fn errors(&self) -> &[ErrorCode] {
        &self.errors
    }

    /// The chunks.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The chunks, given away.
    pub fn into_parts(self) -> Vec<Bytes> {
        self.parts
    }

    /// All in one piece; copies when there is more than one chunk.
    pub fn into_bytes(mut self) -> Bytes {
        match self.parts.len() {
            0 => Bytes::new(),
            1 => self.parts.swap_remove(0),
            _ => Bytes::from(self.parts.concat()),
        }
    }
}
