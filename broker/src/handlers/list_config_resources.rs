//! ListConfigResources (74): resources that have configs. v0 is about client metrics alone (KIP-1000), v1 about any kind
//! (KIP-1142); no kinds named means all.

use std::ops::RangeInclusive;

use esker_core::metadata::ResourceKind;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};

/// The ListConfigResources API.
pub struct ListConfigResources;

/// Kafka's number for "broker logger": Esker has no such resource, so there is nothing to list.
const BROKER_LOGGER: i8 = 8;

impl Handler for ListConfigResources {
    type Request = ListConfigResourcesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(ctx: RequestContext, request: ListConfigResourcesRequest) -> Staged<ListConfigResourcesResponse> {
        let image = ctx.broker.metadata.image();
        let all = [ResourceKind::Topic, ResourceKind::Broker, ResourceKind::ClientMetrics, ResourceKind::Group];
        let mut kinds = Vec::new();
        if ctx.api_version == 0 {
            kinds.push(ResourceKind::ClientMetrics);
        } else if request.resource_types.is_empty() {
            kinds.extend(all);
        }
        for id in &request.resource_types {
            match ResourceKind::of_id(*id) {
                Some(kind) => kinds.push(kind),
                None if *id == BROKER_LOGGER => {}
                None => {
                    return Staged::Ready(ListConfigResourcesResponse {
                        error_code: ErrorCode::UNSUPPORTED_VERSION,
                        ..ListConfigResourcesResponse::default()
                    });
                }
            }
        }
        let mut config_resources = Vec::new();
        for kind in kinds {
            let names: Vec<Str> = match kind {
                ResourceKind::Topic => image.topics().map(|t| t.name.clone()).collect(),
                ResourceKind::Broker => image.brokers().map(|b| Str::from(b.node_id.to_string())).collect(),
                ResourceKind::ClientMetrics | ResourceKind::Group => image.configured(kind).cloned().collect(),
            };
            let row = |resource_name| ConfigResource { resource_name, resource_type: kind.id() };
            config_resources.extend(names.into_iter().map(row));
        }
        Staged::Ready(ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() })
    }
}
