//! Finds the batches of aborted transactions, and the markers without any batch left.
//!
//! Fed all batches of a log in order, with the aborted transactions that its indexes know. A marker may be removed only once no
//! batch of its transaction is left: else a reader would see the rest as open, or as committed.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{BatchHeader, index::AbortedTxn};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// By first offset; those that have not begun yet.
    coming: VecDeque<AbortedTxn>,
    /// By producer; whether a batch of it was seen.
    aborted: HashMap<i64, (AbortedTxn, bool)>,
    /// Producers with a batch of a transaction that was not aborted.
    others: HashSet<i64>,
    kept: Vec<AbortedTxn>,
}

impl Transactions {
    /// With the aborted transactions whose markers are still to come.
    pub(super) fn new(mut aborted: Vec<AbortedTxn>) -> Self {
        aborted.sort_unstable_by_key(|txn| txn.first_offset);
        Self { coming: aborted.into(), ..Self::default() }
    }

    fn begin_up_to(&mut self, offset: i64) {
        while let Some(txn) = self.coming.pop_front_if(|txn| txn.first_offset <= offset) {
            self.aborted.entry(txn.producer_id).or_insert((txn, false));
        }
    }

    /// Whether a data batch is part of an aborted transaction.
    pub(super) fn on_data(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, seen)) => {
                *seen = true;
                true
            }
            None => {
                self.others.insert(header.producer_id);
                false
            }
        }
    }

    /// Whether no batch is left that a control batch marks. `committed`: the result in its marker, `None` for an unknown marker;
    /// `empty`: an earlier compaction emptied the batch.
    pub(super) fn on_control(&mut self, header: &BatchHeader, committed: Option<bool>, empty: bool) -> bool {
        self.begin_up_to(header.last_offset());
        match committed {
            _ if empty => true,
            Some(true) => !self.others.remove(&header.producer_id),
            Some(false) => match self.aborted.remove(&header.producer_id) {
                Some((txn, true)) => {
                    self.kept.push(txn);
                    false
                }
                _ => true,
            },
            None => false,
        }
    }

    /// Aborted transactions whose marker and data were both seen since the last call: readers need their entries.
    pub(super) fn take_kept(&mut self) -> Vec<AbortedTxn> {
        std::mem::take(&mut self.kept)
    }
}
