//! Producer state of one log: idempotence (KIP-98, KIP-185, KIP-890), open transactions, first unstable offset.
//!
//! Pure: the log applies batches in order and calls `check` before it appends. Kafka's rules: the last five batches of each
//! producer are remembered, so that a retry is answered with its first offsets; a sequence must follow on the last one within an
//! epoch and begin at 0 in a new epoch; an unknown producer may begin anywhere, but in a log that was never written to at 0
//! (KAFKA-15591).

mod snapshot;
#[cfg(test)]
mod tests;
mod verification;

use std::collections::{BTreeMap, HashMap, VecDeque};

use thiserror::Error;

use crate::{
    BatchHeader,
    types::{OpenTransaction, Origin, ProducerInfo, VerificationGuard},
};
use verification::Verifications;

/// Batches remembered for each producer.
const REMEMBERED: usize = 5;

/// Why a producer's batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProducerError {
    /// The epoch is older than the one seen last (Kafka: INVALID_PRODUCER_EPOCH).
    #[error("producer {producer_id} epoch {epoch} is older than its last epoch {current}")]
    InvalidEpoch {
        /// Producer id.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// Epoch of the state.
        current: i16,
    },
    /// The sequence does not follow on the last one (Kafka: OUT_OF_ORDER_SEQUENCE_NUMBER).
    #[error("producer {producer_id} epoch {epoch} sent sequence {first_sequence}, the last one was {last_sequence}")]
    OutOfOrderSequence {
        /// Producer id.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// First sequence of the batch.
        first_sequence: i32,
        /// Last sequence of the state, -1 if none.
        last_sequence: i32,
    },
    /// A non-transactional batch while a transaction is open (Kafka: INVALID_TXN_STATE).
    #[error(
        "producer {producer_id} has an open transaction since offset {first_offset} but sent a non-transactional batch"
    )]
    InvalidTxnState {
        /// Producer id.
        producer_id: i64,
        /// First offset of the open transaction.
        first_offset: i64,
    },
    /// A batch that would begin a transaction that the coordinator does not know, or that has ended since the verification (Kafka:
    /// INVALID_TXN_STATE).
    #[error("producer {producer_id} sent a batch that is not part of an ongoing transaction")]
    NotVerified {
        /// Producer id.
        producer_id: i64,
    },
    /// A marker of an older coordinator (Kafka: TRANSACTION_COORDINATOR_FENCED).
    #[error("marker for producer {producer_id} has coordinator epoch {epoch}, {current} was seen already")]
    CoordinatorFenced {
        /// Producer id.
        producer_id: i64,
        /// Epoch in the marker.
        epoch: i32,
        /// Epoch of the state.
        current: i32,
    },
}

/// One remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchMetadata {
    pub last_sequence: i32,
    pub last_offset: i64,
    pub offset_delta: i32,
    pub timestamp: i64,
}

impl BatchMetadata {
    fn first_sequence(&self) -> i32 {
        sequence_minus(self.last_sequence, self.offset_delta)
    }

    pub(crate) fn first_offset(&self) -> i64 {
        self.last_offset.saturating_sub(i64::from(self.offset_delta))
    }
}

/// `sequence + delta`, where 0 follows on 2147483647.
pub(crate) fn sequence_plus(sequence: i32, delta: i32) -> i32 {
    (i64::from(sequence) + i64::from(delta)).rem_euclid(1 << 31) as i32
}

fn sequence_minus(sequence: i32, delta: i32) -> i32 {
    (i64::from(sequence) - i64::from(delta)).rem_euclid(1 << 31) as i32
}

/// The state of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    pub epoch: i16,
    pub batches: VecDeque<BatchMetadata>,
    pub coordinator_epoch: i32,
    pub txn_first_offset: Option<i64>,
    /// Largest timestamp of its last batch or marker, ms; -1 for none.
    pub last_timestamp: i64,
}

impl ProducerEntry {
    fn new(epoch: i16) -> Self {
        Self { epoch, batches: VecDeque::new(), coordinator_epoch: -1, txn_first_offset: None, last_timestamp: -1 }
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }
}

/// The end marker of a transaction in a control batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndMarker {
    pub commit: bool,
    pub coordinator_epoch: i32,
}

/// A transaction that a marker has just finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompletedTxn {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Offset of the marker.
    pub last_offset: i64,
    pub aborted: bool,
    /// Last stable offset right after the marker, the high watermark aside.
    pub last_stable_offset: i64,
}

/// All producers of one log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Producers {
    entries: HashMap<i64, ProducerEntry>,
    /// First offset -> producer of open transactions.
    ongoing: BTreeMap<i64, i64>,
    /// First offset -> marker offset of transactions whose marker the high watermark has not passed.
    unreplicated: BTreeMap<i64, i64>,
    verifications: Verifications,
}

impl Producers {
    /// Checks a batch before an append at `log_end`: `Some` is the earlier batch that this one repeats, `None` means append.
    pub(crate) fn check(
        &self,
        header: &BatchHeader,
        marker: Option<EndMarker>,
        origin: Origin,
        log_end: i64,
    ) -> Result<Option<BatchMetadata>, ProducerError> {
        if header.producer_id < 0 {
            return Ok(None);
        }
        let entry = self.entries.get(&header.producer_id);
        if let Some(marker) = marker {
            return entry.map_or(Ok(()), |entry| check_marker(entry, header, marker, origin)).map(|()| None);
        }
        let transaction_v2 = match origin {
            Origin::Client { transaction_v2 } | Origin::Transaction { transaction_v2, .. } => transaction_v2,
            Origin::TransactionalOffsets { guard } => {
                entry.map_or(Ok(()), |entry| check_epoch(entry, header))?;
                return self.check_guard(entry, header, guard).map(|()| None);
            }
            Origin::Coordinator { .. } => {
                return entry.map_or(Ok(()), |entry| check_epoch(entry, header)).map(|()| None);
            }
        };
        let first_sequence = header.base_sequence;
        let out_of_order = |last_sequence| ProducerError::OutOfOrderSequence {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence,
            last_sequence,
        };
        if let Some(entry) = entry
            && header.producer_epoch == entry.epoch
        {
            let last = sequence_plus(first_sequence, header.last_offset_delta);
            let same = |b: &&BatchMetadata| b.first_sequence() == first_sequence && b.last_sequence == last;
            if let Some(batch) = entry.batches.iter().find(same) {
                return Ok(Some(*batch));
            }
        }
        if let Origin::Transaction { guard, .. } = origin {
            self.check_guard(entry, header, guard)?;
        }
        let Some(entry) = entry else {
            if self.verifications.waits_for_earlier(header.producer_id, header.producer_epoch, first_sequence) {
                return Err(out_of_order(-1));
            }
            // The state of an unknown producer may have expired, or was deleted with its records. A transaction of version 2 must
            // begin at 0 all the same. So must a log: nothing of it can have expired, so an earlier batch in flight was refused (this
            // broker did not lead yet) and comes again. Behind a later batch it would be out of order for ever.
            let begins_at_0 = log_end == 0 || transaction_v2 && header.attributes.is_transactional();
            return match begins_at_0 && first_sequence != 0 {
                true => Err(out_of_order(-1)),
                false => Ok(None),
            };
        };
        check_epoch(entry, header)?;
        let expected = match entry.batches.back() {
            Some(batch) if header.producer_epoch == entry.epoch => sequence_plus(batch.last_sequence, 1),
            _ => 0,
        };
        if first_sequence != expected {
            return Err(out_of_order(entry.last_sequence()));
        }
        if let Some(first_offset) = entry.txn_first_offset
            && !header.attributes.is_transactional()
        {
            return Err(ProducerError::InvalidTxnState { producer_id: header.producer_id, first_offset });
        }
        Ok(None)
    }

    fn check_guard(
        &self,
        entry: Option<&ProducerEntry>,
        header: &BatchHeader,
        guard: VerificationGuard,
    ) -> Result<(), ProducerError> {
        let goes_on = entry.is_some_and(|e| e.epoch == header.producer_epoch && e.txn_first_offset.is_some());
        if goes_on || !header.attributes.is_transactional() || self.verifications.is_current(header.producer_id, guard)
        {
            return Ok(());
        }
        Err(ProducerError::NotVerified { producer_id: header.producer_id })
    }

    /// Returns the guard for a batch that may begin its producer's transaction here; `None` if the transaction is open already.
    pub(crate) fn begin_verification(
        &mut self,
        producer_id: i64,
        epoch: i16,
        first_sequence: i32,
    ) -> Option<VerificationGuard> {
        let entry = self.entries.get(&producer_id);
        let goes_on = entry.is_some_and(|e| e.epoch == epoch && e.txn_first_offset.is_some());
        (!goes_on).then(|| self.verifications.begin(producer_id, epoch, first_sequence))
    }

    /// Cancels a verification: the coordinator does not know the transaction of this guard.
    pub(crate) fn cancel_verification(&mut self, producer_id: i64, guard: VerificationGuard) {
        self.verifications.cancel(producer_id, guard);
    }

    /// Applies a batch that is in the log from `base_offset` on (also one that another leader checked).
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        base_offset: i64,
        marker: Option<EndMarker>,
    ) -> Option<CompletedTxn> {
        if header.producer_id < 0 {
            return None;
        }
        let last_offset = base_offset.saturating_add(i64::from(header.last_offset_delta));
        let entry = self.entries.entry(header.producer_id).or_insert_with(|| ProducerEntry::new(header.producer_epoch));
        entry.enter_epoch(header.producer_epoch);
        entry.last_timestamp = header.max_timestamp;
        if marker.is_some() || header.attributes.is_transactional() {
            self.verifications.remove(header.producer_id);
        }
        if let Some(marker) = marker {
            entry.coordinator_epoch = marker.coordinator_epoch;
            let first_offset = entry.txn_first_offset.take()?;
            self.ongoing.remove(&first_offset);
            self.unreplicated.insert(first_offset, last_offset);
            let last_stable_offset = self.ongoing.keys().next().copied().unwrap_or(last_offset.saturating_add(1));
            return Some(CompletedTxn {
                producer_id: header.producer_id,
                first_offset,
                last_offset,
                aborted: !marker.commit,
                last_stable_offset,
            });
        }
        if header.attributes.is_control() {
            return None;
        }
        if header.base_sequence >= 0 {
            if entry.batches.len() >= REMEMBERED {
                entry.batches.pop_front();
            }
            entry.batches.push_back(BatchMetadata {
                last_sequence: sequence_plus(header.base_sequence, header.last_offset_delta),
                last_offset,
                offset_delta: header.last_offset_delta,
                timestamp: header.max_timestamp,
            });
        }
        if header.attributes.is_transactional() && entry.txn_first_offset.is_none() {
            entry.txn_first_offset = Some(base_offset);
            self.ongoing.insert(base_offset, header.producer_id);
        }
        None
    }

    /// First offset of the oldest transaction that is open, or finished by a marker the high watermark has not passed.
    pub(crate) fn first_unstable_offset(&self) -> Option<i64> {
        let (open, finished) = (self.ongoing.keys().next(), self.unreplicated.keys().next());
        open.into_iter().chain(finished).min().copied()
    }

    /// The open transaction that began first.
    pub(crate) fn oldest_open(&self) -> Option<OpenTransaction> {
        let (first_offset, producer_id) = self.ongoing.first_key_value()?;
        let last_timestamp = self.entries.get(producer_id).map_or(-1, |entry| entry.last_timestamp);
        Some(OpenTransaction { producer_id: *producer_id, first_offset: *first_offset, last_timestamp })
    }

    /// Whether an advance of the high watermark can change the first unstable offset.
    pub(crate) fn awaits_high_watermark(&self) -> bool {
        !self.unreplicated.is_empty()
    }

    /// Removes finished transactions whose marker lies below the high watermark: they no longer bound the last stable offset.
    pub(crate) fn advance_high_watermark(&mut self, high_watermark: i64) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    /// Removes finished transactions whose marker lies below the log start.
    pub(crate) fn forget_finished_below(&mut self, log_start_offset: i64) {
        self.unreplicated.retain(|_, marker| *marker >= log_start_offset);
    }

    /// Removes producers without an open transaction that wrote nothing for `expiration_ms`.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.entries.retain(|_, entry| {
            entry.txn_first_offset.is_some() || now_ms.saturating_sub(entry.last_timestamp) < expiration_ms
        });
    }

    /// Removes all state.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The producers for DescribeProducers, in order of id.
    pub(crate) fn describe(&self) -> Vec<ProducerInfo> {
        let mut found: Vec<ProducerInfo> = self
            .entries
            .iter()
            .map(|(producer_id, entry)| ProducerInfo {
                producer_id: *producer_id,
                producer_epoch: entry.epoch,
                last_sequence: entry.last_sequence(),
                last_timestamp: entry.last_timestamp,
                coordinator_epoch: entry.coordinator_epoch,
                current_txn_start_offset: entry.txn_first_offset.unwrap_or(-1),
            })
            .collect();
        found.sort_by_key(|info| info.producer_id);
        found
    }

    /// Of each producer: offset of the last record of its last data batch, `None` if none is known, and its epoch.
    pub(crate) fn last_data_offsets(&self) -> HashMap<i64, (Option<i64>, i16)> {
        let last = |entry: &ProducerEntry| (entry.batches.back().map(|batch| batch.last_offset), entry.epoch);
        self.entries.iter().map(|(producer_id, entry)| (*producer_id, last(entry))).collect()
    }

    /// Number of producers with state.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn check_epoch(entry: &ProducerEntry, header: &BatchHeader) -> Result<(), ProducerError> {
    if header.producer_epoch < entry.epoch {
        return Err(ProducerError::InvalidEpoch {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            current: entry.epoch,
        });
    }
    Ok(())
}

/// KIP-890: a marker of transaction version 2 carries a bumped epoch; the same epoch is only a retry of one that is done.
fn check_marker(
    entry: &ProducerEntry,
    header: &BatchHeader,
    marker: EndMarker,
    origin: Origin,
) -> Result<(), ProducerError> {
    check_epoch(entry, header)?;
    let must_be_higher = matches!(origin, Origin::Coordinator { transaction_v2: true });
    if must_be_higher && header.producer_epoch == entry.epoch && entry.txn_first_offset.is_some() {
        return Err(ProducerError::InvalidEpoch {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            current: entry.epoch,
        });
    }
    if marker.coordinator_epoch < entry.coordinator_epoch {
        return Err(ProducerError::CoordinatorFenced {
            producer_id: header.producer_id,
            epoch: marker.coordinator_epoch,
            current: entry.coordinator_epoch,
        });
    }
    Ok(())
}
