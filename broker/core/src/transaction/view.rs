//! The results of DescribeTransactions and ListTransactions (KIP-664).

use std::collections::BTreeMap;

use esker_protocol::primitives::Str;

use super::state::TransactionShard;
use super::transactional_id::{State, Transaction};

/// One transactional id of DescribeTransactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Its state.
    pub state: &'static str,
    /// `transaction.timeout.ms` of its producer.
    pub timeout_ms: i32,
    /// When its transaction began; -1 if none did.
    pub started_ms: i64,
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Its partitions by topic.
    pub topics: Vec<(Str, Vec<i32>)>,
}

/// One row of ListTransactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionSummary {
    /// The transactional id.
    pub id: Str,
    /// Producer id.
    pub producer_id: i64,
    /// Its state.
    pub state: &'static str,
}

/// Which rows ListTransactions shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFilter {
    /// In one of these states; `None` shows all.
    pub states: Option<Vec<State>>,
    /// Of one of these producers; an empty list shows all.
    pub producer_ids: Vec<i64>,
    /// Begun longer ago than this, or never; negative shows all.
    pub longer_than_ms: i64,
}

impl ListFilter {
    fn matches(&self, transaction: &Transaction, now: i64) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&transaction.state))
            && (self.producer_ids.is_empty() || self.producer_ids.contains(&transaction.producer_id))
            && (self.longer_than_ms < 0 || now.saturating_sub(transaction.started_ms) > self.longer_than_ms)
    }
}

impl TransactionShard {
    /// One id.
    pub fn describe(&self, id: &str) -> Option<TransactionDescription> {
        let known = self.transactions.get(id)?;
        Some(TransactionDescription {
            state: known.state.name(),
            timeout_ms: known.timeout_ms,
            started_ms: known.started_ms,
            producer_id: known.producer_id,
            epoch: known.epoch,
            topics: known.by_topic(),
        })
    }

    /// Every id that a filter shows and whose name passes.
    pub fn list(&self, filter: &ListFilter, passes: impl Fn(&str) -> bool, now: i64) -> Vec<TransactionSummary> {
        let shown = self.transactions.iter().filter(|(id, transaction)| filter.matches(transaction, now) && passes(id));
        shown
            .map(|(id, transaction)| TransactionSummary {
                id: id.clone(),
                producer_id: transaction.producer_id,
                state: transaction.state.name(),
            })
            .collect()
    }

    /// How many ids are in each state.
    pub fn count_by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for transaction in self.transactions.values() {
            *counts.entry(transaction.state.name()).or_default() += 1;
        }
        counts
    }
}
