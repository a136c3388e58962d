//! Transactions whose verification has started and that have not begun in this log yet (KIP-890).

use std::collections::{BTreeMap, HashMap};

use crate::types::VerificationGuard;

/// Limit of open verifications in one log; past it the oldest is removed, and its batch refused.
const MAX_OPEN: usize = 10_000;

/// The verification of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verification {
    guard: u64,
    epoch: i16,
    /// The lowest first sequence that was seen: a later batch must not be the first one to be written.
    lowest_sequence: i32,
}

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Verifications {
    open: HashMap<i64, Verification>,
    /// Guard -> producer: the oldest first.
    by_age: BTreeMap<u64, i64>,
    given: u64,
}

impl Verifications {
    /// Returns the guard for a producer's batch that begins its transaction here.
    pub(super) fn begin(&mut self, producer_id: i64, epoch: i16, first_sequence: i32) -> VerificationGuard {
        if let Some(known) = self.open.get_mut(&producer_id)
            && known.epoch == epoch
        {
            known.lowest_sequence = known.lowest_sequence.min(first_sequence);
            return VerificationGuard(known.guard);
        }
        self.remove(producer_id);
        if self.open.len() >= MAX_OPEN
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.open.remove(&oldest);
        }
        self.given += 1;
        self.by_age.insert(self.given, producer_id);
        self.open.insert(producer_id, Verification { guard: self.given, epoch, lowest_sequence: first_sequence });
        VerificationGuard(self.given)
    }

    pub(super) fn is_current(&self, producer_id: i64, guard: VerificationGuard) -> bool {
        self.open.get(&producer_id).is_some_and(|open| open.guard == guard.0)
    }

    /// Whether an earlier batch of the transaction is still to be written.
    pub(super) fn waits_for_earlier(&self, producer_id: i64, epoch: i16, first_sequence: i32) -> bool {
        self.open.get(&producer_id).is_some_and(|open| open.epoch == epoch && open.lowest_sequence < first_sequence)
    }

    /// Removes the verification: the transaction has begun, or ended.
    pub(super) fn remove(&mut self, producer_id: i64) {
        if !self.open.is_empty()
            && let Some(open) = self.open.remove(&producer_id)
        {
            self.by_age.remove(&open.guard);
        }
    }

    /// Cancels the verification: the coordinator does not know the transaction.
    pub(super) fn cancel(&mut self, producer_id: i64, guard: VerificationGuard) {
        if self.is_current(producer_id, guard) {
            self.remove(producer_id);
        }
    }
}
