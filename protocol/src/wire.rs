//! How fields are read and written: one trait for every type that a message can hold, and the helpers that the derive
//! calls. `#[doc(hidden)]` in spirit: messages are used through [`crate::Message`].

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::primitives::{DecodeError, EncodeError, Reader, Str, Uuid, Width, Writer};
use crate::schema::Kind;

/// The version a message is read or written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// The version.
    pub version: i16,
    /// Compact lengths and tagged fields.
    pub flexible: bool,
}

/// A type that stands in a message.
pub trait Value: Sized {
    /// Its name in a schema.
    const KIND: Kind;
    /// The fewest bytes it takes in any version: bounds what a count may claim.
    const MINIMUM: usize;
    /// Reads one.
    fn read(r: &mut Reader, c: Codec) -> Result<Self, DecodeError>;
    /// Writes one.
    fn write(&self, w: &mut Writer, c: Codec) -> Result<(), EncodeError>;
    /// Reads one that may be null. A nullable struct has a marker byte in front.
    fn read_opt(r: &mut Reader, c: Codec) -> Result<Option<Self>, DecodeError> {
        if r.i8()? < 0 { Ok(None) } else { Self::read(r, c).map(Some) }
    }
    /// Writes one that may be null.
    fn write_opt(value: Option<&Self>, w: &mut Writer, c: Codec) -> Result<(), EncodeError> {
        match value {
            Some(value) => {
                w.put_i8(1);
                value.write(w, c)
            }
            None => {
                w.put_i8(-1);
                Ok(())
            }
        }
    }
}

macro_rules! fixed {
    ($($ty:ty, $kind:ident, $size:literal, $get:ident, $put:ident;)*) => {$(
        impl Value for $ty {
            const KIND: Kind = Kind::$kind;
            const MINIMUM: usize = $size;
            fn read(r: &mut Reader, _: Codec) -> Result<Self, DecodeError> {
                r.$get()
            }
            fn write(&self, w: &mut Writer, _: Codec) -> Result<(), EncodeError> {
                w.$put(*self);
                Ok(())
            }
        }
    )*};
}

fixed! {
    i8, Int8, 1, i8, put_i8;
    i16, Int16, 2, i16, put_i16;
    u16, Uint16, 2, u16, put_u16;
    i32, Int32, 4, i32, put_i32;
    u32, Uint32, 4, u32, put_u32;
    i64, Int64, 8, i64, put_i64;
    f64, Float64, 8, f64, put_f64;
    Uuid, Uuid, 16, uuid, put_uuid;
}

impl Value for bool {
    const KIND: Kind = Kind::Bool;
    const MINIMUM: usize = 1;
    fn read(r: &mut Reader, _: Codec) -> Result<Self, DecodeError> {
        Ok(r.i8()? != 0)
    }
    fn write(&self, w: &mut Writer, _: Codec) -> Result<(), EncodeError> {
        w.put_i8(i8::from(*self));
        Ok(())
    }
}

impl Value for ErrorCode {
    const KIND: Kind = Kind::Int16;
    const MINIMUM: usize = 2;
    fn read(r: &mut Reader, _: Codec) -> Result<Self, DecodeError> {
        r.i16().map(Self)
    }
    fn write(&self, w: &mut Writer, _: Codec) -> Result<(), EncodeError> {
        w.put_error(*self);
        Ok(())
    }
}

/// The longest string of a message, in bytes. Compact lengths could hold more, but Kafka refuses it in every version: a string that a new
/// client sends must fit into the response to an old one.
const MAX_STRING: usize = i16::MAX as usize;

/// What a null that must not be one is answered with.
const NULL: DecodeError = DecodeError::Length(-1);

impl Value for Str {
    const KIND: Kind = Kind::String;
    const MINIMUM: usize = 1;
    fn read(r: &mut Reader, c: Codec) -> Result<Self, DecodeError> {
        Self::read_opt(r, c)?.ok_or(NULL)
    }
    fn write(&self, w: &mut Writer, c: Codec) -> Result<(), EncodeError> {
        Self::write_opt(Some(self), w, c)
    }
    fn read_opt(r: &mut Reader, c: Codec) -> Result<Option<Self>, DecodeError> {
        match r.length(c.flexible, Width::Short)? {
            Some(len) if len > MAX_STRING => Err(DecodeError::Length(i64::try_from(len).unwrap_or(i64::MAX))),
            Some(len) => r.text(len).map(Some),
            None => Ok(None),
        }
    }
    fn write_opt(value: Option<&Self>, w: &mut Writer, c: Codec) -> Result<(), EncodeError> {
        w.put_len(value.map(|v| v.len()), c.flexible, Width::Short)?;
        if let Some(value) = value {
            w.put_slice(value.as_bytes());
        }
        Ok(())
    }
}

impl Value for Bytes {
    const KIND: Kind = Kind::Bytes;
    const MINIMUM: usize = 1;
    fn read(r: &mut Reader, c: Codec) -> Result<Self, DecodeError> {
        Self::read_opt(r, c)?.ok_or(NULL)
    }
    fn write(&self, w: &mut Writer, c: Codec) -> Result<(), EncodeError> {
        Self::write_opt(Some(self), w, c)
    }
    fn read_opt(r: &mut Reader, c: Codec) -> Result<Option<Self>, DecodeError> {
        r.length(c.flexible, Width::Int)?.map(|len| r.take(len)).transpose()
    }
    fn write_opt(value: Option<&Self>, w: &mut Writer, c: Codec) -> Result<(), EncodeError> {
        w.put_len(value.map(Bytes::len), c.flexible, Width::Int)?;
        if let Some(value) = value {
            w.put_shared(value);
        }
        Ok(())
    }
}

/// Room made for an array before its elements are read; more grows as they arrive.
const ROOM_AHEAD: usize = 1024;

impl<T: Value> Value for Vec<T> {
    const KIND: Kind = Kind::Array(&T::KIND);
    const MINIMUM: usize = 1;
    fn read(r: &mut Reader, c: Codec) -> Result<Self, DecodeError> {
        Self::read_opt(r, c)?.ok_or(NULL)
    }
    fn write(&self, w: &mut Writer, c: Codec) -> Result<(), EncodeError> {
        Self::write_opt(Some(self), w, c)
    }
    fn read_opt(r: &mut Reader, c: Codec) -> Result<Option<Self>, DecodeError> {
        let Some(count) = r.count(c.flexible, T::MINIMUM)? else { return Ok(None) };
        let mut items = Self::with_capacity(count.min(ROOM_AHEAD));
        for _ in 0..count {
            items.push(T::read(r, c)?);
        }
        Ok(Some(items))
    }
    fn write_opt(value: Option<&Self>, w: &mut Writer, c: Codec) -> Result<(), EncodeError> {
        w.put_len(value.map(Vec::len), c.flexible, Width::Int)?;
        value.into_iter().flatten().try_for_each(|item| item.write(w, c))
    }
}

/// Reads a field of type `Option<T>`.
pub fn read_nullable<T: Value>(r: &mut Reader, c: Codec, nullable: bool) -> Result<Option<T>, DecodeError> {
    if nullable { T::read_opt(r, c) } else { T::read(r, c).map(Some) }
}

/// Writes a field of type `Option<T>`.
pub fn write_nullable<T: Value>(
    value: Option<&T>,
    w: &mut Writer,
    c: Codec,
    nullable: bool,
) -> Result<(), EncodeError> {
    match value {
        value if nullable => T::write_opt(value, w, c),
        Some(value) => value.write(w, c),
        None => Err(EncodeError::NotNullable { version: c.version }),
    }
}

/// Writes a message to people, cut short where it is too long for a string: it may repeat a name that is as long as a
/// string can be, and must not keep the answer from being sent.
pub fn write_text(value: Option<&Str>, w: &mut Writer, c: Codec, nullable: bool) -> Result<(), EncodeError> {
    match value {
        Some(text) if text.len() > MAX_STRING => {
            let cut = Str::copy(text.split_at(text.floor_char_boundary(MAX_STRING)).0);
            write_nullable(Some(&cut), w, c, nullable)
        }
        value => write_nullable(value, w, c, nullable),
    }
}

/// A field that the version lacks must hold its default.
pub fn must_be_default(is_default: bool, field: &'static str, version: i16) -> Result<(), EncodeError> {
    if is_default { Ok(()) } else { Err(EncodeError::UnsupportedField { field, version }) }
}

/// Reads tagged fields: `known` reads a tag that it knows and returns true; others are skipped.
pub fn read_tags(
    r: &mut Reader,
    mut known: impl FnMut(u32, &mut Reader) -> Result<bool, DecodeError>,
) -> Result<(), DecodeError> {
    let count = r.tag_count()?;
    let mut last = None;
    for _ in 0..count {
        let tag = r.uvarint()?;
        if last.is_some_and(|last| last >= tag) {
            return Err(DecodeError::TagOrder(tag));
        }
        last = Some(tag);
        let len = r.uvarint()?;
        let mut field = Reader::new(r.take(len as usize)?);
        if known(tag, &mut field)? && field.remaining() > 0 {
            return Err(DecodeError::TagSize(tag));
        }
    }
    Ok(())
}

/// Tagged fields being written.
#[derive(Debug, Default)]
pub struct Tags {
    fields: Vec<(u32, Writer)>,
}

impl Tags {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The writer of one field; tags must rise.
    pub fn begin(&mut self, tag: u32) -> &mut Writer {
        &mut self.fields.push_mut((tag, Writer::new())).1
    }

    /// Writes them all.
    pub fn write(self, w: &mut Writer) -> Result<(), EncodeError> {
        let fits = |n: usize| u32::try_from(n).map_err(|_| EncodeError::TooLong(n));
        w.put_uvarint(fits(self.fields.len())?);
        for (tag, field) in self.fields {
            w.put_uvarint(tag);
            w.put_uvarint(fits(field.len())?);
            w.put_writer(field);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::api::ApiKey;
    use crate::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse, DescribeConfigsResult};
    use crate::messages::find_coordinator::FindCoordinatorRequest;
    use crate::primitives::{Chunks, Reader};
    use crate::{Message, RequestHeader, decode_response, encode_request, encode_response};

    use super::*;

    #[test]
    fn no_version_takes_a_string_that_an_old_one_could_not_answer() {
        for (len, fits) in [(MAX_STRING, true), (MAX_STRING + 1, false)] {
            let request = FindCoordinatorRequest { key: Str::from("k".repeat(len)), ..Default::default() };
            let frame = encode_request(3, 1, None, &request).map(Chunks::into_bytes).unwrap();
            let mut reader = Reader::new(frame.slice(4..));
            RequestHeader::decode(&mut reader).unwrap();
            assert_eq!(FindCoordinatorRequest::decode(&mut reader, 3).is_ok(), fits, "{len}");
        }
    }

    #[test]
    fn a_message_to_people_is_cut_rather_than_refused() {
        for version in 0..=4 {
            // Two bytes a character, so that the cut would fall into one.
            let message = Str::from("é".repeat(20_000));
            let result = DescribeConfigsResult { error_message: Some(message.clone()), ..Default::default() };
            let answer = DescribeConfigsResponse { results: vec![result], ..Default::default() };
            let frame = encode_response(ApiKey::DESCRIBE_CONFIGS, version, 1, &answer).map(Chunks::into_bytes).unwrap();
            let (_, read) = decode_response::<DescribeConfigsRequest>(version, frame.slice(4..)).unwrap();
            let text = read.results[0].error_message.clone().unwrap();
            assert!(text.len() >= MAX_STRING - 1 && message.starts_with(text.as_str()), "version {version}");
        }
    }
}
