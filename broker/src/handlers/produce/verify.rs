//! Before a batch begins a transaction in a partition, the transaction coordinator verifies it (KIP-890), so that no partition holds a
//! transaction that no coordinator will end.
//!
//! Up to Produce v11 the producer has added the partition itself, and the coordinator only verifies that. From v12 on
//! (transaction version 2) the coordinator adds it. Batches outside of transactions, and later batches of one, cost nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::config::{Scope, lookup, resolve_broker};
use esker_core::transaction::{AddRequest, Producer};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::produce::ProduceRequest;
use esker_protocol::primitives::Str;
use esker_protocol::records::{Attributes, BatchHeader};
use esker_storage::{Origin, VerificationGuard};
use tokio::time::Instant;

use crate::error::{TransactionSupport, produce_verification_code};
use crate::handlers::handler::RequestContext;
use crate::replica::{Partition, ProduceError, TopicRef};

/// From here on partitions are added to the transaction by themselves.
const ADDS_ITSELF: i16 = 12;
/// From here on clients know TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 11;
/// The first pause before the coordinator is asked again, unless it is this broker, which knows when the markers are written. Each pause is
/// twice the one before, up to the last.
const RETRY_AFTER: Duration = Duration::from_millis(1);
const MAX_RETRY_AFTER: Duration = Duration::from_millis(10);

/// The position of the attributes in a batch.
const ATTRIBUTES_AT: usize = 21;

/// Whether a record set is a batch of a transaction. Looks at two bytes.
pub(super) fn is_transactional(records: &[u8]) -> bool {
    let bits = records.get(ATTRIBUTES_AT..ATTRIBUTES_AT + 2).and_then(|bits| <[u8; 2]>::try_from(bits).ok());
    bits.is_some_and(|bits| Attributes(i16::from_be_bytes(bits)).is_transactional())
}

/// The coordinator's results for the partitions of a request that needed verification.
#[derive(Debug, Default)]
pub(super) struct VerificationResults(HashMap<(Str, i32), Result<VerificationGuard, Refusal>>);

/// Why a batch may not begin a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub code: ErrorCode,
    /// The coordinator's own code.
    pub underlying: ErrorCode,
}

impl VerificationResults {
    /// Partitions that the coordinator did not verify.
    pub(super) fn failures(&self) -> usize {
        self.0.values().filter(|result| result.is_err()).count()
    }

    /// The origin with which a transactional batch is appended.
    pub(super) fn origin(&self, partition: &Partition, version: i16) -> Result<Origin, ProduceError> {
        let transaction_v2 = version >= ADDS_ITSELF;
        if self.0.is_empty() {
            return Ok(Origin::Client { transaction_v2 });
        }
        match self.0.get(&(Str::copy(partition.topic()), partition.index())) {
            None => Ok(Origin::Client { transaction_v2 }),
            Some(Ok(guard)) => Ok(Origin::Transaction { transaction_v2, guard: *guard }),
            Some(Err(Refusal { code, underlying })) => {
                Err(ProduceError::NotInTransaction { code: *code, underlying: *underlying })
            }
        }
    }
}

/// A partition that the coordinator must verify.
pub(super) struct PartitionVerification {
    partition: Arc<Partition>,
    first_sequence: i32,
    /// `None` once the transaction is open there.
    guard: Option<VerificationGuard>,
}

/// The partitions of a request that need verification, and their producer.
pub(super) struct VerificationRequest {
    id: Str,
    producer: Producer,
    partitions: Vec<PartitionVerification>,
}

impl VerificationRequest {
    /// What the coordinator is sent.
    fn request(&self, version: i16) -> AddRequest {
        let name = |of: &PartitionVerification| (Str::copy(of.partition.topic()), of.partition.index());
        AddRequest {
            id: self.id.clone(),
            producer: self.producer,
            partitions: self.partitions.iter().map(name).collect(),
            client_version: if version >= ADDS_ITSELF { 2 } else { 0 },
        }
    }
}

/// The verification that a request needs before its batches are appended: `None` for none, an error for all of its partitions.
pub(super) fn begin_verification(
    ctx: &RequestContext,
    request: &ProduceRequest,
) -> Result<Option<VerificationRequest>, ErrorCode> {
    let Some(id) = request.transactional_id.clone().filter(|id| !id.is_empty()) else {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    };
    let verifies = is_enabled(ctx);
    let mut found: Option<VerificationRequest> = None;
    let mut producer: Option<Producer> = None;
    for topic in &request.topic_data {
        let target = TopicRef::of_request(ctx.api_version >= 13, &topic.name, topic.topic_id);
        let replicas = ctx.broker.replicas.topic(&target);
        for data in &topic.partition_data {
            let Some(records) = data.records.as_ref().filter(|records| is_transactional(records)) else { continue };
            // Malformed batches are refused by the validation of batches.
            let Ok(header) = BatchHeader::parse(records) else { continue };
            let of_batch = Producer { id: header.producer_id, epoch: header.producer_epoch };
            if *producer.get_or_insert(of_batch) != of_batch {
                return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
            }
            let Some(partition) = replicas.as_ref().ok().and_then(|topic| topic.partition(data.index).ok()) else {
                continue;
            };
            // Also where this broker does not lead: a client may know of a new leader before that broker does, which would then append
            // a batch that nobody verified.
            if !verifies && ctx.api_version < ADDS_ITSELF {
                continue;
            }
            let log = partition.log();
            let Some(guard) = log.begin_verification(of_batch.id, of_batch.epoch, header.base_sequence) else {
                continue;
            };
            let verification = found.get_or_insert_with(|| VerificationRequest {
                id: id.clone(),
                producer: of_batch,
                partitions: Vec::new(),
            });
            verification.partitions.push(PartitionVerification {
                partition,
                first_sequence: header.base_sequence,
                guard: Some(guard),
            });
        }
    }
    Ok(found)
}

/// `transaction.partition.verification.enable`, as it holds now.
fn is_enabled(ctx: &RequestContext) -> bool {
    let Some(key) = lookup(Scope::Broker, "transaction.partition.verification.enable") else { return true };
    let (image, broker) = (ctx.broker.metadata.image(), &ctx.broker);
    resolve_broker(&image, broker.node_id, &broker.config.statics, key).value() != Some("false")
}

/// Sends the verification to the coordinator.
pub(super) async fn verify(ctx: &RequestContext, mut verification: VerificationRequest) -> VerificationResults {
    let version = ctx.api_version;
    let request = verification.request(version);
    let codes = if version >= ADDS_ITSELF {
        let deadline = Instant::now() + ctx.broker.config.transaction_add_max_wait;
        let code = add(ctx, &request, &mut verification, deadline).await;
        vec![code; verification.partitions.len()]
    } else {
        let results = ctx.broker.coordinators.verify_transaction(&request).await;
        results.unwrap_or_else(|code| vec![code; verification.partitions.len()])
    };
    let support =
        TransactionSupport { adds_partitions: version >= ADDS_ITSELF, knows_abortable: version >= KNOWS_ABORTABLE };
    let mut results = HashMap::with_capacity(codes.len());
    for ((name, partition_verification), underlying) in
        request.partitions.into_iter().zip(verification.partitions).zip(codes)
    {
        let result = match produce_verification_code(underlying, support) {
            ErrorCode::NONE => match partition_verification.guard {
                Some(guard) => Ok(guard),
                None => continue,
            },
            code => {
                let is_final = code != ErrorCode::NOT_ENOUGH_REPLICAS && code != ErrorCode::CONCURRENT_TRANSACTIONS;
                if let Some(guard) = partition_verification.guard.filter(|_| is_final) {
                    partition_verification.partition.log().cancel_verification(verification.producer.id, guard);
                }
                Err(Refusal { code, underlying })
            }
        };
        results.insert(name, result);
    }
    VerificationResults(results)
}

/// Adds partitions; while the previous transaction is still being ended, waits for that until `deadline`. Its markers remove the guards,
/// also between the creation of a guard and the coordinator's answer: each attempt needs a guard from before its request. When the time is
/// up and the guards are gone, the producer tries again: a batch with such a guard would be refused for good.
async fn add(
    ctx: &RequestContext,
    request: &AddRequest,
    verification: &mut VerificationRequest,
    deadline: Instant,
) -> ErrorCode {
    let mut pause = RETRY_AFTER;
    loop {
        let coordinators = &ctx.broker.coordinators;
        let ended = coordinators.transactions.next_end(&request.id);
        let code = coordinators.add_to_transaction(request).await;
        let being_ended = code == ErrorCode::CONCURRENT_TRANSACTIONS;
        let time_is_up = Instant::now() >= deadline;
        if !being_ended && code != ErrorCode::NONE || being_ended && time_is_up {
            return code;
        }
        if being_ended {
            let _ = tokio::time::timeout(pause, ended).await;
            pause = (pause * 2).min(MAX_RETRY_AFTER);
        }
        let Producer { id, epoch } = verification.producer;
        let mut overtaken = false;
        for partition_verification in &mut verification.partitions {
            let guard = partition_verification.partition.log().begin_verification(
                id,
                epoch,
                partition_verification.first_sequence,
            );
            overtaken |= guard.is_some() && guard != partition_verification.guard;
            partition_verification.guard = guard;
        }
        if !being_ended && !overtaken {
            return code;
        }
        if time_is_up {
            return ErrorCode::CONCURRENT_TRANSACTIONS;
        }
    }
}

#[cfg(test)]
mod tests;
