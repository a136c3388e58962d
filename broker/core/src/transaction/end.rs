//! EndTxn: commit or abort, once and for all; and what the coordinator ends by itself.
//!
//! Up to transaction version 1 the producer keeps its epoch from one transaction to the next, so "the same outcome again" is a
//! retry. Version 2 (KIP-890) bumps the epoch with each transaction: a retry is known by the epoch before it, and
//! whatever an old transaction still has on the way is fenced by its epoch.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::decision::{Effects, Producer, Reply};
use super::state::TransactionShard;
use super::transactional_id::{LAST_EPOCH, NO_PRODUCER_ID, State, Transaction};
use super::transitions::{complete_transaction, rotate_producer_id};
use crate::coordinator::Token;

/// EndTxn of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndRequest {
    /// The transactional id.
    pub id: Str,
    /// The producer that sends the request.
    pub producer: Producer,
    /// Commit or abort.
    pub commit: bool,
    /// The transaction version of the request: 2 from EndTxn v5 on.
    pub client_version: i16,
}

/// What a good EndTxn finds.
enum Found {
    /// There is a transaction to end, or (version 2) an empty one to abort.
    ToEnd,
    /// It was ended this way before.
    Done,
}

impl TransactionShard {
    /// Ends the producer's transaction. `fresh` as in [`TransactionShard::init`].
    pub fn end(&self, request: &EndRequest, fresh: Option<i64>, token: Token, now: i64) -> Effects {
        let answer = |reply| Effects { on_commit: vec![(token, Reply::Producer(reply))], ..Effects::default() };
        if request.id.is_empty() {
            return answer(Err(ErrorCode::INVALID_REQUEST));
        }
        let Some(known) = self.transactions.get(&request.id) else {
            return answer(Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
        };
        let bumps = request.client_version >= 2;
        let found = if bumps { end_version_2(known, request) } else { end_version_1(known, request) };
        let done = match found {
            Err(error) => return answer(Err(error)),
            Ok(found) => matches!(found, Found::Done),
        };
        // The epoch above the last one fences its producer. No producer gets it.
        let exhausted = bumps && if done { known.is_past_last_epoch() } else { known.is_exhausted() };
        if exhausted && fresh.is_none() {
            return Effects { replies: vec![(token, Reply::NeedsProducerId)], ..Effects::default() };
        }
        if done {
            let Some(producer_id) = fresh.filter(|_| exhausted) else {
                return answer(Ok(Producer { id: known.producer_id, epoch: known.epoch }));
            };
            let reply = Reply::Producer(Ok(Producer { id: producer_id, epoch: 0 }));
            return self.change(&request.id, rotate_producer_id(known, producer_id, now), Some((token, reply)));
        }
        let next_producer_id = fresh.filter(|_| exhausted).unwrap_or(NO_PRODUCER_ID);
        let next = Transaction {
            state: if request.commit { State::PrepareCommit } else { State::PrepareAbort },
            started_ms: if known.state == State::Ongoing { known.started_ms } else { now },
            updated_ms: now,
            next_producer_id,
            epoch: if bumps { known.epoch.saturating_add(1) } else { known.epoch },
            last_epoch: if bumps { known.epoch } else { known.last_epoch },
            client_version: request.client_version,
            ..known.clone()
        };
        let goes_on = complete_transaction(&next, now);
        let reply = Reply::Producer(Ok(Producer { id: goes_on.producer_id, epoch: goes_on.epoch }));
        self.change(&request.id, next, Some((token, reply)))
    }

    /// All markers of a transaction are written: it is complete.
    pub fn markers_written(&self, id: &Str, producer: Producer, now: i64) -> Effects {
        match self.transactions.get(id) {
            Some(known)
                if known.state.is_prepared() && known.producer_id == producer.id && known.epoch == producer.epoch =>
            {
                self.change(id, complete_transaction(known, now), None)
            }
            _ => Effects::default(),
        }
    }

    /// Aborts a transaction that outlived its time-out and whose producer has no epoch left, with a producer id that was never
    /// given.
    pub fn abort_late(&self, id: &Str, fresh: i64, now: i64) -> Effects {
        match self.transactions.get(id) {
            Some(known) if known.state == State::Ongoing && known.time_out_at() <= now => {
                match self.fence_producer(known, Some(fresh), now) {
                    Some(next) => self.abort_timed_out(id, next),
                    None => Effects::default(),
                }
            }
            _ => Effects::default(),
        }
    }
}

fn end_version_1(known: &Transaction, request: &EndRequest) -> Result<Found, ErrorCode> {
    if known.producer_id != request.producer.id {
        return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    }
    if known.epoch != request.producer.epoch {
        return Err(ErrorCode::PRODUCER_FENCED);
    }
    match (known.state, request.commit) {
        (State::Ongoing, _) => Ok(Found::ToEnd),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Found::Done),
        (State::PrepareCommit | State::PrepareAbort, _) => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
        _ => Err(ErrorCode::INVALID_TXN_STATE),
    }
}

fn end_version_2(known: &Transaction, request: &EndRequest) -> Result<Found, ErrorCode> {
    // EndTxn is answered before the markers are written, so the next one may come meanwhile, with the new epoch: as in Kafka,
    // the producer retries.
    if known.state.is_prepared() {
        return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
    }
    let Producer { id, epoch } = request.producer;
    let rotated = known.producer_id != id && known.previous_producer_id == id;
    let before_rotation = rotated && epoch == LAST_EPOCH && known.epoch == 0;
    let retries = known.epoch == epoch.wrapping_add(1) || before_rotation;
    if known.producer_id != id && !before_rotation {
        return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    }
    let valid = match known.state {
        State::CompleteCommit | State::CompleteAbort => retries || epoch == known.epoch,
        _ => epoch == known.epoch,
    };
    if !valid {
        return Err(ErrorCode::PRODUCER_FENCED);
    }
    match (known.state, request.commit) {
        (State::Ongoing, _) | (State::Empty, false) => Ok(Found::ToEnd),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) if retries => Ok(Found::Done),
        // A transaction that wrote nothing.
        (State::CompleteCommit | State::CompleteAbort, false) if !retries => Ok(Found::ToEnd),
        _ => Err(ErrorCode::INVALID_TXN_STATE),
    }
}
