//! The reader: a cursor over one frame that returns slices of it.

use bytes::Bytes;
use thiserror::Error;

use super::writer::Width;
use super::{Str, Uuid};

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The frame ends before the message does.
    #[error("{needed} more bytes are needed, {left} are left")]
    Truncated {
        /// What a field needs.
        needed: usize,
        /// What there is.
        left: usize,
    },
    /// A length or count is negative where null is not allowed, or greater than what is left could hold.
    #[error("length {0} is out of bounds")]
    Length(i64),
    /// A varint has too many bytes.
    #[error("a varint has more than 5 bytes")]
    Varint,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// The API has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Which message.
        message: &'static str,
        /// The version.
        version: i16,
    },
    /// Tags of tagged fields must rise.
    #[error("tagged field {0} is out of order")]
    TagOrder(u32),
    /// A tagged field does not have its declared size.
    #[error("tagged field {0} has another size than it says")]
    TagSize(u32),
}

/// Elements that one array may have: Kafka's `MessageUtil.MAX_ARRAY_LENGTH`.
pub const MAX_ARRAY_LENGTH: usize = 1_000_000;
/// Tagged fields that one struct may have: Kafka's `MessageUtil.MAX_TAGGED_FIELD_COUNT`.
pub const MAX_TAGGED_FIELDS: u32 = 10_000;

/// A cursor over one frame.
#[derive(Debug, Clone)]
pub struct Reader {
    frame: Bytes,
    at: usize,
}

impl Reader {
    /// Starts at the first byte.
    pub fn new(frame: Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// Everything not read yet, as a slice of the frame.
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.at..)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let truncated = DecodeError::Truncated { needed: N, left: self.remaining() };
        let bytes = self.frame.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    /// The next `len` bytes as a slice of the frame.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated { needed: len, left: self.remaining() });
        }
        let bytes = self.frame.slice(self.at..self.at + len);
        self.at += len;
        Ok(bytes)
    }

    /// One byte.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }
    /// Two bytes, big-endian.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }
    /// Four bytes, big-endian.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }
    /// Eight bytes, big-endian.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }
    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    /// A double, big-endian.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.array()?))
    }
    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.array()?))
    }

    /// An unsigned varint (LEB128).
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// A length field: `None` is null.
    pub(crate) fn length(&mut self, flexible: bool, width: Width) -> Result<Option<usize>, DecodeError> {
        let len = if flexible {
            i64::from(self.uvarint()?) - 1
        } else if width == Width::Short {
            i64::from(self.i16()?)
        } else {
            i64::from(self.i32()?)
        };
        match len {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| DecodeError::Length(len)),
        }
    }

    /// The count of an array whose elements have at least `minimum` bytes each: never more than what is left can hold, nor more than
    /// [`MAX_ARRAY_LENGTH`]. (An element takes more memory than bytes: without the second bound a large frame of empty elements would
    /// cost many times its size.)
    pub(crate) fn count(&mut self, flexible: bool, minimum: usize) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(flexible, Width::Int)? else { return Ok(None) };
        if count.saturating_mul(minimum.max(1)) > self.remaining() || count > MAX_ARRAY_LENGTH {
            return Err(DecodeError::Length(i64::try_from(count).unwrap_or(i64::MAX)));
        }
        Ok(Some(count))
    }

    /// A string: the next `len` bytes.
    pub(crate) fn text(&mut self, len: usize) -> Result<Str, DecodeError> {
        Str::from_utf8(self.take(len)?).map_err(|_| DecodeError::Utf8)
    }

    /// A string of a non-flexible header: an `i16` length, -1 for null.
    pub fn nullable_string(&mut self) -> Result<Option<Str>, DecodeError> {
        self.length(false, Width::Short)?.map(|len| self.text(len)).transpose()
    }

    /// The count of a struct's tagged fields: each has at least two bytes, and there are at most [`MAX_TAGGED_FIELDS`].
    pub(crate) fn tag_count(&mut self) -> Result<u32, DecodeError> {
        let count = self.uvarint()?;
        if (count as usize).saturating_mul(2) > self.remaining() || count > MAX_TAGGED_FIELDS {
            return Err(DecodeError::Length(i64::from(count)));
        }
        Ok(count)
    }

    /// Skips unknown tagged fields.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        let count = self.tag_count()?;
        let mut last = None;
        for _ in 0..count {
            let tag = self.uvarint()?;
            if last.is_some_and(|last| last >= tag) {
                return Err(DecodeError::TagOrder(tag));
            }
            last = Some(tag);
            let len = self.uvarint()?;
            self.take(len as usize)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;

    /// A reader of `count` as an array's or a tag section's count, with `left` bytes behind it.
    fn counted(flexible: bool, count: u32, left: usize) -> Reader {
        let mut w = Writer::new();
        match flexible {
            true => w.put_uvarint(count),
            false => w.put_i32(count as i32),
        }
        w.put_slice(&vec![0; left]);
        Reader::new(w.finish().into_bytes())
    }

    #[test]
    fn an_array_has_at_most_a_million_elements_and_no_more_than_bytes_are_left() {
        let most = MAX_ARRAY_LENGTH as u32;
        for (count, left, allowed) in [
            (most, 1_000_000, true),
            (most + 1, 1_000_001, false),
            (most, 999_999, false),
            (i32::MAX as u32, 4, false),
            (3, 3, true),
            (4, 3, false),
        ] {
            let read = counted(false, count, left).count(false, 1);
            assert_eq!(read.is_ok(), allowed, "{count} of {left} bytes");
            // A compact length is one more.
            let read = counted(true, count + 1, left).count(true, 1);
            assert_eq!(read.is_ok(), allowed, "compact, {count} of {left} bytes");
        }
    }

    #[test]
    fn a_struct_has_at_most_ten_thousand_tagged_fields_and_no_more_than_bytes_are_left() {
        for (count, left, allowed) in [
            (MAX_TAGGED_FIELDS, 20_000, true),
            (MAX_TAGGED_FIELDS + 1, 20_002, false),
            (MAX_TAGGED_FIELDS, 19_999, false),
            (u32::MAX, 2, false),
            (0, 0, true),
        ] {
            assert_eq!(counted(true, count, left).tag_count().is_ok(), allowed, "{count} of {left} bytes");
        }
        // Both ways to read a tag section count first.
        let refused = || counted(true, MAX_TAGGED_FIELDS + 1, 20_002);
        let length = DecodeError::Length(10_001);
        assert_eq!(refused().skip_tags(), Err(length.clone()));
        assert_eq!(crate::wire::read_tags(&mut refused(), |_, _| Ok(false)), Err(length));
    }
}
