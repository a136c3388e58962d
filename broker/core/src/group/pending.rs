//! Offsets of transactions that are open: they count when the transaction's commit marker comes, and never after an abort.
//!
//! The last record of a partition wins, as in the log: a marker commits the offsets of its producer, unless a newer one was
//! committed since.

use std::collections::{BTreeMap, HashMap};

use esker_protocol::messages::internal::OffsetCommitKey;
use esker_protocol::primitives::Str;

use super::committed_offset::Committed;

type Key = (Str, Str, i32);

/// By producer, what it wrote.
#[derive(Debug, Default)]
pub(super) struct PendingOffsets {
    by_producer: HashMap<i64, BTreeMap<Key, (u64, Committed)>>,
    /// Counts what was written, so that of two transactions the later record is known.
    written: u64,
}

impl PendingOffsets {
    /// A producer wrote an offset in its transaction.
    pub(super) fn stage_offset(&mut self, producer_id: i64, key: &OffsetCommitKey, committed: Committed) {
        self.written += 1;
        let key = (key.group.detached(), key.topic.detached(), key.partition);
        self.by_producer.entry(producer_id).or_default().insert(key, (self.written, committed));
    }

    /// Something newer stands in the log than all that is pending for this partition.
    pub(super) fn forget_offset(&mut self, key: &OffsetCommitKey) {
        if !self.by_producer.is_empty() {
            self.forget_before(&(key.group.clone(), key.topic.clone(), key.partition), u64::MAX);
        }
    }

    fn forget_before(&mut self, key: &Key, written: u64) {
        self.by_producer.retain(|_, offsets| {
            if offsets.get(key).is_some_and(|(at, _)| *at < written) {
                offsets.remove(key);
            }
            !offsets.is_empty()
        });
    }

    /// A producer's transaction ended: what counts from now on.
    pub(super) fn end_transaction(&mut self, producer_id: i64, committed: bool) -> Vec<(OffsetCommitKey, Committed)> {
        let offsets = self.by_producer.remove(&producer_id).unwrap_or_default();
        if !committed {
            return Vec::new();
        }
        let mut out = Vec::with_capacity(offsets.len());
        for (key, (written, committed)) in offsets {
            self.forget_before(&key, written);
            let (group, topic, partition) = key;
            out.push((OffsetCommitKey { group, topic, partition }, committed));
        }
        out
    }

    /// Whether something is pending for a partition.
    pub(super) fn has_offset(&self, group: &Str, topic: &Str, partition: i32) -> bool {
        if self.by_producer.is_empty() {
            return false;
        }
        let key = (group.clone(), topic.clone(), partition);
        self.by_producer.values().any(|offsets| offsets.contains_key(&key))
    }

    /// What is pending, of every producer.
    pub(super) fn iter(&self) -> impl Iterator<Item = (OffsetCommitKey, &Committed)> {
        self.by_producer.values().flat_map(|offsets| {
            offsets.iter().map(|((group, topic, partition), (_, committed))| {
                let key = OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition: *partition };
                (key, committed)
            })
        })
    }

    /// The partitions that it is for.
    pub(super) fn keys(&self) -> impl Iterator<Item = OffsetCommitKey> {
        self.iter().map(|(key, _)| key)
    }

    /// Groups that have something pending.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Str> {
        self.by_producer.values().flat_map(|offsets| offsets.keys().map(|(group, _, _)| group))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Effects, GroupLimits, GroupShard};
    use crate::coordinator::{Applied, StateMachine as _};
    use esker_protocol::messages::internal::{OffsetCommitKey, OffsetCommitValue};

    /// What happens to partition 0 of one topic, by producer, and the offset that counts in the end.
    #[derive(Debug)]
    enum Step {
        Commit(i64),
        InTransaction(i64, i64),
        Marker(i64, bool),
        Removed,
        /// OffsetDelete.
        Deleted,
    }

    #[test]
    fn offsets_of_transactions_count_when_they_are_committed() {
        use Step::*;
        let table: &[(&[Step], Option<i64>)] = &[
            (&[Commit(5)], Some(5)),
            (&[InTransaction(1, 7)], None),
            (&[InTransaction(1, 7), Marker(1, true)], Some(7)),
            (&[InTransaction(1, 7), Marker(1, false)], None),
            (&[InTransaction(1, 7), Marker(2, true)], None),
            (&[InTransaction(1, 7), InTransaction(1, 8), Marker(1, true)], Some(8)),
            (&[Commit(5), InTransaction(1, 7), Marker(1, false)], Some(5)),
            // The later record counts, whichever marker comes first.
            (&[InTransaction(1, 7), Commit(5), Marker(1, true)], Some(5)),
            (&[InTransaction(1, 7), InTransaction(2, 8), Marker(2, true), Marker(1, true)], Some(8)),
            (&[InTransaction(1, 7), InTransaction(2, 8), Marker(1, true), Marker(2, true)], Some(8)),
            (&[InTransaction(1, 7), InTransaction(2, 8), Marker(1, true), Marker(2, false)], Some(7)),
            (&[InTransaction(1, 7), Removed, Marker(1, true)], None),
            (&[InTransaction(1, 7), Marker(1, true), InTransaction(1, 9)], Some(7)),
            (&[InTransaction(1, 7), Deleted, Marker(1, true)], None),
            (&[Commit(5), InTransaction(1, 7), Deleted, Marker(1, true)], None),
            (&[Commit(5), InTransaction(1, 7), Deleted, Marker(1, false)], None),
            (&[InTransaction(1, 7), Deleted, InTransaction(1, 8), Marker(1, true)], Some(8)),
        ];
        for (steps, expected) in table {
            let mut shard = GroupShard::new(GroupLimits {
                initial_rebalance_delay_ms: 0,
                min_session_timeout_ms: 0,
                max_session_timeout_ms: 1,
                max_size: 1,
                offset_metadata_max_bytes: 1,
                offsets_retention_ms: 1,
            });
            let key = || OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 0 }.to_bytes().unwrap();
            let value = |offset| Some(OffsetCommitValue { offset, ..Default::default() }.to_bytes().unwrap());
            for step in *steps {
                match step {
                    Commit(offset) => shard.replay(key(), value(*offset), None, 0).unwrap(),
                    InTransaction(id, offset) => shard.replay(key(), value(*offset), Some(*id), 0).unwrap(),
                    Marker(id, committed) => shard.transaction_ended(*id, *committed, 0),
                    Deleted => {
                        // Offsets alone make a group, also staged ones.
                        shard.loaded(0);
                        let (records, _) = shard.delete_offsets(&"g".into(), &[("t".into(), 0)]).unwrap();
                        let mut effects = Effects { records, ..Effects::default() };
                        shard.apply(Applied::all(&mut effects));
                    }
                    Removed => shard.replay(key(), None, None, 0).unwrap(),
                }
            }
            let found = shard.all_offsets().next().map(|(_, _, _, offset)| offset);
            assert_eq!(found, *expected, "{steps:?}");
        }
    }
}
