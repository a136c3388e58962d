//! Which records of a batch are kept: Kafka's rules for records, tombstones, markers and empty batches.
//!
//! Of a key, the record at the latest offset stays. A tombstone stays until the delete horizon, which the first compaction
//! that meets it writes into its batch (KIP-534). A batch that loses all records stays as a bare header if it has its
//! producer's last sequence, or ends a segment. Nothing at or above the end of the offset map is touched.

use std::collections::HashMap;

use bytes::Bytes;
use esker_protocol::records::{Batch, BatchError, EndTxnMarker, Record, emptied, retain};

use super::{offset_map::OffsetMap, stats::CleanStats, transactions::Transactions};

/// Bound on what one compressed batch may unpack to.
pub(super) const MAX_DECOMPRESSED: usize = 1 << 30;

/// The result for a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The batch is copied unchanged.
    Keep,
    /// The batch is replaced by this one.
    Rewritten(Bytes),
    /// The batch is dropped.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    pub map: &'a OffsetMap,
    /// The map knows all keys below.
    pub end: i64,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    /// For each live producer: offset of its last data batch's last record (`None`: only a marker is left), and its epoch.
    pub producers: &'a HashMap<i64, (Option<i64>, i16)>,
    pub transactions: Transactions,
    pub stats: CleanStats,
}

impl Filter<'_> {
    /// Filters the next batch of the log; `ends_segment`: its offsets must not be lost.
    pub(super) fn filter_batch(&mut self, batch: &Batch, ends_segment: bool) -> Result<Outcome, BatchError> {
        let header = &batch.header;
        if header.base_offset >= self.end {
            return Ok(Outcome::Keep);
        }
        let records: Vec<Record> = batch.records(MAX_DECOMPRESSED)?.collect::<Result<_, _>>()?;
        let control = header.attributes.is_control();
        let unmarked = match control {
            true => self.transactions.on_control(header, committed(&records), records.is_empty()),
            false => self.transactions.on_data(header),
        };
        let expired = header.delete_horizon().is_some_and(|horizon| horizon <= self.now_ms);
        let discard = unmarked && (!control || expired);
        self.stats.records_read += records.len() as u64;
        let all = records.len();
        let kept: Vec<Record> = match (discard, control) {
            (true, _) => Vec::new(),
            (false, true) => records,
            (false, false) => records.into_iter().filter(|record| self.keeps_record(record, expired)).collect(),
        };
        self.stats.records_kept += kept.len() as u64;
        if kept.is_empty() {
            return Ok(match ends_segment || self.is_last_of_producer(batch) {
                false => Outcome::Gone,
                true if all == 0 => Outcome::Keep,
                true => Outcome::Rewritten(emptied(header)),
            });
        }
        let tombstones = kept.iter().any(|record| record.value.is_none());
        let horizon = match header.delete_horizon() {
            None if tombstones || unmarked && control => Some(self.now_ms.saturating_add(self.delete_retention_ms)),
            known => known,
        };
        if kept.len() == all && horizon == header.delete_horizon() {
            return Ok(Outcome::Keep);
        }
        // The rewritten batch gets a new checksum, which must not hide damage.
        batch.verify_crc()?;
        Ok(Outcome::Rewritten(retain(batch, &kept, horizon)?))
    }

    fn keeps_record(&mut self, record: &Record, expired: bool) -> bool {
        if record.offset >= self.end {
            return true;
        }
        let Some(key) = &record.key else {
            self.stats.without_key += 1;
            return false;
        };
        let latest = self.map.latest_offset(key).is_none_or(|latest| record.offset >= latest);
        latest && (record.value.is_some() || !expired)
    }

    fn is_last_of_producer(&self, batch: &Batch) -> bool {
        let header = &batch.header;
        self.producers.get(&header.producer_id).is_some_and(|(last, epoch)| match last {
            Some(last) => header.last_offset() == *last,
            None => header.attributes.is_control() && header.producer_epoch == *epoch,
        })
    }
}

/// What a control batch's marker says.
pub(super) fn committed(records: &[Record]) -> Option<bool> {
    let record = records.first()?;
    Some(EndTxnMarker::parse(record.key.as_deref()?, record.value.as_deref()?)?.committed)
}
