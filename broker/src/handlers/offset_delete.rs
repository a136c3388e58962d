//! OffsetDelete (47, KIP-496): forgets committed offsets of topics that the group does not subscribe to.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::handler::{Handler, RequestContext, Staged};

/// The OffsetDelete API.
pub struct OffsetDelete;

impl Handler for OffsetDelete {
    type Request = OffsetDeleteRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(ctx: RequestContext, request: OffsetDeleteRequest) -> Staged<OffsetDeleteResponse> {
        if request.group_id.is_empty() {
            let error_code = ErrorCode::INVALID_GROUP_ID;
            return Staged::Ready(OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() });
        }
        Staged::start(async move {
            let image = ctx.broker.metadata.image();
            let exists = |topic: &str, p: i32| {
                image.topic(topic).is_some_and(|t| usize::try_from(p).is_ok_and(|p| p < t.partitions.len()))
            };
            let all =
                request.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.clone(), p.partition_index)));
            let wanted: Vec<_> = all.filter(|(topic, p)| exists(topic, *p)).collect();
            let mut response = OffsetDeleteResponse::default();
            match ctx.broker.groups.delete_offsets(&image, &request.group_id, &wanted).await {
                Err(error) => response.error_code = error,
                Ok(codes) => {
                    let codes: BTreeMap<_, _> = wanted.into_iter().zip(codes).collect();
                    let code = |topic: &_, p: i32| {
                        codes.get(&(Clone::clone(topic), p)).copied().unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                    };
                    response.topics = request
                        .topics
                        .into_iter()
                        .map(|topic| OffsetDeleteResponseTopic {
                            partitions: topic
                                .partitions
                                .iter()
                                .map(|p| OffsetDeleteResponsePartition {
                                    partition_index: p.partition_index,
                                    error_code: code(&topic.name, p.partition_index),
                                })
                                .collect(),
                            name: topic.name,
                        })
                        .collect();
                }
            }
            response
        })
    }
}
