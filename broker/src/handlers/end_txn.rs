//! EndTxn (26, KIP-98): commits or aborts a transaction. The answer comes when the decision is recorded; markers follow. v2 knows
//! PRODUCER_FENCED, v5 (KIP-890) gives the producer the id and epoch that its next transaction has.

use std::ops::RangeInclusive;

use esker_core::transaction::{EndRequest, Producer};
use esker_protocol::messages::end_txn::{EndTxnRequest, EndTxnResponse};

use super::handler::{Handler, RequestContext, Staged};
use crate::error::producer_fenced_code;

/// The EndTxn API.
pub struct EndTxn;

/// From here on producers use transaction version 2.
const VERSION_2: i16 = 5;

impl Handler for EndTxn {
    type Request = EndTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(ctx: RequestContext, request: EndTxnRequest) -> Staged<EndTxnResponse> {
        let version = ctx.api_version;
        let end = EndRequest {
            id: request.transactional_id,
            producer: Producer { id: request.producer_id, epoch: request.producer_epoch },
            commit: request.committed,
            client_version: if version >= VERSION_2 { 2 } else { 0 },
        };
        Staged::start(async move {
            match ctx.broker.transactions.end(&ctx.broker.metadata.image(), end).await {
                Ok(Producer { id, epoch }) => {
                    EndTxnResponse { producer_id: id, producer_epoch: epoch, ..EndTxnResponse::default() }
                }
                Err(code) => {
                    EndTxnResponse { error_code: producer_fenced_code(code, version, 2), ..EndTxnResponse::default() }
                }
            }
        })
    }
}
