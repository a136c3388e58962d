//! The transactional ids of one partition of `__transaction_state`.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::transaction_log::{TransactionLogKey, TransactionLogValue};
use esker_protocol::primitives::{DecodeError, EncodeError, Str};

use super::add::Verdicts;
use super::init::Producer;
use super::state::{State, Transaction};
use crate::coordinator::{self, Applied, StateMachine, Token};

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

/// The state of a transactional id as it is written, or (`None`) that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRecord {
    /// The transactional id.
    pub id: Str,
    /// Its state.
    pub transaction: Option<Transaction>,
    /// The version of the record: 1 from `transaction.version` 1 on.
    pub version: i16,
}

/// An answer to a parked request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To InitProducerId and EndTxn: what the producer goes on with.
    Producer(Result<Producer, ErrorCode>),
    /// To AddPartitionsToTxn and AddOffsetsToTxn.
    Added(ErrorCode),
    /// To a verification.
    Verified(Verdicts),
    /// The same request is to be made once more with a fresh producer id.
    NeedsProducerId,
}

/// The markers of a transaction that is to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Markers {
    /// The transactional id.
    pub id: Str,
    /// Producer id in the markers.
    pub producer_id: i64,
    /// Producer epoch in the markers.
    pub epoch: i16,
    /// Commit or abort.
    pub commit: bool,
    /// Where they go, by topic.
    pub topics: Vec<(Str, Vec<i32>)>,
    /// The transaction version: from 2 on the epoch must be a new one.
    pub version: i16,
}

/// What the shell does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the markers, then call [`TransactionShard::markers_written`].
    WriteMarkers(Markers),
    /// Get a producer id that was never given, then call [`TransactionShard::abort_late`] with it.
    AbortLate(Str),
}

/// What a request leads to.
pub type Effects = coordinator::Effects<TransactionRecord, Reply, Infallible, Action, Update>;

/// What changes beside records: when time-outs and expiry were looked at last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Update {
    pub(super) aborted_at: Option<i64>,
    pub(super) expired_at: Option<i64>,
}

/// See the module.
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
    not_before: i64,
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
        let actions = markers_of(id, &transaction).map(Action::WriteMarkers).into_iter().collect();
        // What a client of version 2 was promised must be in the record, whatever the cluster's version is by now.
        let version = i16::from(self.version >= 1 || transaction.client_version >= 1);
        let record = TransactionRecord { id: id.detached(), transaction: Some(transaction), version };
        Effects { records: vec![record], on_commit: reply.into_iter().collect(), actions, ..Effects::default() }
    }

    fn put(&mut self, id: Str, transaction: Option<Transaction>) {
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

/// The markers that a state asks for.
fn markers_of(id: &Str, transaction: &Transaction) -> Option<Markers> {
    transaction.state.is_prepared().then(|| Markers {
        id: id.detached(),
        producer_id: transaction.producer_id,
        epoch: transaction.epoch,
        commit: transaction.state == State::PrepareCommit,
        topics: transaction.by_topic(),
        // Above the last epoch there is none: where a producer had that one, its marker cannot have a newer.
        version: if transaction.is_past_last_epoch() { 1 } else { transaction.client_version },
    })
}

impl StateMachine for TransactionShard {
    type Record = TransactionRecord;
    type Reply = Reply;
    type Stored = Infallible;
    type Action = Action;
    type Update = Update;
    type Event = crate::coordinator::Told;

    fn encode(record: &TransactionRecord) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let key = TransactionLogKey { transactional_id: record.id.clone() }.to_bytes()?;
        let value = record.transaction.as_ref().map(|t| t.to_record().to_bytes(record.version)).transpose()?;
        Ok((key, value))
    }

    fn replay(&mut self, key: Bytes, value: Option<Bytes>, _writer: Option<i64>, _now: i64) -> Result<(), DecodeError> {
        let Some(key) = TransactionLogKey::from_bytes(key)? else { return Ok(()) };
        let value = value.map(TransactionLogValue::from_bytes).transpose()?;
        self.put(key.transactional_id.detached(), value.and_then(Transaction::from_record));
        Ok(())
    }

    /// Transactions whose end was decided are brought to it.
    fn loaded(&mut self, _now: i64) -> Effects {
        let open = self.transactions.iter().filter_map(|(id, transaction)| markers_of(id, transaction));
        Effects { actions: open.map(Action::WriteMarkers).collect(), ..Effects::default() }
    }

    fn apply(&mut self, decision: Applied<'_, Self>) {
        for record in decision.records {
            self.put(record.id.clone(), record.transaction.clone());
        }
        self.aborted_at = decision.update.aborted_at.unwrap_or(self.aborted_at);
        self.expired_at = decision.update.expired_at.unwrap_or(self.expired_at);
    }

    fn next_deadline(&self) -> Option<i64> {
        let next = |set: &BTreeSet<(i64, Str)>, last: i64, interval: i64| {
            set.first().map(|(at, _)| (*at).max(last.saturating_add(interval)))
        };
        let abort = next(&self.ongoing, self.aborted_at, self.limits.abort_interval_ms);
        let expiry = next(&self.idle, self.expired_at, self.limits.expiry_interval_ms);
        abort.into_iter().chain(expiry).min().map(|at| at.max(self.not_before))
    }

    fn tick(&self, now: i64) -> Effects {
        self.pass_time(now)
    }

    fn postpone(&mut self, until: i64) {
        self.not_before = until;
    }
}
