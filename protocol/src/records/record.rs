//! One record, its headers, and the iterator that finds them in a batch.

use std::borrow::Cow;

use bytes::Bytes;

use super::varint::{read_i32, read_i64};
use super::{BatchError, BatchHeader, RecordFault, TimestampType};

/// One record. Key, value and headers are slices of the batch (or of its unpacked form).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Absolute offset.
    pub offset: i64,
    /// Milliseconds since 1970; the batch's append time where the broker sets timestamps; -1 for none.
    pub timestamp: i64,
    /// Key; null where there is none.
    pub key: Option<Bytes>,
    /// Value; null is a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// Headers (KIP-82), parsed on demand.
    pub headers: Headers,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// Name, UTF-8 by Kafka's rules (not checked by brokers).
    pub key: &'a [u8],
    /// Value, or null.
    pub value: Option<&'a [u8]>,
}

impl<'a> RecordHeader<'a> {
    /// A header.
    #[must_use]
    pub fn new(key: &'a str, value: Option<&'a [u8]>) -> Self {
        Self { key: key.as_bytes(), value }
    }

    /// The name as text; bytes that are no UTF-8 are replaced, as Java does.
    #[must_use]
    pub fn name(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// The headers of a record, not parsed yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    count: i32,
    bytes: Bytes,
}

impl Headers {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Iterates them; ends after an error.
    pub fn iter(&self) -> impl Iterator<Item = Result<RecordHeader<'_>, RecordFault>> + '_ {
        let mut at = 0;
        let mut left = self.count;
        std::iter::from_fn(move || {
            if left <= 0 {
                return None;
            }
            left -= 1;
            let header = read_header(&self.bytes, &mut at);
            if header.is_err() {
                left = 0;
            }
            Some(header)
        })
    }

    /// The headers as they stand in the record, after their count.
    pub(super) fn raw(&self) -> (i32, &[u8]) {
        (self.count, &self.bytes)
    }
}

fn read_header<'a>(bytes: &'a [u8], at: &mut usize) -> Result<RecordHeader<'a>, RecordFault> {
    let key = read_slice(bytes, at)?.ok_or(RecordFault::HeaderKey)?;
    Ok(RecordHeader { key, value: read_slice(bytes, at)? })
}

/// A length and as many bytes; any negative length is null.
fn read_slice<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, RecordFault> {
    let Ok(length) = usize::try_from(read_i32(bytes, at)?) else { return Ok(None) };
    let slice = bytes.get(*at..).and_then(|rest| rest.get(..length)).ok_or(RecordFault::Length)?;
    *at += length;
    Ok(Some(slice))
}

/// The records of a batch, in order. After an `Err` it ends. Bytes after the last counted record are an error too.
#[derive(Debug, Clone)]
pub struct Records {
    data: Bytes,
    at: usize,
    index: i32,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl Records {
    /// Over `data`, the records of a batch in the clear.
    #[must_use]
    pub fn new(header: &BatchHeader, data: Bytes) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::LogAppend => Some(header.max_timestamp),
            TimestampType::Create => None,
        };
        Self {
            data,
            at: 0,
            index: 0,
            count: header.records_count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time,
        }
    }

    fn read(&mut self) -> Result<Record, RecordFault> {
        let length = read_i32(&self.data, &mut self.at)?;
        let length = usize::try_from(length).map_err(|_| RecordFault::Length)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.data.len()).ok_or(RecordFault::Truncated)?;
        let bytes = self.data.get(self.at..end).unwrap_or_default();
        self.at = end;

        let mut at = 1; // attributes: unused
        let timestamp_delta = read_i64(bytes, &mut at)?;
        let offset_delta = read_i32(bytes, &mut at)?;
        let key = read_slice(bytes, &mut at)?.map(|slice| self.data.slice_ref(slice));
        let value = read_slice(bytes, &mut at)?.map(|slice| self.data.slice_ref(slice));
        let count = read_i32(bytes, &mut at)?;
        let rest = bytes.get(at..).unwrap_or_default();
        // A header takes two bytes at least.
        if count < 0 || count as usize > rest.len() / 2 {
            return Err(RecordFault::HeaderCount);
        }
        if count == 0 && !rest.is_empty() {
            return Err(RecordFault::Excess);
        }
        let headers = Headers { count, bytes: self.data.slice_ref(rest) };
        Ok(Record {
            offset: self.base_offset.saturating_add(i64::from(offset_delta)),
            timestamp: self.append_time.unwrap_or_else(|| self.base_timestamp.wrapping_add(timestamp_delta)),
            key,
            value,
            headers,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        let result = if index < self.count {
            self.read()
        } else if index == self.count && self.at < self.data.len() {
            Err(RecordFault::Uncounted)
        } else {
            return None;
        };
        match result {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(fault) => {
                self.index = i32::MAX;
                self.count = 0;
                Some(Err(BatchError::Record { index, fault }))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The count is the sender's word, so it is an upper bound only.
        (0, usize::try_from(self.count.saturating_sub(self.index)).ok().map(|n| n.saturating_add(1)))
    }
}
