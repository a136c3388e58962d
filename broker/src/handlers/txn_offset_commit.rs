//! TxnOffsetCommit (28, KIP-98): offsets that count when the producer's transaction is committed. v2 carried leader epochs (KIP-320),
//! v3 the member's identity (KIP-447), v5 adds the group's partition to the transaction by itself (KIP-890), v6 names topics by id.

use std::ops::RangeInclusive;

use esker_core::coordinator::Writer;
use esker_core::group::{Identity, OffsetCommit as Commit, OffsetCommitRequest as CommitRequest};
use esker_core::internal_topics::OFFSETS_TOPIC;
use esker_core::transaction::{AddRequest, Producer};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use super::offset_commit::resolve;
use crate::error::{TransactionSupport, commit_verification_code};

/// The TxnOffsetCommit API.
pub struct TxnOffsetCommit;

/// From here on the group's partition is added to the transaction by itself.
const ADDS_ITSELF: i16 = 5;
/// From here on clients know TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 4;
/// How often one request is sent to the transaction coordinator, at most.
const MAX_ATTEMPTS: u32 = 4;

impl Handler for TxnOffsetCommit {
    type Request = TxnOffsetCommitRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    fn handle(ctx: RequestContext, request: TxnOffsetCommitRequest) -> Staged<TxnOffsetCommitResponse> {
        Staged::start(commit(ctx, request))
    }
}

async fn commit(ctx: RequestContext, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let image = ctx.broker.metadata.image();
    let by_id = ctx.api_version >= 6;
    let mut offsets = Vec::new();
    let mut topics: Vec<TxnOffsetCommitResponseTopic> = Vec::new();
    // Where the codes of the offsets go.
    let mut slots = Vec::new();
    for topic in request.topics {
        let known = resolve(&image, by_id, &topic.name, topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for p in topic.partitions {
            let error_code = match &known {
                Err(code) => *code,
                Ok((_, _, count)) if !(0..*count).contains(&p.partition_index) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Ok((name, topic_id, _)) => {
                    slots.push((topics.len(), partitions.len()));
                    offsets.push(Commit {
                        topic: name.clone(),
                        topic_id: *topic_id,
                        partition: p.partition_index,
                        offset: p.committed_offset,
                        leader_epoch: p.committed_leader_epoch,
                        metadata: p.committed_metadata,
                        committed_at: -1,
                    });
                    ErrorCode::NONE
                }
            };
            partitions.push(TxnOffsetCommitResponsePartition { partition_index: p.partition_index, error_code });
        }
        topics.push(TxnOffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions });
    }
    let producer = Producer { id: request.producer_id, epoch: request.producer_epoch };
    let commit = CommitRequest {
        group: request.group_id,
        identity: Identity {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
        },
        retention_ms: None,
        not_found_code: by_id,
        offsets,
    };
    let outcome = match slots.is_empty() {
        true => Ok(Vec::new()),
        false => commit_all(&ctx, request.transactional_id, producer, commit).await,
    };
    for (at, (topic, slot)) in slots.into_iter().enumerate() {
        let code = match &outcome {
            Ok(codes) => codes.get(at).copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(code) => *code,
        };
        if let Some(partition) = topics.get_mut(topic).and_then(|t| t.partitions.get_mut(slot)) {
            partition.error_code = code;
        }
    }
    TxnOffsetCommitResponse { topics, ..TxnOffsetCommitResponse::default() }
}

async fn commit_all(
    ctx: &RequestContext,
    transactional_id: Str,
    producer: Producer,
    commit: CommitRequest,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let image = ctx.broker.metadata.image();
    let partition = ctx.broker.groups.partition_for(&image, &commit.group).ok_or(ErrorCode::NOT_COORDINATOR)?;
    let writer = Writer { producer_id: producer.id, producer_epoch: producer.epoch };
    // Before the request to the coordinator: an answer that a marker overtakes must not begin the transaction anew.
    let mut guard = ctx.broker.groups.begin_verification(&image, &commit.group, writer)?;
    let adds = ctx.api_version >= ADDS_ITSELF;
    let request = AddRequest {
        id: transactional_id,
        producer,
        partitions: vec![(OFFSETS_TOPIC.into(), partition)],
        client_version: if adds { 2 } else { 0 },
    };
    let verification = if adds {
        let mut attempts = 0;
        loop {
            let code = ctx.broker.coordinators.add_to_transaction(&request).await;
            let before = guard;
            guard = ctx.broker.groups.begin_verification(&image, &commit.group, writer)?;
            attempts += 1;
            // The markers of the previous transaction may have been written in between and removed the guard.
            if code != ErrorCode::NONE || guard.is_none() || guard == before || attempts == MAX_ATTEMPTS {
                break code;
            }
        }
    } else {
        let codes = ctx.broker.coordinators.verify_transaction(&request).await;
        codes.map_or_else(|code| code, |codes| codes.first().copied().unwrap_or(ErrorCode::NONE))
    };
    if verification.is_error() {
        let knows_abortable = ctx.api_version >= KNOWS_ABORTABLE;
        return Err(commit_verification_code(
            verification,
            TransactionSupport { adds_partitions: adds, knows_abortable },
        ));
    }
    ctx.broker.groups.commit_in_transaction(&image, commit, writer, guard).await
}
