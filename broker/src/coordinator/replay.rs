//! What a partition of `__consumer_offsets` says, batch by batch.
//!
//! Offsets that were committed in a transaction count from its commit marker on; those of an aborted transaction, or of one
//! without an end, never do.

use std::collections::HashMap;

use bytes::Bytes;
use esker_core::group::GroupShard;
use esker_protocol::records::{Batch, Batches, ControlType};

use super::OFFSETS_TOPIC;

/// What one batch of the topic may unpack to.
const MAX_BATCH: usize = 64 << 20;

type Pending = Vec<(Bytes, Option<Bytes>)>;

/// A replay under way.
pub(super) struct Replay {
    shard: GroupShard,
    partition: i32,
    now_ms: i64,
    /// By producer id.
    open: HashMap<i64, Pending>,
    records: usize,
}

impl Replay {
    pub(super) fn new(shard: GroupShard, partition: i32, now_ms: i64) -> Self {
        Self { shard, partition, now_ms, open: HashMap::new(), records: 0 }
    }

    /// Takes whole batches, which follow on those before.
    pub(super) fn take(&mut self, records: Bytes) {
        for batch in Batches::new(records).flatten() {
            self.take_batch(&batch);
        }
    }

    /// The groups, and how many records were read.
    pub(super) fn finish(self) -> (GroupShard, usize) {
        (self.shard, self.records)
    }

    fn take_batch(&mut self, batch: &Batch) {
        let Ok(records) = batch.records(MAX_BATCH) else {
            tracing::error!(partition = self.partition, "a batch of {OFFSETS_TOPIC} is damaged and left out");
            return;
        };
        let (attributes, producer) = (batch.header.attributes, batch.header.producer_id);
        for record in records.flatten() {
            let Some(key) = record.key else { continue };
            if attributes.is_control() {
                self.end(producer, ControlType::parse(&key));
                continue;
            }
            self.records += 1;
            if attributes.is_transactional() {
                self.open.entry(producer).or_default().push((key, record.value));
            } else {
                self.replay(key, record.value);
            }
        }
    }

    fn end(&mut self, producer: i64, marker: Option<ControlType>) {
        if !matches!(marker, Some(ControlType::Commit | ControlType::Abort)) {
            return;
        }
        let pending = self.open.remove(&producer).unwrap_or_default();
        if marker == Some(ControlType::Commit) {
            pending.into_iter().for_each(|(key, value)| self.replay(key, value));
        }
    }

    fn replay(&mut self, key: Bytes, value: Option<Bytes>) {
        if let Err(error) = self.shard.replay(key, value, self.now_ms) {
            tracing::error!(%error, partition = self.partition, "a record of {OFFSETS_TOPIC} cannot be read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_core::group::GroupLimits;
    use esker_protocol::compression::Compression;
    use esker_protocol::messages::internal::{OffsetCommitKey, OffsetCommitValue};
    use esker_protocol::records::{BatchBuilder, EndTxnMarker, end_txn_batch};

    #[test]
    fn offsets_of_transactions_count_when_they_are_committed() {
        let limits = GroupLimits {
            initial_rebalance_delay_ms: 0,
            min_session_timeout_ms: 0,
            max_session_timeout_ms: 1,
            max_size: 1,
            offset_metadata_max_bytes: 1,
            offsets_retention_ms: 1,
        };
        let mut replay = Replay::new(GroupShard::new(limits), 0, 0);
        let write = |producer: i64, partition: i32| {
            let mut builder = BatchBuilder::new(Compression::None);
            if producer >= 0 {
                builder = builder.producer(producer, 0, 0).transactional(true);
            }
            let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition }.to_bytes().unwrap();
            let value = OffsetCommitValue { offset: 7, ..Default::default() }.to_bytes().unwrap();
            builder.append(0, 0, Some(&key), Some(&value), &[]);
            builder.build().unwrap()
        };
        let marker = |producer: i64, committed: bool| {
            end_txn_batch(producer, 0, EndTxnMarker { committed, coordinator_epoch: 0 }, 0).unwrap()
        };
        for bytes in [write(-1, 0), write(1, 1), write(2, 2), write(3, 3), marker(1, true), marker(2, false)] {
            replay.take(bytes);
        }
        let (shard, records) = replay.finish();
        assert_eq!(records, 4);
        let mut known: Vec<i32> = shard.all_offsets().map(|(_, _, partition, _)| partition).collect();
        known.sort_unstable();
        assert_eq!(known, [0, 1]);
    }
}
