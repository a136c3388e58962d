//! Up- and down-conversion between message sets and record batches.

use bytes::{BufMut, Bytes};

use super::super::{
    Attributes, Batch, BatchBuilder, BatchError, LOG_OVERHEAD, MAGIC_OFFSET, MAGIC_V0, MAGIC_V1, MAGIC_V2,
    NO_TIMESTAMP, TimestampType,
};
use super::read::{MessageSet, Messages};
use super::{OVERHEAD_V0, OVERHEAD_V1};
use crate::compression::{self, Compression};

/// Makes one record batch, base offset 0, of a message set that a client of Produce 0-2 sent. The batch is compressed as the set was;
/// messages of magic 0 get no timestamp (-1). Wrappers unpack into at most `limit` bytes together.
///
/// # Errors
/// A malformed message, an unknown codec, more than the limit, or no message at all.
pub fn up_convert(messages: &Bytes, limit: usize) -> Result<Bytes, BatchError> {
    let codec = match MessageSet::new(messages.clone()).next() {
        Some(first) => first?.attributes.compression()?,
        None => Compression::None,
    };
    let mut builder = BatchBuilder::new(codec);
    for (delta, message) in (0..).zip(Messages::new(messages.clone(), limit)) {
        let m = message?;
        builder.append(delta, m.timestamp, m.key.as_deref(), m.value.as_deref(), &[]);
    }
    if builder.is_empty() {
        return Err(BatchError::Count { records_count: 0, last_offset_delta: -1 });
    }
    builder.build()
}

/// Rewrites stored records (batches, or messages of an old segment) for a client of Fetch 0-3, which knows only `to_magic` (0 or 1) and
/// below. Control batches and record headers are dropped, and records before `from_offset` where a batch is not compressed.
/// Offsets stay. Each compressed batch unpacks into at most `limit` bytes. A partial tail is dropped.
///
/// # Errors
/// zstd, which no such client knows ([`BatchError::UnsupportedCodec`]); or malformed records.
pub fn down_convert(records: &Bytes, to_magic: i8, from_offset: i64, limit: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::with_capacity(records.len());
    let mut rest = records.clone();
    while let Some((entry, after)) = split_entry(&rest)? {
        rest = after;
        let magic = entry.get(MAGIC_OFFSET).map_or(MAGIC_V0, |b| *b as i8);
        if magic == MAGIC_V2 {
            batch_to_messages(entry, to_magic, from_offset, limit, &mut out)?;
        } else if magic <= to_magic {
            out.extend_from_slice(&entry);
        } else {
            messages_to_v0(entry, limit, &mut out)?;
        }
    }
    Ok(out.into())
}

/// The first `max_bytes` of a converted set. Clients of Fetch 0-2 expect their limit to hold: of a message that does not fit they get
/// a part, and retry with a larger limit.
#[must_use]
pub fn truncate_set(messages: &Bytes, max_bytes: usize) -> Bytes {
    messages.slice(..max_bytes.min(messages.len()))
}

/// The first batch or message of any magic, and what follows; `None` at a partial tail.
fn split_entry(records: &Bytes) -> Result<Option<(Bytes, Bytes)>, BatchError> {
    let Some(length) = records.get(8..LOG_OVERHEAD).and_then(|b| b.first_chunk::<4>()) else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    let size = usize::try_from(length).map_err(|_| BatchError::Length { length })?;
    if size < OVERHEAD_V0 - LOG_OVERHEAD {
        return Err(BatchError::Length { length });
    }
    let end = LOG_OVERHEAD + size;
    Ok((end <= records.len()).then(|| (records.slice(..end), records.slice(end..))))
}

fn batch_to_messages(
    entry: Bytes,
    to_magic: i8,
    from_offset: i64,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let (batch, _) = Batch::parse(entry)?;
    if batch.header.attributes.is_control() {
        return Ok(());
    }
    let mut set = SetWriter::new(to_magic, batch.compression()?, batch.header.attributes.timestamp_type())?;
    for record in batch.records(limit)? {
        let record = record?;
        if set.codec == Compression::None && record.offset < from_offset {
            continue;
        }
        set.append(record.offset, record.timestamp, record.key.as_deref(), record.value.as_deref())?;
    }
    set.finish(out)
}

fn messages_to_v0(entry: Bytes, limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let codec = match MessageSet::new(entry.clone()).next() {
        Some(message) => message?.attributes.compression()?,
        None => Compression::None,
    };
    let mut set = SetWriter::new(MAGIC_V0, codec, TimestampType::Create)?;
    for message in Messages::new(entry, limit) {
        let m = message?;
        set.append(m.offset, NO_TIMESTAMP, m.key.as_deref(), m.value.as_deref())?;
    }
    set.finish(out)
}

/// Writes messages of one magic, wrapped into one if there is a codec.
struct SetWriter {
    magic: i8,
    codec: Compression,
    timestamps: TimestampType,
    set: Vec<u8>,
    first: Option<i64>,
    last: i64,
    max_timestamp: i64,
}

impl SetWriter {
    fn new(magic: i8, codec: Compression, timestamps: TimestampType) -> Result<Self, BatchError> {
        if codec == Compression::Zstd {
            return Err(BatchError::UnsupportedCodec { codec });
        }
        if magic != MAGIC_V0 && magic != MAGIC_V1 {
            return Err(BatchError::Magic { magic });
        }
        Ok(Self { magic, codec, timestamps, set: Vec::new(), first: None, last: -1, max_timestamp: NO_TIMESTAMP })
    }

    fn attributes(&self, codec: Compression) -> Attributes {
        let attributes = Attributes(0).with_compression(codec);
        if self.magic == MAGIC_V0 { attributes } else { attributes.with_timestamp_type(self.timestamps) }
    }

    fn append(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), BatchError> {
        let first = *self.first.get_or_insert(offset);
        self.last = offset;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let relative = self.codec != Compression::None && self.magic == MAGIC_V1;
        let stored = if relative { offset.wrapping_sub(first) } else { offset };
        let attributes = self.attributes(Compression::None);
        write_message(&mut self.set, self.magic, attributes, stored, timestamp, key, value)
    }

    fn finish(self, out: &mut Vec<u8>) -> Result<(), BatchError> {
        if self.first.is_none() || self.codec == Compression::None {
            out.extend_from_slice(&self.set);
            return Ok(());
        }
        let mut packed = Vec::with_capacity(self.set.len() / 2);
        if self.codec == Compression::Lz4 && self.magic == MAGIC_V0 {
            compression::compress_legacy_lz4(&self.set, &mut packed)?;
        } else {
            compression::compress(self.codec, None, &self.set, &mut packed)?;
        }
        let attributes = self.attributes(self.codec);
        write_message(out, self.magic, attributes, self.last, self.max_timestamp, None, Some(&packed))
    }
}

fn write_message(
    out: &mut Vec<u8>,
    magic: i8,
    attributes: Attributes,
    offset: i64,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<(), BatchError> {
    let overhead = if magic == MAGIC_V0 { OVERHEAD_V0 } else { OVERHEAD_V1 };
    let total = overhead + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
    let size = i32::try_from(total - LOG_OVERHEAD).map_err(|_| BatchError::TooLarge { size: total })?;
    out.reserve(total);
    out.put_i64(offset);
    out.put_i32(size);
    let crc_at = out.len();
    out.put_u32(0);
    out.put_i8(magic);
    out.put_u8(attributes.0 as u8);
    if magic != MAGIC_V0 {
        out.put_i64(timestamp);
    }
    for field in [key, value] {
        match field {
            // It fits: the sum does.
            Some(bytes) => {
                out.put_i32(bytes.len() as i32);
                out.extend_from_slice(bytes);
            }
            None => out.put_i32(-1),
        }
    }
    if let Some((slot, covered)) = out.get_mut(crc_at..).and_then(|message| message.split_first_chunk_mut::<4>()) {
        *slot = crc32fast::hash(covered).to_be_bytes();
    }
    Ok(())
}
