//! The coordinator as a state machine: records and replay, decisions in force, time.
//!
//! At the top of the module: nothing here may import this file.

use std::collections::BTreeSet;
use std::convert::Infallible;

use bytes::Bytes;
use esker_protocol::messages::transaction_log::{TransactionLogKey, TransactionLogValue};
use esker_protocol::primitives::{DecodeError, EncodeError, Str};

use super::decision::{Action, Effects, Markers, Reply, TransactionRecord, Update};
use super::state::TransactionShard;
use super::transactional_id::Transaction;
use crate::coordinator::{Applied, StateMachine};

impl StateMachine for TransactionShard {
    type Record = TransactionRecord;
    type Reply = Reply;
    type Stored = Infallible;
    type Action = Action;
    type Update = Update;
    type Event = crate::coordinator::NamedEvent;

    fn encode(record: &TransactionRecord) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let key = TransactionLogKey { transactional_id: record.id.clone() }.to_bytes()?;
        let value = record.transaction.as_ref().map(|t| t.to_record().to_bytes(record.version)).transpose()?;
        Ok((key, value))
    }

    fn replay(&mut self, key: Bytes, value: Option<Bytes>, _writer: Option<i64>, _now: i64) -> Result<(), DecodeError> {
        let Some(key) = TransactionLogKey::from_bytes(key)? else { return Ok(()) };
        let value = value.map(TransactionLogValue::from_bytes).transpose()?;
        self.replace_transaction(key.transactional_id.detached(), value.and_then(Transaction::from_record));
        Ok(())
    }

    /// Transactions whose end was decided are completed.
    fn loaded(&mut self, _now: i64) -> Effects {
        let open = self.transactions.iter().filter_map(|(id, transaction)| Markers::of_state(id, transaction));
        Effects { actions: open.map(Action::WriteMarkers).collect(), ..Effects::default() }
    }

    fn apply(&mut self, decision: Applied<'_, Self>) {
        for record in decision.records {
            self.replace_transaction(record.id.clone(), record.transaction.clone());
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
        self.decide_due(now)
    }

    fn postpone(&mut self, until: i64) {
        self.not_before = until;
    }
}
