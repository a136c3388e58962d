//! Reading message sets: wrappers as they stand ([`MessageSet`]), and the messages inside them ([`Messages`]).

use bytes::{Buf, Bytes};

use super::super::{Attributes, BatchError, LOG_OVERHEAD, MAGIC_V0, MAGIC_V1, NO_TIMESTAMP, TimestampType};
use super::{OVERHEAD_V0, OVERHEAD_V1};
use crate::compression::{self, Compression, HeaderChecksum};

/// One message of magic 0 or 1; a wrapper if it is compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// As stored: absolute, or relative inside a wrapper of magic 1.
    pub offset: i64,
    /// 0 or 1.
    pub magic: i8,
    /// Codec and timestamp type, in the same bits as a batch has them.
    pub attributes: Attributes,
    /// Milliseconds; -1 in magic 0.
    pub timestamp: i64,
    /// Key, or null.
    pub key: Option<Bytes>,
    /// Value, or null; of a wrapper, the compressed set.
    pub value: Option<Bytes>,
}

impl Message {
    /// Cuts the first message off `bytes`, its checksum verified; returns it and what follows.
    ///
    /// # Errors
    /// Cut short, a wrong checksum, another magic, or lengths that do not add up.
    pub fn parse(mut bytes: Bytes) -> Result<(Self, Bytes), BatchError> {
        let available = bytes.len();
        let truncated = |needed| BatchError::Truncated { needed, available };
        let mut head: &[u8] = &bytes;
        let offset = head.try_get_i64().map_err(|_| truncated(OVERHEAD_V0))?;
        let length = head.try_get_i32().map_err(|_| truncated(OVERHEAD_V0))?;
        let bad_length = BatchError::Length { length };
        let size = usize::try_from(length).map_err(|_| bad_length.clone())?;
        if size < OVERHEAD_V0 - LOG_OVERHEAD {
            return Err(bad_length);
        }
        if head.len() < size {
            return Err(truncated(LOG_OVERHEAD + size));
        }
        let rest = bytes.split_off(LOG_OVERHEAD + size);
        let mut body = bytes.slice(LOG_OVERHEAD..);
        let stored = body.get_u32();
        let computed = crc32fast::hash(&body);
        let magic = body.get_i8();
        if magic != MAGIC_V0 && magic != MAGIC_V1 {
            return Err(BatchError::Magic { magic });
        }
        if stored != computed {
            return Err(BatchError::Crc { stored, computed });
        }
        let attributes = Attributes(i16::from(body.get_u8()));
        let timestamp = match magic {
            MAGIC_V0 => NO_TIMESTAMP,
            _ if size < OVERHEAD_V1 - LOG_OVERHEAD => return Err(bad_length),
            _ => body.get_i64(),
        };
        let key = take_field(&mut body).ok_or_else(|| bad_length.clone())?;
        let value = take_field(&mut body).ok_or_else(|| bad_length.clone())?;
        if !body.is_empty() {
            return Err(bad_length);
        }
        Ok((Self { offset, magic, attributes, timestamp, key, value }, rest))
    }

    /// The set inside a wrapper, unpacked into at most `limit` bytes.
    fn unpack(&self, codec: Compression, limit: usize) -> Result<Bytes, BatchError> {
        let checksum = if self.magic == MAGIC_V0 { HeaderChecksum::Legacy } else { HeaderChecksum::Right };
        let packed = self.value.clone().unwrap_or_default();
        Ok(compression::decompress_with(codec, &packed, limit, checksum)?)
    }
}

/// A length and as many bytes; any negative length is null.
#[expect(clippy::option_option, reason = "outside: there is a field; inside: it is not null")]
fn take_field(body: &mut Bytes) -> Option<Option<Bytes>> {
    let Ok(length) = usize::try_from(body.try_get_i32().ok()?) else { return Some(None) };
    (length <= body.len()).then(|| Some(body.split_to(length)))
}

/// The messages of a set as they stand. Ends at a tail that is not a whole message; other faults are an `Err` that ends it.
#[derive(Debug, Clone)]
pub struct MessageSet {
    rest: Bytes,
}

impl MessageSet {
    /// Over a set.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }
}

impl Iterator for MessageSet {
    type Item = Result<Message, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Message::parse(self.rest.clone()) {
            Ok((message, rest)) => {
                self.rest = rest;
                Some(Ok(message))
            }
            Err(BatchError::Truncated { .. }) => None,
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

/// The messages of a set with wrappers opened: offsets absolute, none compressed. Wrappers unpack into at most `limit` bytes together.
#[derive(Debug, Clone)]
pub struct Messages {
    outer: MessageSet,
    inner: Option<Inner>,
    left: usize,
}

#[derive(Debug, Clone)]
struct Inner {
    set: MessageSet,
    /// What to add to offsets.
    base: i64,
    /// The wrapper's time, where the broker set it.
    append_time: Option<i64>,
}

impl Messages {
    /// Over a set.
    #[must_use]
    pub fn new(bytes: Bytes, limit: usize) -> Self {
        Self { outer: MessageSet::new(bytes), inner: None, left: limit }
    }

    fn open(&mut self, wrapper: &Message) -> Result<Inner, BatchError> {
        let codec = wrapper.attributes.compression()?;
        let plain = wrapper.unpack(codec, self.left)?;
        self.left -= plain.len();
        let set = MessageSet::new(plain);
        let mut base = 0;
        if wrapper.magic == MAGIC_V1
            && let Some(last) = set.clone().last().transpose()?
        {
            base = wrapper.offset.wrapping_sub(last.offset);
        }
        let append_time = (wrapper.attributes.timestamp_type() == TimestampType::LogAppend
            && wrapper.magic == MAGIC_V1)
            .then_some(wrapper.timestamp);
        Ok(Inner { set, base, append_time })
    }

    fn advance(&mut self) -> Option<Result<Message, BatchError>> {
        loop {
            if let Some(inner) = &mut self.inner {
                match inner.set.next() {
                    Some(Ok(message)) if message.attributes.is_compressed() => {
                        return Some(Err(BatchError::NestedCompression));
                    }
                    Some(Ok(mut message)) => {
                        message.offset = message.offset.wrapping_add(inner.base);
                        if let Some(time) = inner.append_time {
                            message.timestamp = time;
                            message.attributes = message.attributes.with_timestamp_type(TimestampType::LogAppend);
                        }
                        return Some(Ok(message));
                    }
                    Some(Err(error)) => return Some(Err(error)),
                    None => self.inner = None,
                }
            }
            match self.outer.next()? {
                Ok(message) if message.attributes.is_compressed() => match self.open(&message) {
                    Ok(inner) => self.inner = Some(inner),
                    Err(error) => return Some(Err(error)),
                },
                other => return Some(other),
            }
        }
    }
}

impl Iterator for Messages {
    type Item = Result<Message, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if matches!(next, Some(Err(_))) {
            self.inner = None;
            self.outer.rest.clear();
        }
        next
    }
}
