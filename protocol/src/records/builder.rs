//! Builds record batches, magic 2.

use bytes::Bytes;

use super::varint;
use super::{BATCH_OVERHEAD, BatchError, BatchHeader, LOG_OVERHEAD, RecordHeader, TimestampType};
use crate::compression::{self, Compression};

/// Builds one batch. Records are encoded as they are appended; compression and checksum happen in [`BatchBuilder::build`].
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Compression,
    level: Option<i32>,
    /// Room for the header, then the encoded records: an uncompressed batch is never copied.
    body: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch with base offset 0, no producer and create time.
    #[must_use]
    pub fn new(codec: Compression) -> Self {
        Self {
            header: BatchHeader { attributes: super::Attributes(0).with_compression(codec), ..BatchHeader::default() },
            codec,
            level: None,
            body: vec![0; BATCH_OVERHEAD],
        }
    }

    /// Compression level, in the codec's own scale.
    #[must_use]
    pub fn level(mut self, level: Option<i32>) -> Self {
        self.level = level;
        self
    }

    /// Offset of the batch. Producers leave it at 0.
    #[must_use]
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// Epoch of the leader; producers leave it at -1.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    /// Makes the batch idempotent (KIP-98): producer id, its epoch, and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(on);
        self
    }

    /// Makes it a control batch.
    #[must_use]
    pub fn control(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_control(on);
        self
    }

    /// Lets every record carry the broker's time, ms, instead of its own.
    #[must_use]
    pub fn log_append_time(mut self, now: i64) -> Self {
        self.header.attributes = self.header.attributes.with_timestamp_type(TimestampType::LogAppend);
        self.header.max_timestamp = now;
        self
    }

    /// Appends a record. `offset_delta` counts from the base offset and must grow; producers pass 0, 1, 2, ... The first record's
    /// timestamp (ms) becomes the batch's base.
    pub fn append(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> &mut Self {
        let headers_size = headers.iter().map(|h| field_size(Some(h.key)) + field_size(h.value)).sum();
        self.append_frame(offset_delta, timestamp, key, value, headers.len() as i32, headers_size);
        for header in headers {
            write_field(&mut self.body, Some(header.key));
            write_field(&mut self.body, header.value);
        }
        self
    }

    /// Appends a record whose headers are already encoded (their count, then key and value of each).
    pub(super) fn append_raw_headers(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: (i32, &[u8]),
    ) {
        self.append_frame(offset_delta, timestamp, key, value, headers.0, headers.1.len());
        self.body.extend_from_slice(headers.1);
    }

    fn append_frame(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: i32,
        headers_size: usize,
    ) {
        let h = &mut self.header;
        if h.records_count == 0 && !h.attributes.has_delete_horizon() {
            h.base_timestamp = timestamp;
        }
        h.records_count = h.records_count.saturating_add(1);
        h.last_offset_delta = offset_delta;
        if h.attributes.timestamp_type() == TimestampType::Create {
            h.max_timestamp = h.max_timestamp.max(timestamp);
        }
        let delta = timestamp.wrapping_sub(h.base_timestamp);
        let length = 1
            + varint::size(delta)
            + varint::size(i64::from(offset_delta))
            + field_size(key)
            + field_size(value)
            + varint::size(i64::from(headers))
            + headers_size;
        let out = &mut self.body;
        out.reserve(length + 5);
        varint::write_i64(out, length as i64);
        out.push(0);
        varint::write_i64(out, delta);
        varint::write_i32(out, offset_delta);
        write_field(out, key);
        write_field(out, value);
        varint::write_i32(out, headers);
    }

    /// Records so far.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.header.records_count).unwrap_or(0)
    }

    /// None so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.records_count == 0
    }

    /// Bytes of the batch so far, header included, before compression.
    #[must_use]
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// Keeps a delete horizon (KIP-534): it stands where the base timestamp does.
    pub(super) fn set_delete_horizon(&mut self, horizon: i64) {
        self.header.attributes = self.header.attributes.with_delete_horizon(true);
        self.header.base_timestamp = horizon;
    }

    /// Last offset delta when it is not that of the last record (a compacted batch keeps its range).
    pub(super) fn set_last_offset_delta(&mut self, delta: i32) {
        self.header.last_offset_delta = delta;
    }

    /// The whole batch. The builder is left with a batch of the same kind, without records.
    ///
    /// # Errors
    /// The batch, or a record in it, is over 2 GiB; or the codec refuses the level.
    pub fn build(&mut self) -> Result<Bytes, BatchError> {
        let mut body = std::mem::replace(&mut self.body, vec![0; BATCH_OVERHEAD]);
        let mut header = self.header;
        self.header.records_count = 0;
        self.header.last_offset_delta = -1;
        if !header.attributes.has_delete_horizon() {
            self.header.base_timestamp = super::NO_TIMESTAMP;
        }
        if header.attributes.timestamp_type() == TimestampType::Create {
            self.header.max_timestamp = super::NO_TIMESTAMP;
        }
        if i32::try_from(body.len()).is_err() {
            return Err(BatchError::TooLarge { size: body.len() });
        }
        if self.codec != Compression::None {
            let plain = body;
            body = Vec::with_capacity(BATCH_OVERHEAD + plain.len() / 2);
            body.resize(BATCH_OVERHEAD, 0);
            compression::compress(self.codec, self.level, plain.get(BATCH_OVERHEAD..).unwrap_or_default(), &mut body)?;
        }
        header.batch_length =
            i32::try_from(body.len() - LOG_OVERHEAD).map_err(|_| BatchError::TooLarge { size: body.len() })?;
        if let Some((head, records)) = body.split_first_chunk_mut::<BATCH_OVERHEAD>() {
            *head = header.sealed(records).encode();
        }
        Ok(body.into())
    }
}

fn field_size(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint::size(bytes.len() as i64) + bytes.len())
}

fn write_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(bytes) => {
            varint::write_i64(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::write_i32(out, -1),
    }
}
