//! Changes of a transaction that several requests lead to: fenced, complete, under another producer id.

use esker_protocol::primitives::Str;

use super::decision::Effects;
use super::state::TransactionShard;
use super::transactional_id::{LAST_EPOCH, NO_EPOCH, NO_PRODUCER_ID, State, Transaction};

impl TransactionShard {
    /// The records and markers of a transaction that outlived its time-out and was fenced.
    pub(super) fn abort_timed_out(&self, id: &Str, next: Transaction) -> Effects {
        let mut effects = self.change(id, next, None);
        effects.events.push((id.clone(), "it lasted longer than its time-out and is aborted"));
        effects
    }

    /// The end of an ongoing transaction that its producer did not request: the epoch rises, which fences the producer. `None` if
    /// that takes a `fresh` producer id: in transaction version 2 the producer may learn the epoch that follows, and the last
    /// epoch is given to none.
    pub(super) fn fence_producer(&self, known: &Transaction, fresh: Option<i64>, now: i64) -> Option<Transaction> {
        let bumps = self.version >= 2;
        let rotates = bumps && known.is_exhausted();
        if rotates && fresh.is_none() {
            return None;
        }
        Some(Transaction {
            state: State::PrepareAbort,
            updated_ms: now,
            next_producer_id: fresh.filter(|_| rotates).unwrap_or(NO_PRODUCER_ID),
            epoch: known.epoch.saturating_add(1),
            last_epoch: if bumps { known.epoch } else { NO_EPOCH },
            client_version: self.version,
            ..known.clone()
        })
    }
}

/// A complete transaction whose producer id has no epoch left continues under a fresh producer id.
pub(super) fn rotate_producer_id(known: &Transaction, producer_id: i64, now: i64) -> Transaction {
    Transaction {
        producer_id,
        previous_producer_id: known.producer_id,
        next_producer_id: NO_PRODUCER_ID,
        epoch: 0,
        last_epoch: LAST_EPOCH,
        updated_ms: now,
        ..known.clone()
    }
}

/// What a transaction becomes when its markers are written.
pub(super) fn complete_transaction(known: &Transaction, now: i64) -> Transaction {
    let rotates = known.bumps_epoch() && known.next_producer_id != NO_PRODUCER_ID;
    Transaction {
        state: if known.state == State::PrepareCommit { State::CompleteCommit } else { State::CompleteAbort },
        producer_id: if rotates { known.next_producer_id } else { known.producer_id },
        previous_producer_id: known.producer_id,
        next_producer_id: NO_PRODUCER_ID,
        epoch: if rotates { 0 } else { known.epoch },
        partitions: Default::default(),
        updated_ms: now,
        ..known.clone()
    }
}
