//! DeleteRecords (21, KIP-107): moves a partition's log start offset up; what lies below is gone for readers at once and
//! from the disk when its segment goes. Offset -1 means the high watermark.

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use futures_util::FutureExt;

use super::{Handler, RequestContext, Staged};
use crate::error::KafkaError;
use crate::replica::{DeleteRecordsError, TopicRef};

/// The DeleteRecords API.
pub struct DeleteRecords;

impl Handler for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    /// Writes checkpoints and so runs where blocking is allowed.
    fn handle(ctx: RequestContext, request: DeleteRecordsRequest) -> Staged<DeleteRecordsResponse> {
        let task = tokio::task::spawn_blocking(move || answer(&ctx, request));
        Staged::Later(async move { task.await.unwrap_or_default() }.boxed())
    }
}

fn answer(ctx: &RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let target = TopicRef::by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let (low_watermark, error_code) = match delete(ctx, &target, wanted.partition_index, wanted.offset) {
                Ok(low_watermark) => (low_watermark, ErrorCode::NONE),
                Err(error) => (-1, error.code()),
            };
            DeleteRecordsPartitionResult { partition_index: wanted.partition_index, low_watermark, error_code }
        });
        DeleteRecordsTopicResult { partitions: partitions.collect(), name: topic.name }
    });
    DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
}

fn delete(ctx: &RequestContext, target: &TopicRef, index: i32, offset: i64) -> Result<i64, DeleteRecordsError> {
    let replicas = &ctx.broker.replicas;
    let partition = replicas.partition(target, index)?;
    if replicas.is_internal(partition.topic()) {
        return Err(DeleteRecordsError::InternalTopic);
    }
    partition.delete_records(offset)
}
