//! What an answer means for each batch in the request: done, again, or failed for good.

use std::collections::HashMap;

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::produce::{PartitionProduceResponse, ProduceResponse};
use tokio::time::Instant;

use super::accumulator::{Accumulator, Queue};
use super::batch::PendingBatch;
use super::error::ProduceError;
use crate::error::Error;
use crate::metadata::TopicPartition;
use crate::retry::Backoff;

/// A batch of a partition in a request: which, and its bytes.
pub(super) type Shipment = (TopicPartition, u64, Bytes);

/// How a request ended. `None`: it was sent and has no response (acks 0).
pub(super) struct Answer {
    pub(super) node: i32,
    pub(super) shipments: Vec<Shipment>,
    pub(super) result: Result<Option<ProduceResponse>, Error>,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorClass {
    Done,
    Again,
    /// Again, under a new producer id.
    Renew,
    Failed,
}

/// `first`: no earlier batch of the partition is unsettled.
fn classify_error(code: ErrorCode, idempotent: bool, first: bool) -> ErrorClass {
    match code {
        ErrorCode::NONE => ErrorClass::Done,
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER if idempotent => ErrorClass::Done,
        // An earlier batch failed and goes again; this one follows it.
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER if idempotent && !first => ErrorClass::Again,
        ErrorCode::UNKNOWN_PRODUCER_ID | ErrorCode::INVALID_PRODUCER_EPOCH if idempotent => ErrorClass::Renew,
        code if code.is_retriable() => ErrorClass::Again,
        _ => ErrorClass::Failed,
    }
}

/// Settles or requeues the batches of one answer, and collects what the sending task has to do about it.
pub(super) struct Settlement<'a> {
    accumulator: &'a Accumulator,
    backoff: Backoff,
    /// The identity's sequence numbers have a hole: a new identity is needed.
    pub(super) renew: bool,
    /// The cached leaders are stale.
    pub(super) stale: bool,
}

impl<'a> Settlement<'a> {
    pub(super) fn new(accumulator: &'a Accumulator, backoff: Backoff) -> Self {
        Self { accumulator, backoff, renew: false, stale: false }
    }

    pub(super) fn apply_answer(&mut self, answer: Answer) {
        let parts: HashMap<(String, i32), PartitionProduceResponse> = match &answer.result {
            Ok(Some(response)) => response
                .responses
                .iter()
                .flat_map(|topic| {
                    topic.partition_responses.iter().map(|p| ((topic.name.to_string(), p.index), p.clone()))
                })
                .collect(),
            _ => HashMap::new(),
        };
        let accumulator = self.accumulator;
        let mut state = accumulator.state.lock();
        for (tp, id, _) in answer.shipments {
            let Some(queue) = state.queues.get_mut(&tp) else { continue };
            let Some(at) = queue.in_flight.iter().position(|batch| batch.id == id) else { continue };
            let Some(batch) = queue.in_flight.remove(at) else { continue };
            match &answer.result {
                Err(error) if error.is_retriable() => self.retry_batch(queue, batch, error.to_string()),
                Err(error) => self.failed(batch, ProduceError::Client(error.clone())),
                Ok(None) => accumulator.complete_batch(batch, Ok((-1, -1))),
                Ok(Some(_)) => match parts.get(&(tp.topic.to_string(), tp.partition)) {
                    Some(part) => self.apply_partition_answer(&tp, queue, batch, part),
                    None => {
                        self.retry_batch(queue, batch, "the broker left the partition out of its answer".to_owned())
                    }
                },
            }
            if queue.in_flight.is_empty() && queue.ready.iter().all(|batch| batch.attempts == 0) {
                queue.retrying = false;
            }
        }
    }

    fn apply_partition_answer(
        &mut self,
        tp: &TopicPartition,
        queue: &mut Queue,
        batch: PendingBatch,
        part: &PartitionProduceResponse,
    ) {
        let first = queue.in_flight.iter().chain(&queue.ready).all(|other| other.id > batch.id);
        match classify_error(part.error_code, self.accumulator.config.idempotent, first) {
            ErrorClass::Done => {
                queue.pause = None;
                queue.known = true;
                self.accumulator.complete_batch(batch, Ok((part.base_offset, part.log_append_time_ms)));
            }
            ErrorClass::Again => self.retry_batch(queue, batch, part.error_code.to_string()),
            ErrorClass::Renew => {
                self.renew = true;
                self.retry_batch(queue, batch, part.error_code.to_string());
            }
            ErrorClass::Failed => {
                let record = part.record_errors.first().and_then(|e| e.batch_index_error_message.as_deref());
                let message = record.or(part.error_message.as_deref()).map(str::to_owned);
                let error = ProduceError::Refused {
                    topic: tp.topic.to_string(),
                    partition: tp.partition,
                    code: part.error_code,
                    message,
                };
                self.failed(batch, error);
            }
        }
    }

    fn retry_batch(&mut self, queue: &mut Queue, mut batch: PendingBatch, reason: String) {
        tracing::debug!(batch = batch.id, reason, "a batch goes again");
        batch.last_failure = reason;
        queue.pause = Some(Instant::now() + self.backoff.pause(batch.attempts));
        batch.attempts = batch.attempts.saturating_add(1);
        queue.put_back(batch);
        self.stale = true;
    }

    /// The sequence numbers of a batch that was never written are a hole in front of all later ones.
    fn failed(&mut self, batch: PendingBatch, error: ProduceError) {
        self.renew |= batch.sequence.is_some();
        self.accumulator.complete_batch(batch, Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_classes() {
        use ErrorCode as E;
        for (code, idempotent, first, verdict) in [
            (E::NONE, true, true, ErrorClass::Done),
            (E::DUPLICATE_SEQUENCE_NUMBER, true, true, ErrorClass::Done),
            (E::OUT_OF_ORDER_SEQUENCE_NUMBER, true, false, ErrorClass::Again),
            (E::OUT_OF_ORDER_SEQUENCE_NUMBER, true, true, ErrorClass::Failed),
            (E::OUT_OF_ORDER_SEQUENCE_NUMBER, false, false, ErrorClass::Failed),
            (E::INVALID_PRODUCER_EPOCH, true, true, ErrorClass::Renew),
            (E::NOT_LEADER_OR_FOLLOWER, true, true, ErrorClass::Again),
            (E::NOT_ENOUGH_REPLICAS, false, true, ErrorClass::Again),
            (E::MESSAGE_TOO_LARGE, true, true, ErrorClass::Failed),
        ] {
            assert_eq!(classify_error(code, idempotent, first), verdict, "{code} {idempotent} {first}");
        }
    }
}
