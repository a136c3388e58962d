//! DescribeProducers (61, KIP-664): the producers of a partition, with sequences and open transactions, as this broker's replica has
//! them: an admin may ask a follower.

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use crate::error::KafkaError;
use crate::replica::{AccessError, TopicRef};

/// The DescribeProducers API.
pub struct DescribeProducers;

impl Handler for DescribeProducers {
    type Request = DescribeProducersRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(ctx: RequestContext, request: DescribeProducersRequest) -> Staged<DescribeProducersResponse> {
        let topics = request.topics.into_iter().map(|topic| {
            let target = TopicRef::by_name(&topic.name);
            let partitions = topic.partition_indexes.iter().map(|index| match active(&ctx, &target, *index) {
                Ok(active_producers) => PartitionResponse {
                    partition_index: *index,
                    error_code: ErrorCode::NONE,
                    active_producers,
                    ..PartitionResponse::default()
                },
                Err(error) => PartitionResponse {
                    partition_index: *index,
                    error_code: error.code(),
                    error_message: Some(Str::from(error.to_string())),
                    ..PartitionResponse::default()
                },
            });
            TopicResponse { partitions: partitions.collect(), name: topic.name }
        });
        Staged::Ready(DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() })
    }
}

fn active(ctx: &RequestContext, target: &TopicRef, index: i32) -> Result<Vec<ProducerState>, AccessError> {
    let partition = ctx.broker.replicas.partition(target, index)?;
    partition.check_replica()?;
    let states = partition.log().producers().into_iter().map(|p| ProducerState {
        producer_id: p.producer_id,
        producer_epoch: i32::from(p.producer_epoch),
        last_sequence: p.last_sequence,
        last_timestamp: p.last_timestamp,
        coordinator_epoch: p.coordinator_epoch,
        current_txn_start_offset: p.current_txn_start_offset,
    });
    Ok(states.collect())
}
