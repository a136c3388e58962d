//! Transactions of other brokers: WriteMarkers (32030) to this broker as the leader of partitions, and AddPartitions (32031) to this broker
//! as a transaction coordinator (KIP-890).
//!
//! The content is that of Kafka's WriteTxnMarkers and AddPartitionsToTxn, and so are the answers. Before this broker has its partitions the answer
//! names none of them: the sender tries again. Must never: answer that a marker is written before it is committed.

use std::time::Duration;

use esker_core::transaction::wire::{AddPartitionsRequest, WriteMarkersRequest};
use esker_protocol::Request;
use esker_protocol::api::ApiKey;
use esker_protocol::messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use esker_protocol::messages::write_txn_markers::WriteTxnMarkersResponse;

use crate::handlers::handler::{RequestContext, Staged};
use crate::handlers::traced::in_span;
use crate::handlers::{add_partitions_to_txn, write_txn_markers};

/// Whether an API is one of these.
pub(super) fn serves(key: ApiKey) -> bool {
    key == WriteMarkersRequest::KEY || key == AddPartitionsRequest::KEY
}

/// Writes markers into partitions that this broker leads.
pub(super) fn write_markers(
    ctx: Option<RequestContext>,
    request: WriteMarkersRequest,
) -> Staged<WriteTxnMarkersResponse> {
    let Some(ctx) = ctx else { return Staged::Ready(WriteTxnMarkersResponse::default()) };
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
    let trace = ctx.trace.clone();
    let answer = async move { write_txn_markers::write_markers(&ctx, request.markers, limit).await };
    Staged::Later(in_span(trace.as_ref(), answer))
}

/// Adds partitions to transactions that this broker coordinates, or verifies that they were added.
pub(super) fn add_partitions(
    ctx: Option<RequestContext>,
    request: AddPartitionsRequest,
) -> Staged<AddPartitionsToTxnResponse> {
    let Some(ctx) = ctx else { return Staged::Ready(AddPartitionsToTxnResponse::default()) };
    let request = AddPartitionsToTxnRequest { transactions: request.transactions, ..Default::default() };
    let trace = ctx.trace.clone();
    Staged::start(in_span(trace.as_ref(), add_partitions_to_txn::answer(ctx, request)))
}
