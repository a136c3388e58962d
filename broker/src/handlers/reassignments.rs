//! AlterPartitionReassignments (45) and ListPartitionReassignments (46), both KIP-455; v1 of the first added
//! `allow_replication_factor_change` (KIP-860).

use std::ops::RangeInclusive;

use esker_core::controller;
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use esker_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::patience::patience;
use crate::broker::Broker;

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
                let timeout = patience(request.timeout_ms);
                let decide = move |image: &_| controller::alter_partition_reassignments(image, &request);
                match broker.change(timeout, decide).await {
                    Ok(reply) => reply,
                    Err(error) => AlterPartitionReassignmentsResponse {
                        error_code: Broker::submit_error(&error),
                        ..AlterPartitionReassignmentsResponse::default()
                    },
                }
            }
            .boxed(),
        )
    }
}

/// The ListPartitionReassignments API. A change of replicas takes effect with its record here, so none is ever under way.
pub struct ListPartitionReassignments;

impl Handler for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(_: RequestContext, _: ListPartitionReassignmentsRequest) -> Staged<ListPartitionReassignmentsResponse> {
        Staged::Ready(ListPartitionReassignmentsResponse::default())
    }
}
