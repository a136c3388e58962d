//! OffsetForLeaderEpoch (23): where a leader epoch ends in this log, so that a client (v2+, KIP-320) or a follower
//! (KIP-101) finds the point where its own copy parts from the leader's. v3 names the requesting replica.

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};

use super::handler::{Handler, RequestContext, Staged};
use crate::error::KafkaError;
use crate::replica::{AccessError, TopicRef};

/// The OffsetForLeaderEpoch API.
pub struct OffsetForLeaderEpoch;

impl Handler for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn handle(ctx: RequestContext, request: OffsetForLeaderEpochRequest) -> Staged<OffsetForLeaderEpochResponse> {
        let topics = request.topics.into_iter().map(|topic| {
            let target = TopicRef::by_name(&topic.topic);
            let partitions = topic.partitions.iter().map(|wanted| {
                look_up(&ctx, &target, wanted).unwrap_or_else(|error| EpochEndOffset {
                    partition: wanted.partition,
                    error_code: error.code(),
                    ..EpochEndOffset::default()
                })
            });
            OffsetForLeaderTopicResult { partitions: partitions.collect(), topic: topic.topic }
        });
        Staged::Ready(OffsetForLeaderEpochResponse {
            topics: topics.collect(),
            ..OffsetForLeaderEpochResponse::default()
        })
    }
}

fn look_up(
    ctx: &RequestContext,
    target: &TopicRef,
    wanted: &OffsetForLeaderPartition,
) -> Result<EpochEndOffset, AccessError> {
    let partition = ctx.broker.replicas.partition(target, wanted.partition)?;
    partition.leader_for_epoch(wanted.current_leader_epoch)?;
    let end = partition.log().epoch_end_offset(wanted.leader_epoch);
    Ok(EpochEndOffset {
        error_code: ErrorCode::NONE,
        partition: wanted.partition,
        leader_epoch: end.leader_epoch,
        end_offset: end.end_offset,
    })
}
