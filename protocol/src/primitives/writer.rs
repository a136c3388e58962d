//! The writer: small fields into one buffer, big byte strings as shared chunks.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{Chunks, Str, Uuid};
use crate::error::ErrorCode;

/// Why a message cannot be written in the requested version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The API has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Which message.
        message: &'static str,
        /// The requested version.
        version: i16,
    },
    /// A field holds a value that this version cannot carry.
    #[error("{field} is set, but version {version} has no such field")]
    UnsupportedField {
        /// Which field.
        field: &'static str,
        /// The requested version.
        version: i16,
    },
    /// A field is null where this version does not allow that.
    #[error("a field that version {version} does not let be null is null")]
    NotNullable {
        /// The requested version.
        version: i16,
    },
    /// A string, array or message is longer than its length field can hold.
    #[error("{0} bytes or elements do not fit the length field")]
    TooLong(usize),
}

/// Byte strings of at least this size become chunks of their own instead of being copied.
const SHARE_FROM: usize = 256;

/// Collects an encoded message.
#[derive(Debug)]
pub struct Writer {
    done: Vec<Part>,
    done_len: usize,
    head: BytesMut,
    errors: Vec<ErrorCode>,
}

#[derive(Debug)]
enum Part {
    Own(BytesMut),
    Shared(Bytes),
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self { done: Vec::new(), done_len: 0, head: BytesMut::with_capacity(256), errors: Vec::new() }
    }

    /// A writer whose message begins with an `i32` with the length of the rest; see [`Writer::finish_framed`].
    pub fn framed() -> Self {
        let mut writer = Self::new();
        writer.put_i32(0);
        writer
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.done_len + self.head.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that was written.
    pub fn finish(mut self) -> Chunks {
        let len = self.len();
        if !self.head.is_empty() {
            self.done.push(Part::Own(self.head));
        }
        let parts = self.done.into_iter().map(|part| match part {
            Part::Own(bytes) => bytes.freeze(),
            Part::Shared(bytes) => bytes,
        });
        Chunks::new(parts.collect(), len, self.errors)
    }

    /// All that was written to a [`Writer::framed`], with its length filled in.
    pub fn finish_framed(mut self) -> Result<Chunks, EncodeError> {
        let len = self.len().saturating_sub(4);
        let size = i32::try_from(len).map_err(|_| EncodeError::TooLong(len))?.to_be_bytes();
        let first = match self.done.first_mut() {
            Some(Part::Own(first)) => first,
            _ => &mut self.head,
        };
        if let Some(place) = first.get_mut(..4) {
            place.copy_from_slice(&size);
        }
        Ok(self.finish())
    }

    /// Appends bytes by copying them.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.head.put_slice(bytes);
    }

    /// Appends bytes: shared when they are many, copied when few.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_FROM {
            return self.put_slice(bytes);
        }
        if !self.head.is_empty() {
            self.done_len += self.head.len();
            let rest = self.head.split_off(self.head.len());
            self.done.push(Part::Own(std::mem::replace(&mut self.head, rest)));
        }
        self.done_len += bytes.len();
        self.done.push(Part::Shared(bytes.clone()));
    }

    /// Appends another writer's bytes.
    pub fn put_writer(&mut self, other: Self) {
        for part in other.finish().into_parts() {
            self.put_shared(&part);
        }
    }

    /// One byte.
    pub fn put_i8(&mut self, v: i8) {
        self.head.put_i8(v);
    }
    /// Two bytes, big-endian.
    pub fn put_i16(&mut self, v: i16) {
        self.head.put_i16(v);
    }
    /// Four bytes, big-endian.
    pub fn put_i32(&mut self, v: i32) {
        self.head.put_i32(v);
    }
    /// Eight bytes, big-endian.
    pub fn put_i64(&mut self, v: i64) {
        self.head.put_i64(v);
    }
    /// Two bytes, big-endian.
    pub fn put_u16(&mut self, v: u16) {
        self.head.put_u16(v);
    }
    /// Four bytes, big-endian.
    pub fn put_u32(&mut self, v: u32) {
        self.head.put_u32(v);
    }
    /// A double, big-endian.
    pub fn put_f64(&mut self, v: f64) {
        self.head.put_f64(v);
    }

    /// An unsigned varint (LEB128), as flexible versions use for lengths.
    pub fn put_uvarint(&mut self, mut v: u32) {
        while v >= 0x80 {
            self.head.put_u8((v & 0x7f) as u8 | 0x80);
            v >>= 7;
        }
        self.head.put_u8(v as u8);
    }

    /// A length field: `None` is null.
    pub(crate) fn put_len(&mut self, len: Option<usize>, flexible: bool, width: Width) -> Result<(), EncodeError> {
        let bad = |len: usize| EncodeError::TooLong(len);
        if flexible {
            let coded = match len {
                Some(len) => u32::try_from(len).ok().and_then(|l| l.checked_add(1)).ok_or_else(|| bad(len))?,
                None => 0,
            };
            self.put_uvarint(coded);
        } else if width == Width::Short {
            self.put_i16(len.map_or(Ok(-1), |len| i16::try_from(len).map_err(|_| bad(len)))?);
        } else {
            self.put_i32(len.map_or(Ok(-1), |len| i32::try_from(len).map_err(|_| bad(len)))?);
        }
        Ok(())
    }

    /// A string of a non-flexible header: an `i16` length, -1 for null.
    pub fn put_nullable_string(&mut self, text: Option<&Str>) -> Result<(), EncodeError> {
        self.put_len(text.map(|t| t.len()), false, Width::Short)?;
        if let Some(text) = text {
            self.put_slice(text.as_bytes());
        }
        Ok(())
    }

    /// An error code; one that is an error is remembered, so that answers can be counted by it.
    pub fn put_error(&mut self, code: ErrorCode) {
        if code.is_error() {
            self.errors.push(code);
        }
        self.put_i16(code.0);
    }

    /// Sixteen bytes.
    pub fn put_uuid(&mut self, id: Uuid) {
        self.put_slice(&id.0);
    }
}

/// How wide the length field of a non-flexible version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// `i16`: strings.
    Short,
    /// `i32`: bytes, records, arrays.
    Int,
}
