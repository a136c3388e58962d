//! AlterPartitionReassignments (45) and ListPartitionReassignments (46), both KIP-455; v1 of the first added
//! `allow_replication_factor_change` (KIP-860).

use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::controller::{self, ElectionRules};
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
                let config = Arc::clone(&broker.config);
                let decide = move |image: &_| {
                    let rules = ElectionRules { node_id: config.node_id, statics: &config.statics };
                    controller::alter_partition_reassignments(image, rules, &request)
                };
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

/// The ListPartitionReassignments API.
pub struct ListPartitionReassignments;

impl Handler for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(
        ctx: RequestContext,
        request: ListPartitionReassignmentsRequest,
    ) -> Staged<ListPartitionReassignmentsResponse> {
        let image = ctx.broker.metadata.image();
        Staged::Ready(controller::list_partition_reassignments(&image, &request))
    }
}
