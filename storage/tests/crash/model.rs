//! The expected content of a partition: every acknowledged batch, and the state that follows from the batches.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use esker_storage::Uuid;

/// A batch as it must lie in the log, byte for byte.
#[derive(Debug)]
pub struct Batch {
    pub base: i64,
    pub last: i64,
    pub epoch: i32,
    pub bytes: Bytes,
    /// Timestamps of its records.
    pub times: Vec<i64>,
    /// -1 for none.
    pub producer: i64,
    pub sequence: i32,
    pub transactional: bool,
    /// Ends a transaction: committed or not.
    pub marker: Option<bool>,
}

impl Batch {
    /// Offsets and timestamps of its records.
    pub fn records(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        (self.base..).zip(self.times.iter().copied())
    }
}

/// One partition's log.
#[derive(Debug, Clone)]
pub struct Part {
    pub topic_id: Uuid,
    /// All batches since it was created or restarted, including those that retention deleted.
    pub history: Vec<Arc<Batch>>,
    pub start: i64,
    /// The log start that a checkpoint on disk has.
    pub start_floor: i64,
    pub end: i64,
    /// The recovery point of the log.
    pub flushed: i64,
    /// Largest high watermark that was set.
    pub high_watermark: i64,
    pub epoch: i32,
    /// Its last change removed everything.
    pub anew: bool,
    /// Batches whose append failed half way. They were never acknowledged; a start after a power cut may find them.
    pub unacknowledged: Vec<Arc<Batch>>,
}

/// State of a producer as replay gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producer {
    pub last_sequence: i32,
    pub coordinator_epoch: i32,
    pub transaction: Option<i64>,
    pub last_timestamp: i64,
    pub last_base: i64,
    /// Of its last batch that is no marker; -1 for none.
    pub last_data: i64,
}

/// Producers and aborted transactions (producer, first offset, marker's offset).
pub type Replayed = (BTreeMap<i64, Producer>, Vec<(i64, i64, i64)>);

pub const COORDINATOR_EPOCH: i32 = 3;

impl Part {
    pub fn new(topic_id: Uuid) -> Self {
        Self {
            topic_id,
            history: Vec::new(),
            start: 0,
            start_floor: 0,
            end: 0,
            flushed: 0,
            high_watermark: 0,
            epoch: 0,
            anew: false,
            unacknowledged: Vec::new(),
        }
    }

    /// The state from the batches below `end`.
    pub fn replay(&self, end: i64) -> Replayed {
        let (mut producers, mut aborted) = (BTreeMap::<i64, Producer>::new(), Vec::new());
        for batch in self.history.iter().filter(|batch| batch.base < end && batch.producer >= 0) {
            let producer = producers.entry(batch.producer).or_insert_with(|| Producer {
                last_sequence: -1,
                coordinator_epoch: -1,
                last_data: -1,
                ..Producer::default()
            });
            producer.last_timestamp = batch.times.iter().copied().max().unwrap();
            producer.last_base = batch.base;
            match batch.marker {
                Some(committed) => {
                    producer.coordinator_epoch = COORDINATOR_EPOCH;
                    if let Some(first) = producer.transaction.take()
                        && !committed
                    {
                        aborted.push((batch.producer, first, batch.last));
                    }
                }
                None => {
                    producer.last_data = batch.base;
                    producer.last_sequence = batch.sequence + batch.times.len() as i32 - 1;
                    if batch.transactional && producer.transaction.is_none() {
                        producer.transaction = Some(batch.base);
                    }
                }
            }
        }
        (producers, aborted)
    }

    /// The history with the failed batches that are at its end nevertheless.
    pub fn with_unacknowledged(&self, found: &[(i64, i64, Bytes)]) -> Option<Self> {
        let failed = |base: i64, bytes: &Bytes| {
            self.unacknowledged.iter().find(|batch| batch.base == base && batch.bytes == *bytes).cloned()
        };
        let acknowledged = |bytes: &Bytes| self.history.iter().any(|batch| batch.bytes == *bytes);
        let first = found.iter().position(|(_, _, bytes)| !acknowledged(bytes))?;
        let tail: Option<Vec<_>> = found[first..].iter().map(|(base, _, bytes)| failed(*base, bytes)).collect();
        let tail = tail?;
        let mut other = self.clone();
        other.history.retain(|batch| batch.base < tail[0].base);
        other.end = tail[tail.len() - 1].last + 1;
        other.history.extend(tail);
        Some(other)
    }

    /// The history after a cut at `offset`.
    pub fn truncate(&mut self, offset: i64) {
        self.history.retain(|batch| batch.base < offset);
        self.end = self.end.min(offset);
        self.start = self.start.min(offset);
        self.start_floor = self.start_floor.min(offset);
        self.flushed = self.flushed.min(offset);
    }

    /// With the weaker of both claims about flushed data: for an unfinished change.
    pub fn weakened_by(&self, other: &Self) -> Self {
        let mut weak = self.clone();
        weak.flushed = if other.anew || self.anew { 0 } else { self.flushed.min(other.flushed) };
        weak.start_floor = self.start_floor.min(other.start_floor);
        weak.start = self.start.max(other.start);
        weak.high_watermark = self.high_watermark.max(other.high_watermark);
        weak.unacknowledged.extend(other.unacknowledged.iter().cloned());
        weak.anew = self.anew || other.anew;
        weak
    }
}
