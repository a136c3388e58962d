//! What the clients know: what was sent, what was acknowledged, what was seen. It outlives the broker.

use std::collections::{BTreeMap, BTreeSet};

use crate::compaction::Compacted;
use crate::deletion::{Recreated, Trimmed};
use crate::transactions::Transactions;

/// Partitions of the topic.
pub const PARTITIONS: usize = 2;

/// A batch that is sent until it is acknowledged.
#[derive(Debug, Clone)]
pub struct Pending {
    pub sequence: i32,
    pub values: Vec<String>,
}

/// What a producer sent to one partition.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    pub next_sequence: i32,
    pub pending: Option<Pending>,
}

/// An idempotent producer.
#[derive(Debug, Clone, Default)]
pub struct Producer {
    pub id: Option<(i64, i16)>,
    pub sent: [Sent; PARTITIONS],
}

/// Offsets of the group in one partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Committed {
    /// The last one that was acknowledged.
    pub acknowledged: i64,
    /// The last one that was sent.
    pub sent: i64,
}

/// A member of the group, from its acknowledged SyncGroup on.
#[derive(Debug, Clone)]
pub struct Member {
    pub id: String,
    pub generation: i32,
}

/// What one fetch returned.
#[derive(Debug)]
pub struct Fetched {
    pub values: BTreeMap<i64, String>,
    /// The broker, or a batch's CRC, says that nothing sound is there.
    pub damaged_at: Option<i64>,
}

/// Counts for the report.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub cuts: usize,
    pub acknowledged: usize,
    pub checked: usize,
    pub commits: usize,
    /// Records that the consumer read and that were not acknowledged, and that a power cut took.
    pub read_and_lost: usize,
    /// Fetches that met rot and were told so.
    pub rot_reported: usize,
    /// Faults of the disk that happened, by kind.
    pub faults: BTreeMap<&'static str, usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Model {
    pub topic_exists: bool,
    pub producers: Vec<Producer>,
    pub producer_ids: BTreeSet<i64>,
    /// Records that were acknowledged, by partition and offset.
    pub acknowledged: [BTreeMap<i64, String>; PARTITIONS],
    /// Records that the consumer read.
    pub seen: [BTreeMap<i64, String>; PARTITIONS],
    pub member: Option<Member>,
    pub committed: [Committed; PARTITIONS],
    /// Batches of each partition that were acknowledged.
    pub acknowledged_batches: [usize; PARTITIONS],
    /// Batches that rot may have taken: what was in them, by partition and first offset.
    pub rotten: [BTreeMap<i64, BTreeMap<i64, String>>; PARTITIONS],
    pub transactions: Transactions,
    pub compacted: Compacted,
    pub trimmed: Trimmed,
    pub recreated: Recreated,
    pub counts: Counts,
    /// The first rule that was broken.
    pub violation: Option<String>,
}

impl Model {
    pub fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// The values of a fetch, with those of a rotten batch that the broker reports as damaged. `None`: sound data is reported so.
    pub fn step_over_rot(&mut self, partition: usize, fetched: Fetched) -> Option<BTreeMap<i64, String>> {
        let mut values = fetched.values;
        if let Some(at) = fetched.damaged_at {
            let batches = self.rotten[partition].values();
            let batch = batches.filter_map(|batch| batch.get_key_value(&at).map(|_| batch)).next()?;
            values.extend(batch.range(at..).map(|(offset, value)| (*offset, value.clone())));
            self.counts.rot_reported += 1;
        }
        Some(values)
    }

    /// Holds the content of a partition against what was acknowledged: all of it there, once, in order, and nothing that was never sent.
    pub fn check_log(&mut self, partition: usize, log: &BTreeMap<i64, String>) -> Result<(), String> {
        for (offset, value) in &self.acknowledged[partition] {
            if log.get(offset) != Some(value) {
                let found = log.get(offset);
                return Err(format!("t-{partition}: {value} was acknowledged at {offset}; found {found:?}"));
            }
        }
        // Consumers read only what is durable: a power cut takes nothing of it.
        let read = self.seen[partition].len();
        self.seen[partition].retain(|offset, value| log.get(offset) == Some(value));
        self.counts.read_and_lost += read - self.seen[partition].len();
        if !log.keys().copied().eq(0..log.len() as i64) {
            return Err(format!("t-{partition}: the offsets have gaps"));
        }
        let mut next: BTreeMap<usize, usize> = BTreeMap::new();
        for (offset, value) in log {
            let (producer, number) = value.split_once('-').unwrap();
            let (producer, number): (usize, usize) = (producer.parse().unwrap(), number.parse().unwrap());
            let expected = next.entry(producer).or_default();
            if number != *expected {
                return Err(format!("t-{partition}: {value} at {offset}, and {expected} comes next of that producer"));
            }
            *expected += 1;
        }
        for (number, producer) in self.producers.iter().enumerate() {
            let sent = &producer.sent[partition];
            let pending = sent.pending.as_ref().map_or(0, |pending| pending.values.len());
            let (least, found) = (sent.next_sequence as usize, next.remove(&number).unwrap_or_default());
            if found != least && found != least + pending {
                return Err(format!(
                    "t-{partition}: {found} records of producer {number}; {least} acknowledged, {pending} pending"
                ));
            }
        }
        self.counts.checked += log.len();
        Ok(())
    }
}
