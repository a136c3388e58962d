//! What a partition of an internal topic says, batch by batch.
//!
//! Records of a transaction are handed on with their producer; the machine holds them until its marker comes by.

use bytes::Bytes;
use esker_core::coordinator::StateMachine;
use esker_protocol::records::{Batch, Batches, ControlType};

use crate::replica::Partition;

/// What one batch of the topic may unpack to.
const MAX_BATCH: usize = 64 << 20;

/// A replay under way.
pub(super) struct Replay<'a, M> {
    machine: M,
    partition: &'a Partition,
    now_ms: i64,
    records: usize,
}

impl<'a, M: StateMachine> Replay<'a, M> {
    pub(super) fn new(machine: M, partition: &'a Partition, now_ms: i64) -> Self {
        Self { machine, partition, now_ms, records: 0 }
    }

    /// Takes whole batches, which follow on those before.
    pub(super) fn take(&mut self, records: Bytes) {
        for batch in Batches::new(records).flatten() {
            self.take_batch(&batch);
        }
    }

    /// The machine, and how many records were read.
    pub(super) fn finish(self) -> (M, usize) {
        (self.machine, self.records)
    }

    fn take_batch(&mut self, batch: &Batch) {
        let (topic, partition) = (self.partition.topic(), self.partition.index());
        let Ok(records) = batch.records(MAX_BATCH) else {
            tracing::error!(topic, partition, "a batch is damaged and left out");
            return;
        };
        let (attributes, producer) = (batch.header.attributes, batch.header.producer_id);
        for record in records.flatten() {
            let Some(key) = record.key else { continue };
            if attributes.is_control() {
                match ControlType::parse(&key) {
                    Some(ControlType::Commit) => self.machine.transaction_ended(producer, true, self.now_ms),
                    Some(ControlType::Abort) => self.machine.transaction_ended(producer, false, self.now_ms),
                    _ => {}
                }
                continue;
            }
            self.records += 1;
            let writer = attributes.is_transactional().then_some(producer);
            if let Err(error) = self.machine.replay(key, record.value, writer, self.now_ms) {
                tracing::error!(%error, topic, partition, "a record cannot be read");
            }
        }
    }
}
