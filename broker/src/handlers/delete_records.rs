//! DeleteRecords (21, KIP-107): moves a partition's log start offset up; records below it are gone for readers at once and
//! from the disk when its segment goes. Offset -1 means the high watermark. The new start is on disk before the answer goes out.

use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::internal_topics::is_internal;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopic, DeleteRecordsTopicResult,
};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::{request_timeout, run_blocking};
use crate::error::KafkaError;
use crate::replica::{DeleteRecordsError, Partition, TopicRef};

/// The DeleteRecords API.
pub struct DeleteRecords;

impl Handler for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    /// Writes checkpoints and so runs where blocking is allowed.
    fn handle(ctx: RequestContext, request: DeleteRecordsRequest) -> Staged<DeleteRecordsResponse> {
        let topics = request.topics.clone();
        let node = ctx.broker.node.clone();
        let deleted = run_blocking(&node, request_timeout(request.timeout_ms), move || answer(&ctx, request));
        Staged::Later(async move { deleted.await.unwrap_or_else(|code| failed(topics, code)) }.boxed())
    }
}

fn failed(topics: Vec<DeleteRecordsTopic>, error_code: ErrorCode) -> DeleteRecordsResponse {
    let partition = |wanted: &DeleteRecordsPartition| DeleteRecordsPartitionResult {
        partition_index: wanted.partition_index,
        low_watermark: -1,
        error_code,
    };
    let topics = topics.into_iter().map(|topic| DeleteRecordsTopicResult {
        partitions: topic.partitions.iter().map(partition).collect(),
        name: topic.name,
    });
    DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
}

fn answer(ctx: &RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut deleted: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| {
            let target = TopicRef::by_name(&topic.name);
            let partitions = topic.partitions.iter().map(|p| (p.partition_index, delete(ctx, &target, p)));
            (topic.name, partitions.collect::<Vec<_>>())
        })
        .collect();
    // Of all partitions at once: a stream application purges hundreds in a request.
    let all = deleted.iter_mut().flat_map(|(_, partitions)| partitions).map(|(_, result)| result);
    save_log_start_offsets(ctx, all.collect());
    let topics = deleted.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition_index, result)| {
            let (low_watermark, error_code) = match result {
                Ok((_, low_watermark)) => (low_watermark, ErrorCode::NONE),
                Err(error) => (-1, error.code()),
            };
            DeleteRecordsPartitionResult { partition_index, low_watermark, error_code }
        });
        DeleteRecordsTopicResult { name, partitions: partitions.collect() }
    });
    DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
}

/// The partition and its new log start offset.
type Deleted = Result<(Arc<Partition>, i64), DeleteRecordsError>;

fn delete(ctx: &RequestContext, target: &TopicRef, wanted: &DeleteRecordsPartition) -> Deleted {
    let partition = ctx.broker.replicas.partition(target, wanted.partition_index)?;
    if is_internal(partition.topic()) {
        return Err(DeleteRecordsError::InternalTopic);
    }
    let low_watermark = partition.delete_records(wanted.offset)?;
    Ok((partition, low_watermark))
}

/// Brings the log starts to disk before they are answered.
fn save_log_start_offsets(ctx: &RequestContext, mut deleted: Vec<&mut Deleted>) {
    let log = |deleted: &&mut Deleted| deleted.as_ref().ok().map(|(partition, _)| partition.log());
    let logs: Vec<_> = deleted.iter().filter_map(log).collect();
    if ctx.broker.replicas.logs().flush_log_starts(&logs).is_ok() {
        return;
    }
    // Not all: each for itself.
    for (deleted, log) in deleted.iter_mut().filter(|deleted| deleted.is_ok()).zip(logs) {
        if let Err(error) = ctx.broker.replicas.logs().flush_log_starts(&[log]) {
            **deleted = Err(error.into());
        }
    }
}
