//! What is decided: the record of a transactional id, replies, actions of the shell, and what changes beside records.
//!
//! Every request returns [`Effects`], and [`StateMachine::apply`](crate::coordinator::StateMachine::apply) consumes them. Must never
//! decide anything: requests import this file.

use std::convert::Infallible;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::transactional_id::{State, Transaction};
use crate::coordinator;

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// The id.
    pub id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// A code for each partition of the request, in order; or one code for all.
pub type VerificationResult = Result<Vec<ErrorCode>, ErrorCode>;

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
    /// To InitProducerId and EndTxn: the producer id and epoch that the producer uses next.
    Producer(Result<Producer, ErrorCode>),
    /// To AddPartitionsToTxn and AddOffsetsToTxn.
    Added(ErrorCode),
    /// To a verification.
    Verified(VerificationResult),
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

impl Markers {
    /// The markers that follow from the state of a transactional id.
    pub(super) fn of_state(id: &Str, transaction: &Transaction) -> Option<Self> {
        transaction.state.is_prepared().then(|| Self {
            id: id.detached(),
            producer_id: transaction.producer_id,
            epoch: transaction.epoch,
            commit: transaction.state == State::PrepareCommit,
            topics: transaction.by_topic(),
            // Above the last epoch there is none: where a producer had that one, its marker cannot have a newer.
            version: if transaction.is_past_last_epoch() { 1 } else { transaction.client_version },
        })
    }
}

/// What the shell does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the markers, then call [`super::TransactionShard::markers_written`].
    WriteMarkers(Markers),
    /// Get a producer id that was never given, then call [`super::TransactionShard::abort_late`] with it.
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
