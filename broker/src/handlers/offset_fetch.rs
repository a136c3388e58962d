//! OffsetFetch (9): the committed offsets of groups. v2 requests all offsets with a null list of topics, v7 may require stable offsets:
//! an offset that an open transaction may still change is an error then (KIP-447). v8 takes several groups (KIP-709), v9 names the
//! requesting member and its epoch (KIP-848), v10 names topics by id. No offset is offset -1 and no error, except in v0, which
//! returns UNKNOWN_TOPIC_OR_PARTITION.

use std::ops::RangeInclusive;

use esker_core::group::{Committed, OffsetSelection};
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use esker_protocol::primitives::Str;

use futures_util::future::join_all;

use super::handler::{Handler, RequestContext, Staged};

/// The OffsetFetch API.
pub struct OffsetFetch;

impl Handler for OffsetFetch {
    type Request = OffsetFetchRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=10;

    fn handle(ctx: RequestContext, request: OffsetFetchRequest) -> Staged<OffsetFetchResponse> {
        Staged::start(async move {
            let image = ctx.broker.metadata.image();
            if ctx.api_version < 8 {
                return fetch_one_group(&ctx, &image, request).await;
            }
            let stable = request.require_stable;
            let groups = join_all(request.groups.iter().map(|group| of_group(&ctx, &image, group, stable))).await;
            OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }
        })
    }
}

async fn fetch_one_group(
    ctx: &RequestContext,
    image: &MetadataImage,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let version = ctx.api_version;
    let named = |topics: &Vec<_>| -> Vec<(Str, Vec<i32>)> {
        let pair = |t: &esker_protocol::messages::offset_fetch::OffsetFetchRequestTopic| {
            (t.name.clone(), t.partition_indexes.clone())
        };
        topics.iter().map(pair).collect()
    };
    let selection = match &request.topics {
        Some(topics) => OffsetSelection::Of(named(topics)),
        None => OffsetSelection::All,
    };
    let groups = &ctx.broker.groups;
    let fetched = groups.fetch(image, &request.group_id, (None, -1), &selection, request.require_stable).await;
    let mut response = OffsetFetchResponse::default();
    let mut unstable = Vec::new();
    let (topics, error_code) = match fetched {
        Ok((topics, open)) => {
            unstable = open;
            (topics, ErrorCode::NONE)
        }
        Err(error) => {
            response.error_code = error;
            // From v2 on the group has a code of its own, and no topic is listed beside it.
            if version >= 2 {
                return response;
            }
            let OffsetSelection::Of(topics) = selection else { return response };
            let none =
                |(topic, partitions): (Str, Vec<i32>)| (topic, partitions.into_iter().map(|p| (p, None)).collect());
            (topics.into_iter().map(none).collect(), error)
        }
    };
    let partition = |topic: &Str, (partition_index, committed): (i32, Option<Committed>)| {
        let none = if version == 0 { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { ErrorCode::NONE };
        let row = |c: Option<Committed>, error_code| OffsetFetchResponsePartition {
            partition_index,
            committed_offset: c.as_ref().map_or(-1, |c| c.offset),
            committed_leader_epoch: c.as_ref().map_or(-1, |c| c.leader_epoch),
            metadata: Some(c.map(|c| c.metadata).unwrap_or_default()),
            error_code,
        };
        match committed {
            _ if unstable.iter().any(|(t, p)| t == topic && *p == partition_index) => {
                row(None, ErrorCode::UNSTABLE_OFFSET_COMMIT)
            }
            Some(c) => row(Some(c), ErrorCode::NONE),
            None if error_code.is_error() => row(None, error_code),
            None => row(None, none),
        }
    };
    response.topics = topics
        .into_iter()
        .map(|(name, list)| OffsetFetchResponseTopic {
            partitions: list.into_iter().map(|found| partition(&name, found)).collect(),
            name,
        })
        .collect();
    response
}

async fn of_group(
    ctx: &RequestContext,
    image: &MetadataImage,
    group: &OffsetFetchRequestGroup,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let by_id = ctx.api_version >= 10;
    let mut unknown = Vec::new();
    let selection = match &group.topics {
        None => OffsetSelection::All,
        Some(topics) => OffsetSelection::Of(
            topics
                .iter()
                .filter_map(|t| {
                    if !by_id {
                        return Some((t.name.clone(), t.partition_indexes.clone()));
                    }
                    let found = image.topic_by_id(t.topic_id);
                    if found.is_none() {
                        unknown.push(OffsetFetchResponseTopics {
                            topic_id: t.topic_id,
                            partitions: t
                                .partition_indexes
                                .iter()
                                .map(|p| failed(*p, ErrorCode::UNKNOWN_TOPIC_ID))
                                .collect(),
                            ..OffsetFetchResponseTopics::default()
                        });
                    }
                    found.map(|topic| (topic.name.clone(), t.partition_indexes.clone()))
                })
                .collect(),
        ),
    };
    let mut response = OffsetFetchResponseGroup { group_id: group.group_id.clone(), ..Default::default() };
    let member = (group.member_id.as_deref(), group.member_epoch);
    match ctx.broker.groups.fetch(image, &group.group_id, member, &selection, stable).await {
        Err(error) => response.error_code = error,
        Ok((topics, unstable)) => {
            let told = |topic: &Str, (partition, committed): (i32, Option<Committed>)| match unstable
                .iter()
                .any(|(t, p)| t == topic && *p == partition)
            {
                true => failed(partition, ErrorCode::UNSTABLE_OFFSET_COMMIT),
                false => row(partition, committed),
            };
            // By id, offsets of deleted topics have no name to be returned under.
            let known = topics.into_iter().filter(|(name, _)| !by_id || image.topic(name).is_some());
            response.topics = known
                .map(|(name, list)| OffsetFetchResponseTopics {
                    topic_id: image.topic(&name).map(|t| t.id).filter(|_| by_id).unwrap_or_default(),
                    partitions: list.into_iter().map(|found| told(&name, found)).collect(),
                    name,
                })
                .collect();
            response.topics.extend(unknown);
        }
    }
    response
}

fn failed(partition_index: i32, error_code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions { error_code, ..row(partition_index, None) }
}

fn row(partition_index: i32, committed: Option<Committed>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.as_ref().map_or(-1, |c| c.offset),
        committed_leader_epoch: committed.as_ref().map_or(-1, |c| c.leader_epoch),
        metadata: Some(committed.map(|c| c.metadata).unwrap_or_default()),
        error_code: ErrorCode::NONE,
    }
}
