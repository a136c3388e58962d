//! DescribeCluster (60, KIP-700): the cluster's id, controller and brokers. v1 names the kind of endpoint (KIP-919), v2 shows
//! fenced brokers (KIP-1073).

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::handler::{Handler, RequestContext, Staged};
use super::operations;

/// The DescribeCluster API.
pub struct DescribeCluster;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

impl Handler for DescribeCluster {
    type Request = DescribeClusterRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(ctx: RequestContext, request: DescribeClusterRequest) -> Staged<DescribeClusterResponse> {
        let failed = |error_code, message: &'static str| {
            Staged::Ready(DescribeClusterResponse {
                error_code,
                error_message: Some(message.into()),
                ..DescribeClusterResponse::default()
            })
        };
        match request.endpoint_type {
            BROKERS => {}
            CONTROLLERS => {
                return failed(
                    ErrorCode::MISMATCHED_ENDPOINT_TYPE,
                    "The request was sent to an endpoint of brokers, not of controllers.",
                );
            }
            _ => return failed(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, "Unsupported endpoint type."),
        }
        let image = ctx.broker.metadata.image();
        let shown = image.brokers().filter(|broker| request.include_fenced_brokers || !broker.fenced);
        let brokers = shown.filter_map(|broker| {
            let e = ctx.endpoint_of(broker.node_id)?;
            Some(DescribeClusterBroker {
                broker_id: e.node_id,
                host: e.host,
                port: e.port,
                rack: e.rack,
                is_fenced: broker.fenced,
            })
        });
        let with_operations = request.include_cluster_authorized_operations;
        Staged::Ready(DescribeClusterResponse {
            endpoint_type: BROKERS,
            cluster_id: ctx.broker.cluster_id.clone(),
            controller_id: ctx.broker.controller_id(),
            brokers: brokers.collect(),
            cluster_authorized_operations: if with_operations { operations::CLUSTER } else { i32::MIN },
            ..DescribeClusterResponse::default()
        })
    }
}
