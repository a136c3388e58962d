//! InitProducerId: which producer writes under a transactional id from now on.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::decision::{Effects, Producer, Reply};
use super::state::TransactionShard;
use super::transactional_id::{LAST_EPOCH, NO_EPOCH, NO_PRODUCER_ID, State, Transaction};
use super::transitions::rotate_producer_id;
use crate::coordinator::Token;

/// InitProducerId of a producer with a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitRequest {
    /// The transactional id.
    pub id: Str,
    /// `transaction.timeout.ms`.
    pub timeout_ms: i32,
    /// The producer id and epoch that the producer has, if it continues (KIP-360).
    pub current: Option<Producer>,
}

/// A change that stands, or what it lacks.
enum Outcome {
    Becomes(Transaction),
    NeedsProducerId,
}

impl TransactionShard {
    /// Gives a transactional id to a producer and fences the producer that had it. `fresh` is a producer id that was never given, where the
    /// shell has one: without it the reply may be [`Reply::NeedsProducerId`].
    pub fn init(&self, request: &InitRequest, fresh: Option<i64>, token: Token, now: i64) -> Effects {
        let refuse = |error| Effects { on_commit: vec![(token, Reply::Producer(Err(error)))], ..Effects::default() };
        if request.id.is_empty() {
            return refuse(ErrorCode::INVALID_REQUEST);
        }
        if request.timeout_ms <= 0 || request.timeout_ms > self.limits.max_timeout_ms {
            return refuse(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        }
        match self.next_of(request, fresh, now) {
            Ok(Outcome::NeedsProducerId) => {
                Effects { replies: vec![(token, Reply::NeedsProducerId)], ..Effects::default() }
            }
            Ok(Outcome::Becomes(next)) if next.state == State::PrepareAbort => {
                // The client retries. By then the old producer is fenced and its transaction has ended.
                let reply = Reply::Producer(Err(ErrorCode::CONCURRENT_TRANSACTIONS));
                self.change(&request.id, next, Some((token, reply)))
            }
            Ok(Outcome::Becomes(next)) => {
                let reply = Reply::Producer(Ok(Producer { id: next.producer_id, epoch: next.epoch }));
                self.change(&request.id, next, Some((token, reply)))
            }
            Err(error) => refuse(error),
        }
    }

    fn next_of(&self, request: &InitRequest, fresh: Option<i64>, now: i64) -> Result<Outcome, ErrorCode> {
        let Some(known) = self.transactions.get(&request.id) else {
            let Some(producer_id) = fresh else { return Ok(Outcome::NeedsProducerId) };
            return Ok(Outcome::Becomes(Transaction {
                producer_id,
                previous_producer_id: producer_id,
                next_producer_id: NO_PRODUCER_ID,
                epoch: 0,
                last_epoch: NO_EPOCH,
                timeout_ms: request.timeout_ms,
                state: State::Empty,
                partitions: Default::default(),
                started_ms: -1,
                updated_ms: now,
                client_version: 0,
            }));
        };
        // As in Kafka, before the producer is checked.
        if known.state.is_prepared() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        // A producer that was given a new id when its epochs ran out, and never heard of it, comes back with the old one.
        let is_known = |current: &Producer| {
            current.id == known.producer_id || current.id == known.previous_producer_id && current.epoch >= LAST_EPOCH
        };
        if !request.current.as_ref().is_none_or(is_known) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match known.state {
            State::PrepareCommit | State::PrepareAbort | State::Dead | State::PrepareEpochFence => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            State::Ongoing => {
                Ok(self.fence_producer(known, fresh, now).map_or(Outcome::NeedsProducerId, Outcome::Becomes))
            }
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                let given = request.current.map(|current| current.epoch);
                if known.is_exhausted() && given.is_none_or(|epoch| epoch == known.epoch) {
                    let Some(producer_id) = fresh else { return Ok(Outcome::NeedsProducerId) };
                    return Ok(Outcome::Becomes(Transaction {
                        producer_id,
                        epoch: 0,
                        last_epoch: given.map_or(NO_EPOCH, |_| known.epoch),
                        ..emptied(known, request, now)
                    }));
                }
                let (epoch, last_epoch) = match given {
                    None => (known.epoch.saturating_add(1), NO_EPOCH),
                    Some(epoch) if epoch == known.epoch => (known.epoch.saturating_add(1), known.epoch),
                    // It did not hear the answer to its last request.
                    Some(epoch) if epoch == known.last_epoch => {
                        if known.is_past_last_epoch() {
                            let Some(producer_id) = fresh else { return Ok(Outcome::NeedsProducerId) };
                            return Ok(Outcome::Becomes(rotate_producer_id(
                                &emptied(known, request, now),
                                producer_id,
                                now,
                            )));
                        }
                        (known.epoch, known.last_epoch)
                    }
                    Some(_) => return Err(ErrorCode::PRODUCER_FENCED),
                };
                Ok(Outcome::Becomes(Transaction { epoch, last_epoch, ..emptied(known, request, now) }))
            }
        }
    }
}

fn emptied(known: &Transaction, request: &InitRequest, now: i64) -> Transaction {
    Transaction {
        producer_id: known.producer_id,
        previous_producer_id: known.producer_id,
        next_producer_id: NO_PRODUCER_ID,
        epoch: known.epoch,
        last_epoch: known.last_epoch,
        timeout_ms: request.timeout_ms,
        state: State::Empty,
        partitions: Default::default(),
        started_ms: -1,
        updated_ms: now,
        client_version: known.client_version,
    }
}
