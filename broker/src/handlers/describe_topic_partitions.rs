//! DescribeTopicPartitions (75, KIP-966): topics by name, page by page, with their eligible leader replicas.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use esker_core::internal_topics::is_internal;
use esker_core::metadata::{MetadataImage, PartitionImage, check_topic_name};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_topic_partitions::{
    CursorResult, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, TopicRequest,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use super::metadata::offline_replicas;
use super::operations;

/// The DescribeTopicPartitions API.
pub struct DescribeTopicPartitions;

impl Handler for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(ctx: RequestContext, request: DescribeTopicPartitionsRequest) -> Staged<DescribeTopicPartitionsResponse> {
        let image = ctx.broker.metadata.image();
        let all = request.topics.is_empty();
        let mut names: BTreeSet<Str> = if all {
            image.topics().map(|topic| topic.name.clone()).collect()
        } else {
            request.topics.iter().map(|topic| topic.name.clone()).collect()
        };
        let mut first = 0;
        if let Some(cursor) = &request.cursor {
            if cursor.partition_index < 0 || (!all && !names.contains(&cursor.topic_name)) {
                return Staged::Ready(invalid(request.topics));
            }
            names = names.split_off(&cursor.topic_name);
            // The cursor's topic may be gone by now: then the next one begins at its beginning.
            first = if names.first() == Some(&cursor.topic_name) { cursor.partition_index } else { 0 };
        }
        let most = ctx.broker.config.max_request_partition_size_limit;
        let limit = usize::try_from(request.response_partition_limit.min(most)).unwrap_or_default().max(1);
        Staged::Ready(page(&image, names, usize::try_from(first).unwrap_or_default(), limit))
    }
}

/// The cursor begins nowhere.
fn invalid(topics: Vec<TopicRequest>) -> DescribeTopicPartitionsResponse {
    let failed = |topic: TopicRequest| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::INVALID_REQUEST,
        name: Some(topic.name),
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    DescribeTopicPartitionsResponse { topics: topics.into_iter().map(failed).collect(), ..Default::default() }
}

fn page(image: &MetadataImage, names: BTreeSet<Str>, first: usize, limit: usize) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let (mut left, mut skip) = (limit, first);
    for name in names {
        if left == 0 {
            response.next_cursor = Some(CursorResult { topic_name: name, partition_index: 0 });
            break;
        }
        let Some(topic) = image.topic(&name) else {
            let bad = check_topic_name(&name).is_err();
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: if bad {
                    ErrorCode::INVALID_TOPIC_EXCEPTION
                } else {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                },
                name: Some(name),
                topic_authorized_operations: operations::TOPIC,
                ..DescribeTopicPartitionsResponseTopic::default()
            });
            continue;
        };
        let shown: Vec<_> = topic.partitions.iter().skip(skip).take(left).map(|p| partition(image, p)).collect();
        let upto = skip + shown.len();
        left -= shown.len();
        skip = 0;
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::NONE,
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: is_internal(&topic.name),
            partitions: shown,
            topic_authorized_operations: operations::TOPIC,
        });
        if upto < topic.partitions.len() {
            let partition_index = i32::try_from(upto).unwrap_or(i32::MAX);
            response.next_cursor = Some(CursorResult { topic_name: name, partition_index });
            break;
        }
    }
    response
}

fn partition(image: &MetadataImage, p: &PartitionImage) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: if p.leader < 0 { ErrorCode::LEADER_NOT_AVAILABLE } else { ErrorCode::NONE },
        partition_index: p.partition,
        leader_id: p.leader,
        leader_epoch: p.leader_epoch,
        replica_nodes: p.replicas.clone(),
        isr_nodes: p.isr.clone(),
        eligible_leader_replicas: Some(p.elr.clone()),
        last_known_elr: Some(p.last_known_elr.clone()),
        offline_replicas: offline_replicas(image, p),
    }
}
