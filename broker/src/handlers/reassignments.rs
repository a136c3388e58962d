//! AlterPartitionReassignments (45) and ListPartitionReassignments (46), both KIP-455; v1 of the first added
//! `allow_replication_factor_change` (KIP-860).

use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::controller;
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use esker_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::request_timeout;
use crate::error::KafkaError;

/// The AlterPartitionReassignments API.
pub struct AlterPartitionReassignments;

impl Handler for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(
        ctx: RequestContext,
        request: AlterPartitionReassignmentsRequest,
    ) -> Staged<AlterPartitionReassignmentsResponse> {
        Staged::Later(
            async move {
                let broker = &ctx.broker;
                let timeout = request_timeout(request.timeout_ms);
                let (node_id, statics) = (broker.node_id, Arc::clone(&broker.config.statics));
                let alter = controller::AlterPartitionReassignments { request, node_id, statics };
                match broker.change(timeout, alter).await {
                    Ok(reply) => reply,
                    Err(error) => AlterPartitionReassignmentsResponse {
                        error_code: error.code(),
                        ..AlterPartitionReassignmentsResponse::default()
                    },
                }
            }
            .boxed(),
        )
    }
}

/// The ListPartitionReassignments API.
pub struct ListPartitionReassignments;

impl Handler for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(
        ctx: RequestContext,
        request: ListPartitionReassignmentsRequest,
    ) -> Staged<ListPartitionReassignmentsResponse> {
        Staged::Later(
            async move {
                let broker = &ctx.broker;
                match broker.catch_up(request_timeout(request.timeout_ms)).await {
                    Ok(()) => controller::list_partition_reassignments(&broker.metadata.image(), &request),
                    Err(error) => ListPartitionReassignmentsResponse {
                        error_code: error.code(),
                        ..ListPartitionReassignmentsResponse::default()
                    },
                }
            }
            .boxed(),
        )
    }
}
