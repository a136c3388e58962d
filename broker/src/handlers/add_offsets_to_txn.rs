//! AddOffsetsToTxn (25, KIP-98): a transaction will commit offsets of a group. What is added is the group's partition of
//! `__consumer_offsets`. v2 knows PRODUCER_FENCED.

use std::ops::RangeInclusive;

use esker_core::transaction::{AddRequest, Producer};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::find_coordinator;
use super::handler::{Handler, RequestContext, Staged};
use crate::error::producer_fenced_code;
use esker_core::internal_topics::OFFSETS_TOPIC;

/// The AddOffsetsToTxn API.
pub struct AddOffsetsToTxn;

impl Handler for AddOffsetsToTxn {
    type Request = AddOffsetsToTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn handle(ctx: RequestContext, request: AddOffsetsToTxnRequest) -> Staged<AddOffsetsToTxnResponse> {
        Staged::start(async move {
            let error_code = producer_fenced_code(add(&ctx, request).await, ctx.api_version, 2);
            AddOffsetsToTxnResponse { error_code, ..AddOffsetsToTxnResponse::default() }
        })
    }
}

async fn add(ctx: &RequestContext, request: AddOffsetsToTxnRequest) -> ErrorCode {
    let image = ctx.broker.metadata.image();
    let Some(partition) = ctx.broker.groups.partition_for(&image, &request.group_id) else {
        find_coordinator::create_internal_topic(&ctx.broker, &image, OFFSETS_TOPIC);
        return ErrorCode::COORDINATOR_NOT_AVAILABLE;
    };
    let request = AddRequest {
        id: request.transactional_id,
        producer: Producer { id: request.producer_id, epoch: request.producer_epoch },
        partitions: vec![(OFFSETS_TOPIC.into(), partition)],
        client_version: 0,
    };
    ctx.broker.transactions.add(&image, request).await
}
