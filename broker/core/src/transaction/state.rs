//! The state of a coordinator: the transactional ids of one partition of `__transaction_state`, and when time is up for them.
//!
//! At the bottom: requests and time (the files beside this one) read it, `apply` and replay change it. Must never decide a request.

use std::collections::{BTreeSet, HashMap};

use esker_protocol::primitives::Str;

use super::decision::{Action, Effects, Markers, Reply, TransactionRecord};
use super::transactional_id::{State, Transaction};
use crate::coordinator::Token;

/// The rules that the broker's config sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `transaction.max.timeout.ms`.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: how often at most transactions time out.
    pub abort_interval_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`: how often at most ids expire.
    pub expiry_interval_ms: i64,
}

/// The state of one partition's coordinator.
#[derive(Debug)]
pub struct TransactionShard {
    pub(super) limits: Limits,
    /// The cluster's `transaction.version`.
    pub(super) version: i16,
    pub(super) transactions: HashMap<Str, Transaction>,
    /// When transactions that are ongoing time out.
    pub(super) ongoing: BTreeSet<(i64, Str)>,
    /// When ids that are not used expire.
    pub(super) idle: BTreeSet<(i64, Str)>,
    /// When they were looked at last.
    pub(super) aborted_at: i64,
    pub(super) expired_at: i64,
    /// What time does could not be written: not again before.
    pub(super) not_before: i64,
}

impl TransactionShard {
    /// An empty shard in a cluster of this `transaction.version`.
    pub fn new(limits: Limits, version: i16) -> Self {
        Self {
            limits,
            version,
            transactions: HashMap::new(),
            ongoing: BTreeSet::new(),
            idle: BTreeSet::new(),
            aborted_at: i64::MIN,
            expired_at: i64::MIN,
            not_before: i64::MIN,
        }
    }

    /// The cluster's `transaction.version` is this now.
    pub fn set_version(&mut self, version: i16) {
        self.version = version;
    }

    /// The state of an id after a change, to be written; `reply` is given when it is committed.
    pub(super) fn change(&self, id: &Str, transaction: Transaction, reply: Option<(Token, Reply)>) -> Effects {
        let actions = Markers::of_state(id, &transaction).map(Action::WriteMarkers).into_iter().collect();
        // What a client of version 2 was promised must be in the record, whatever the cluster's version is by now.
        let version = i16::from(self.version >= 1 || transaction.client_version >= 1);
        let record = TransactionRecord { id: id.detached(), transaction: Some(transaction), version };
        Effects { records: vec![record], on_commit: reply.into_iter().collect(), actions, ..Effects::default() }
    }

    pub(super) fn replace_transaction(&mut self, id: Str, transaction: Option<Transaction>) {
        if let Some(old) = self.transactions.get(&id) {
            match self.deadline(old) {
                Deadline::TimeOut(at) => self.ongoing.remove(&(at, id.clone())),
                Deadline::Expiry(at) => self.idle.remove(&(at, id.clone())),
                Deadline::None => false,
            };
        }
        let Some(transaction) = transaction else {
            self.transactions.remove(&id);
            return;
        };
        match self.deadline(&transaction) {
            Deadline::TimeOut(at) => self.ongoing.insert((at, id.clone())),
            Deadline::Expiry(at) => self.idle.insert((at, id.clone())),
            Deadline::None => false,
        };
        self.transactions.insert(id, transaction);
    }

    fn deadline(&self, transaction: &Transaction) -> Deadline {
        match transaction.state {
            State::Ongoing => Deadline::TimeOut(transaction.time_out_at()),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                Deadline::Expiry(transaction.updated_ms.saturating_add(self.limits.id_expiration_ms))
            }
            State::PrepareCommit | State::PrepareAbort | State::Dead | State::PrepareEpochFence => Deadline::None,
        }
    }
}

enum Deadline {
    TimeOut(i64),
    Expiry(i64),
    None,
}
