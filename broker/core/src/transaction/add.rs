//! AddPartitionsToTxn and AddOffsetsToTxn: what a transaction writes to; and the question whether it does (KIP-890).

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::decision::{Effects, Producer, Reply};
use super::state::TransactionShard;
use super::transactional_id::{NO_PRODUCER_ID, State, Transaction, TransactionPartition};
use crate::coordinator::Token;

/// Partitions that a producer names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddRequest {
    /// The transactional id.
    pub id: Str,
    /// The producer that sends the request.
    pub producer: Producer,
    /// The partitions; for offsets, that of the group in `__consumer_offsets`.
    pub partitions: Vec<TransactionPartition>,
    /// The transaction version of the request.
    pub client_version: i16,
}

impl TransactionShard {
    /// Adds partitions to the producer's transaction, and begins it if there is none.
    pub fn add(&self, request: &AddRequest, token: Token, now: i64) -> Effects {
        let answer = |code| Effects { on_commit: vec![(token, Reply::Added(code))], ..Effects::default() };
        // As in Kafka, before the producer is checked: any producer retries.
        if self.transactions.get(&request.id).is_some_and(|known| known.state.is_prepared()) {
            return answer(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let known = match self.current(&request.id, request.producer) {
            Ok(known) => known,
            Err(error) => return answer(error),
        };
        let mut partitions = known.partitions.clone();
        let mut more = false;
        for (topic, partition) in &request.partitions {
            more |= partitions.insert((topic.detached(), *partition));
        }
        if known.state == State::Ongoing && !more {
            return answer(ErrorCode::NONE);
        }
        let started_ms = if known.state == State::Ongoing { known.started_ms } else { now };
        let next = Transaction {
            state: State::Ongoing,
            partitions,
            started_ms,
            updated_ms: now,
            next_producer_id: NO_PRODUCER_ID,
            client_version: request.client_version,
            ..known.clone()
        };
        self.change(&request.id, next, Some((token, Reply::Added(ErrorCode::NONE))))
    }

    /// Verifies which partitions are in the producer's transaction; the producer may not write to others.
    pub fn verify(&self, request: &AddRequest, token: Token) -> Effects {
        let verdicts = self.current(&request.id, request.producer).map(|known| {
            let in_it = |partition: &TransactionPartition| match known.partitions.contains(partition) {
                true => ErrorCode::NONE,
                false => ErrorCode::TRANSACTION_ABORTABLE,
            };
            request.partitions.iter().map(in_it).collect()
        });
        Effects { on_commit: vec![(token, Reply::Verified(verdicts))], ..Effects::default() }
    }

    /// The state of an id whose transaction this producer may write in now.
    fn current(&self, id: &Str, producer: Producer) -> Result<&Transaction, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let known = self.transactions.get(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        if known.producer_id != producer.id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if known.epoch != producer.epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if known.state.is_prepared() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        Ok(known)
    }
}
