//! InitProducerId (22, KIP-98): hands out a producer id with epoch 0 to an idempotent producer.
//!
//! v3 lets a producer name the id and epoch it has (KIP-360); without a transactional id the answer is a fresh id all the
//! same. Ids come from a block that the metadata log gave to this broker, so that most answers cost no commit.
//! Transactional ids are refused: transactions are not served yet.

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use futures_util::FutureExt;

use super::{Handler, RequestContext, Staged};

/// The InitProducerId API.
pub struct InitProducerId;

impl Handler for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(ctx: RequestContext, request: InitProducerIdRequest) -> Staged<InitProducerIdResponse> {
        match request.transactional_id.as_deref() {
            None => {}
            Some("") => return Staged::Ready(refused(ErrorCode::INVALID_REQUEST)),
            Some(_) => return Staged::Ready(refused(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)),
        }
        if let Some(producer_id) = ctx.broker.producer_ids.try_next() {
            return Staged::Ready(granted(producer_id));
        }
        Staged::Later(
            async move {
                match ctx.broker.producer_ids.next(&ctx.broker.metadata).await {
                    Ok(producer_id) => granted(producer_id),
                    Err(code) => refused(code),
                }
            }
            .boxed(),
        )
    }
}

fn granted(producer_id: i64) -> InitProducerIdResponse {
    InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
}

fn refused(error_code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code, producer_id: -1, producer_epoch: -1, ..InitProducerIdResponse::default() }
}
