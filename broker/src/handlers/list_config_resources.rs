//! ListConfigResources (74): resources that have configs. v0 is about client metrics alone (KIP-1000), v1 about any kind
//! (KIP-1142); no kinds named means all. Loggers are listed by their brokers, as in Kafka.

use std::ops::RangeInclusive;

use esker_core::metadata::{MetadataImage, ResourceKind};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use super::loggers;

/// The ListConfigResources API.
pub struct ListConfigResources;

/// A kind of resource to list.
#[derive(Clone, Copy)]
enum Listed {
    /// One that has configs in the metadata.
    Kind(ResourceKind),
    /// The loggers of each broker.
    Loggers,
}

/// What is listed where no kinds are named.
const ALL: [Listed; 5] = [
    Listed::Kind(ResourceKind::Topic),
    Listed::Kind(ResourceKind::Broker),
    Listed::Loggers,
    Listed::Kind(ResourceKind::ClientMetrics),
    Listed::Kind(ResourceKind::Group),
];

impl Listed {
    fn of_id(id: i8) -> Option<Self> {
        if id == loggers::RESOURCE_TYPE { Some(Self::Loggers) } else { ResourceKind::of_id(id).map(Self::Kind) }
    }

    fn id(self) -> i8 {
        match self {
            Self::Kind(kind) => kind.id(),
            Self::Loggers => loggers::RESOURCE_TYPE,
        }
    }

    fn names(self, image: &MetadataImage) -> Vec<Str> {
        match self {
            Self::Kind(ResourceKind::Topic) => image.topics().map(|topic| topic.name.clone()).collect(),
            Self::Kind(ResourceKind::Broker) | Self::Loggers => {
                image.live_brokers().map(|broker| Str::from(broker.node_id.to_string())).collect()
            }
            Self::Kind(kind @ (ResourceKind::ClientMetrics | ResourceKind::Group)) => {
                image.configured(kind).cloned().collect()
            }
        }
    }
}

impl Handler for ListConfigResources {
    type Request = ListConfigResourcesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(ctx: RequestContext, request: ListConfigResourcesRequest) -> Staged<ListConfigResourcesResponse> {
        let image = ctx.broker.metadata.image();
        let mut ids = request.resource_types;
        if ctx.api_version == 0 {
            ids = vec![ResourceKind::ClientMetrics.id()];
        } else if ids.is_empty() {
            ids = ALL.map(Listed::id).to_vec();
        }
        let mut config_resources = Vec::new();
        for id in ids {
            let Some(listed) = Listed::of_id(id) else {
                return Staged::Ready(ListConfigResourcesResponse {
                    error_code: ErrorCode::UNSUPPORTED_VERSION,
                    ..ListConfigResourcesResponse::default()
                });
            };
            let row = |resource_name| ConfigResource { resource_name, resource_type: listed.id() };
            config_resources.extend(listed.names(&image).into_iter().map(row));
        }
        Staged::Ready(ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() })
    }
}
