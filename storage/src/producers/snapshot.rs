//! The `<offset>.snapshot` file: producer state up to that offset, version 1 of Kafka's ProducerSnapshot.
//!
//! `version i16 = 1 | crc32c u32 of what follows | count i32 | entries`. Only the last batch of a producer is kept.

use std::collections::VecDeque;

use super::{BatchMetadata, ProducerEntry, Producers};
use crate::walk::{be, be_i16, be_i32, be_i64};

const VERSION: i16 = 1;
const HEADER: usize = 6;
const ENTRY: usize = 46;

impl Producers {
    /// The file's bytes: the same state gives the same bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(producer_id, _)| **producer_id);
        let mut body = Vec::with_capacity(4 + self.entries.len() * ENTRY);
        body.extend_from_slice(&(self.entries.len() as i32).to_be_bytes());
        for (producer_id, entry) in entries {
            let last = entry.batches.back();
            body.extend_from_slice(&producer_id.to_be_bytes());
            body.extend_from_slice(&entry.epoch.to_be_bytes());
            body.extend_from_slice(&last.map_or(-1, |b| b.last_sequence).to_be_bytes());
            body.extend_from_slice(&last.map_or(-1, |b| b.last_offset).to_be_bytes());
            body.extend_from_slice(&last.map_or(0, |b| b.offset_delta).to_be_bytes());
            body.extend_from_slice(&entry.last_timestamp.to_be_bytes());
            body.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            body.extend_from_slice(&entry.txn_first_offset.unwrap_or(-1).to_be_bytes());
        }
        let mut out = Vec::with_capacity(HEADER + body.len());
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Reads a file; producers that expired by `now_ms` and have no open transaction are left out.
    pub(crate) fn decode(bytes: &[u8], now_ms: i64, expiration_ms: i64) -> Result<Self, &'static str> {
        let short = "is cut short";
        if be_i16(bytes, 0).ok_or(short)? != VERSION {
            return Err("has an unknown version");
        }
        let crc = u32::from_be_bytes(be(bytes, 2).ok_or(short)?);
        let body = bytes.get(HEADER..).ok_or(short)?;
        if crc32c::crc32c(body) != crc {
            return Err("has a wrong CRC");
        }
        let count = usize::try_from(be_i32(body, 0).ok_or(short)?).map_err(|_| "has a negative count")?;
        let rows = body.get(4..).ok_or(short)?;
        if rows.len() / ENTRY < count {
            return Err(short);
        }
        let mut producers = Self::default();
        for row in rows.chunks_exact(ENTRY).take(count) {
            let read = || {
                let batch = BatchMetadata {
                    last_sequence: be_i32(row, 10)?,
                    last_offset: be_i64(row, 14)?,
                    offset_delta: be_i32(row, 22)?,
                    timestamp: be_i64(row, 26)?,
                };
                let known = batch.last_sequence >= 0;
                let entry = ProducerEntry {
                    epoch: be_i16(row, 8)?,
                    batches: known.then_some(batch).into_iter().collect::<VecDeque<_>>(),
                    coordinator_epoch: be_i32(row, 34)?,
                    txn_first_offset: Some(be_i64(row, 38)?).filter(|offset| *offset >= 0),
                    last_timestamp: batch.timestamp,
                };
                Some((be_i64(row, 0)?, entry))
            };
            let (producer_id, entry) = read().ok_or(short)?;
            if let Some(first_offset) = entry.txn_first_offset {
                producers.ongoing.insert(first_offset, producer_id);
            }
            producers.entries.insert(producer_id, entry);
        }
        producers.expire(now_ms, expiration_ms);
        Ok(producers)
    }
}
