//! OffsetCommit (8): stores how far a group has come. v1 carried a timestamp, v2-4 a retention time, v6 leader epochs (KIP-320),
//! v7 static members (KIP-345), v9 members of consumer groups (KIP-848), v10 topic ids. An offset may be negative and its metadata null, as with Kafka.

use std::ops::RangeInclusive;

use esker_core::group::{Identity, OffsetCommit as Commit, OffsetCommitRequest as CommitRequest};
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use esker_protocol::primitives::{Str, Uuid};

use super::handler::{Handler, RequestContext, Staged};

/// The OffsetCommit API.
pub struct OffsetCommit;

impl Handler for OffsetCommit {
    type Request = OffsetCommitRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=10;

    fn handle(ctx: RequestContext, request: OffsetCommitRequest) -> Staged<OffsetCommitResponse> {
        Staged::start(commit(ctx, request))
    }
}

async fn commit(ctx: RequestContext, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = ctx.broker.metadata.image();
    let by_id = ctx.api_version >= 10;
    let mut offsets = Vec::new();
    let mut topics: Vec<OffsetCommitResponseTopic> = Vec::new();
    // Where the codes of the offsets go.
    let mut slots = Vec::new();
    for topic in request.topics {
        let known = resolve(&image, by_id, &topic.name, topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for p in topic.partitions {
            let error_code = match &known {
                Err(code) => *code,
                Ok((_, _, count)) if !(0..*count).contains(&p.partition_index) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Ok((name, topic_id, _)) => {
                    slots.push((topics.len(), partitions.len()));
                    offsets.push(Commit {
                        topic: name.clone(),
                        topic_id: *topic_id,
                        partition: p.partition_index,
                        offset: p.committed_offset,
                        leader_epoch: p.committed_leader_epoch,
                        metadata: p.committed_metadata,
                        committed_at: p.commit_timestamp,
                    });
                    ErrorCode::NONE
                }
            };
            partitions.push(OffsetCommitResponsePartition { partition_index: p.partition_index, error_code });
        }
        topics.push(OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions });
    }
    let commit = CommitRequest {
        group: request.group_id,
        identity: Identity {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
        },
        retention_ms: Some(request.retention_time_ms).filter(|keep| *keep >= 0),
        not_found_code: ctx.api_version >= 9,
        offsets,
    };
    let outcome = ctx.broker.groups.commit(&image, commit).await;
    for (at, (topic, slot)) in slots.into_iter().enumerate() {
        let code = match &outcome {
            Ok(codes) => codes.get(at).copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(code) => *code,
        };
        if let Some(partition) = topics.get_mut(topic).and_then(|t| t.partitions.get_mut(slot)) {
            partition.error_code = code;
        }
    }
    OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
}

/// A topic's name, id and partition count.
pub(super) fn resolve(image: &MetadataImage, by_id: bool, name: &Str, id: Uuid) -> Result<(Str, Uuid, i32), ErrorCode> {
    let topic = if by_id {
        image.topic_by_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?
    } else {
        image.topic(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?
    };
    Ok((topic.name.clone(), topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)))
}
