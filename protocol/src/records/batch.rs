//! One batch, and a run of them, as slices of the bytes they came in.

use bytes::Bytes;

use super::header::CRC_START;
use super::{BATCH_OVERHEAD, BatchError, BatchHeader, FrameSummary, LOG_OVERHEAD, Records, check_frames, crc32c};
use crate::compression::{self, Compression};

/// One whole record batch, magic 2: its header, and all of its bytes (header included) as a slice.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The parsed header.
    pub header: BatchHeader,
    /// The batch as sent, exactly `header.total_size()` bytes.
    pub bytes: Bytes,
}

impl Batch {
    /// Cuts the first batch off `bytes`; returns it and what follows. The CRC is not looked at.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], or fewer bytes than the header's length.
    pub fn parse(mut bytes: Bytes) -> Result<(Self, Bytes), BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let needed = header.total_size();
        if needed > bytes.len() {
            return Err(BatchError::Truncated { needed, available: bytes.len() });
        }
        let rest = bytes.split_off(needed);
        Ok((Self { header, bytes }, rest))
    }

    /// The bytes after the header: the records, compressed or not.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(BATCH_OVERHEAD..).unwrap_or_default()
    }

    /// Holds the checksum against the bytes.
    ///
    /// # Errors
    /// They differ.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(self.bytes.get(CRC_START..).unwrap_or_default());
        if computed == self.header.crc { Ok(()) } else { Err(BatchError::Crc { stored: self.header.crc, computed }) }
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// The attributes name none.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Ok(self.header.attributes.compression()?)
    }

    /// The records in the clear: a slice of the batch, or unpacked into at most `max_decompressed` bytes.
    ///
    /// # Errors
    /// Unknown codec, broken data, or more than the limit.
    pub fn plain_records(&self, max_decompressed: usize) -> Result<Bytes, BatchError> {
        let payload = self.bytes.slice(BATCH_OVERHEAD.min(self.bytes.len())..);
        match self.compression()? {
            Compression::None => Ok(payload),
            codec => Ok(compression::decompress(codec, &payload, max_decompressed)?),
        }
    }

    /// Iterates the records. Keys and values are slices; a compressed batch is unpacked once, into at most `max_decompressed` bytes.
    ///
    /// # Errors
    /// A negative count, or as [`Batch::plain_records`]. The iterator returns malformed records as errors.
    pub fn records(&self, max_decompressed: usize) -> Result<Records, BatchError> {
        if self.header.records_count < 0 {
            return Err(self.count_error());
        }
        Ok(Records::new(&self.header, self.plain_records(max_decompressed)?))
    }

    /// Walks the frames of all records without making any: lengths, counts and offset deltas must agree. An uncompressed batch
    /// costs no allocation (the produce path calls this); a compressed one is unpacked into at most `max_decompressed` bytes.
    ///
    /// # Errors
    /// Whatever does not agree, or as [`Batch::plain_records`].
    pub fn check_frames(&self, max_decompressed: usize) -> Result<FrameSummary, BatchError> {
        let h = &self.header;
        if h.records_count < 0 || h.last_offset_delta.checked_add(1) != Some(h.records_count) {
            return Err(self.count_error());
        }
        if h.attributes.is_compressed() {
            check_frames(h, &self.plain_records(max_decompressed)?)
        } else {
            check_frames(h, self.payload())
        }
    }

    /// A copy of this batch under another header (which must describe the same payload).
    #[must_use]
    pub fn with_header(&self, header: &BatchHeader) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes.len());
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(self.payload());
        out.into()
    }

    fn count_error(&self) -> BatchError {
        BatchError::Count { records_count: self.header.records_count, last_offset_delta: self.header.last_offset_delta }
    }
}

/// The batches of a record set, in order. Ends at a tail that is not a whole batch, as Kafka's clients do: a fetch may cut the last
/// one short. Anything else that is wrong is an `Err`, after which the iterator ends.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Over a record set, magic 2.
    #[must_use]
    pub fn new(records: Bytes) -> Self {
        Self { rest: records }
    }

    /// What was not yielded yet: after the end, the partial tail.
    #[must_use]
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Not even an offset, a length and a magic byte: a cut tail, whatever the format.
        if self.rest.len() <= LOG_OVERHEAD + 4 {
            return None;
        }
        match Batch::parse(self.rest.clone()) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(BatchError::Truncated { .. }) => None,
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}
