//! Loading: replays a partition of an internal topic, batch by batch.
//!
//! Records of a transaction are passed to the machine with their producer; the machine holds them until the marker.
//!
//! Must never: give a machine that lacks something that the log has or had. Whatever cannot be read fails the load.

use std::sync::Arc;

use bytes::Bytes;
use esker_core::coordinator::StateMachine;
use esker_protocol::primitives::DecodeError;
use esker_protocol::records::{Batch, BatchError, Batches, ControlType};
use esker_storage::ReadError;
use thiserror::Error;

use crate::replica::Partition;

/// Bytes read at once.
const LOAD_BYTES: usize = 4 << 20;
/// What one batch of the topic may unpack to.
const MAX_BATCH: usize = 64 << 20;

/// Why a partition's state cannot be loaded.
#[derive(Debug, Error)]
pub(super) enum LoadError {
    /// The log cannot be read.
    #[error("the log cannot be read from offset {at} of {end}: {source}")]
    Read {
        /// The requested offset.
        at: i64,
        /// The log end offset.
        end: i64,
        /// Why not.
        source: ReadError,
    },
    /// The log ends before its end offset.
    #[error("the log ends at offset {at} and not at {end}: the records between are missing")]
    Short {
        /// The offset that nothing is found at.
        at: i64,
        /// The log end offset.
        end: i64,
    },
    /// A batch cannot be read.
    #[error("the batch at offset {at} is damaged: {source}")]
    Batch {
        /// Its base offset, or that of the batch before.
        at: i64,
        /// What is wrong.
        source: BatchError,
    },
    /// A record's key or value cannot be read.
    #[error("the record at offset {at} cannot be read: {source}")]
    Record {
        /// Its offset.
        at: i64,
        /// What is wrong.
        source: DecodeError,
    },
}

/// Gives `machine` all that a partition's log has; also how many records that is.
pub(super) fn replay<M: StateMachine>(machine: M, partition: &Partition, now: i64) -> Result<(M, usize), LoadError> {
    let log = partition.log();
    let end = log.log_end_offset();
    let mut at = log.log_start_offset();
    let mut replay = Replay { machine, now, records: 0 };
    while at < end {
        let log = partition.log();
        let read = match log.read(at, LOAD_BYTES, end, true) {
            // The replica has moved to another log dir meanwhile.
            Err(ReadError::Closed) if !Arc::ptr_eq(&log, &partition.log()) => continue,
            read => read.map_err(|source| LoadError::Read { at, end, source })?,
        };
        if read.next_offset <= at {
            return Err(LoadError::Short { at, end });
        }
        replay.take_batches(at, read.records)?;
        at = read.next_offset;
    }
    Ok((replay.machine, replay.records))
}

struct Replay<M> {
    machine: M,
    now: i64,
    records: usize,
}

impl<M: StateMachine> Replay<M> {
    /// Takes whole batches, which follow on those before.
    fn take_batches(&mut self, mut at: i64, records: Bytes) -> Result<(), LoadError> {
        let mut batches = Batches::new(records);
        for batch in &mut batches {
            let batch = batch.map_err(|source| LoadError::Batch { at, source })?;
            at = batch.header.base_offset;
            batch.verify_crc().map_err(|source| LoadError::Batch { at, source })?;
            self.take_batch(&batch)?;
        }
        // A batch that is cut off ends the iteration in silence.
        match batches.rest().len() {
            0 => Ok(()),
            available => {
                Err(LoadError::Batch { at, source: BatchError::Truncated { needed: available + 1, available } })
            }
        }
    }

    fn take_batch(&mut self, batch: &Batch) -> Result<(), LoadError> {
        let damaged = |source| LoadError::Batch { at: batch.header.base_offset, source };
        let (attributes, producer) = (batch.header.attributes, batch.header.producer_id);
        for record in batch.records(MAX_BATCH).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            let at = record.offset;
            let Some(key) = record.key else { continue };
            if attributes.is_control() {
                match ControlType::parse(&key) {
                    Some(ControlType::Commit) => self.machine.transaction_ended(producer, true, self.now),
                    Some(ControlType::Abort) => self.machine.transaction_ended(producer, false, self.now),
                    _ => {}
                }
                continue;
            }
            self.records += 1;
            let writer = attributes.is_transactional().then_some(producer);
            let replayed = self.machine.replay(key, record.value, writer, self.now);
            replayed.map_err(|source| LoadError::Record { at, source })?;
        }
        Ok(())
    }
}
