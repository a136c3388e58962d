//! InitProducerId (22, KIP-98): hands out a producer id with epoch 0 to an idempotent producer; gives a transactional id to a producer
//! and fences the producer that had it.
//!
//! v3 lets a producer name the id and epoch it has (KIP-360); without a transactional id the answer is a fresh id all the
//! same. Ids come from a block that the metadata log gave to this broker, so that most answers cost no commit. v4 knows
//! PRODUCER_FENCED. v6 (two-phase commit, KIP-939) is not served: Kafka 4.4 hides it as unstable.

use std::ops::RangeInclusive;

use esker_core::transaction::{InitRequest, Producer};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use crate::error::producer_fenced_code;

/// The InitProducerId API.
pub struct InitProducerId;

impl Handler for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(ctx: RequestContext, request: InitProducerIdRequest) -> Staged<InitProducerIdResponse> {
        let current = match (request.producer_id, request.producer_epoch) {
            (-1, -1) => None,
            (-1, _) | (_, -1) => return Staged::Ready(refused(ErrorCode::INVALID_REQUEST)),
            (id, epoch) => Some(Producer { id, epoch }),
        };
        if let Some(id) = request.transactional_id {
            // Whatever its coordinator would be.
            if id.is_empty() {
                return Staged::Ready(refused(ErrorCode::INVALID_REQUEST));
            }
            let init = InitRequest { id, timeout_ms: request.transaction_timeout_ms, current };
            return Staged::start(async move {
                match ctx.broker.transactions.init(&ctx.broker.metadata.image(), init).await {
                    Ok(producer) => granted(producer.id, producer.epoch),
                    Err(code) => refused(producer_fenced_code(code, ctx.api_version, 4)),
                }
            });
        }
        if let Some(producer_id) = ctx.broker.producer_ids.try_next() {
            return Staged::Ready(granted(producer_id, 0));
        }
        Staged::Later(
            async move {
                match ctx.broker.producer_ids.next().await {
                    Ok(producer_id) => granted(producer_id, 0),
                    Err(code) => refused(code),
                }
            }
            .boxed(),
        )
    }
}

fn granted(producer_id: i64, producer_epoch: i16) -> InitProducerIdResponse {
    InitProducerIdResponse { producer_id, producer_epoch, ..InitProducerIdResponse::default() }
}

fn refused(error_code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code, producer_id: -1, producer_epoch: -1, ..InitProducerIdResponse::default() }
}
