//! DeleteRecords (21, KIP-107): moves a partition's log start offset up; records below it are gone for readers at once and
//! from the disk when its segment goes. Offset -1 means the high watermark.
//!
//! Stage one: the leader's log start moves, and is durable. Stage two, as in Kafka: the answer waits until the low watermark (the lowest log
//! start of the live replicas) has reached the offset, so that no fail-over brings the records back. All partitions wait together.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use esker_core::internal_topics::is_internal;
use esker_core::replication::{DeletionOutcome, DeletionProgress};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopic, DeleteRecordsTopicResult,
};
use esker_protocol::primitives::Str;
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::{request_timeout, run_blocking};
use crate::error::KafkaError;
use crate::replica::{DeleteRecordsError, Partition, TopicRef};

/// The DeleteRecords API.
pub struct DeleteRecords;

impl Handler for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    /// Writes checkpoints and so runs where blocking is allowed; the wait for the followers does not block.
    fn handle(ctx: RequestContext, mut request: DeleteRecordsRequest) -> Staged<DeleteRecordsResponse> {
        // Another broker may lead by now: what is deleted here alone would come back.
        if ctx.broker.session.is_isolated() {
            return Staged::Ready(failed(request.topics, ErrorCode::NOT_LEADER_OR_FOLLOWER));
        }
        // A request that waits must not keep its frame: the client's name for itself and topic names are slices of it.
        let ctx = RequestContext { client_id: None, ..ctx };
        request.topics.iter_mut().for_each(|topic| topic.name = topic.name.detached());
        let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let (topics, node, work) = (request.topics.clone(), ctx.broker.node.clone(), ctx.clone());
        let deleted = run_blocking(&node, request_timeout(request.timeout_ms), move || delete_all(&work, request));
        let answer = async move {
            match deleted.await {
                Ok(deletions) => wait_then_answer(&ctx, deletions, deadline).await,
                Err(code) => failed(topics, code),
            }
        };
        Staged::Parked(partitions.saturating_mul(PARKED_PARTITION), answer.boxed())
    }
}

/// Bytes that a partition of a pending answer takes: its result, its place among those that wait, and its name's share.
const PARKED_PARTITION: usize = 256;

fn failed(topics: Vec<DeleteRecordsTopic>, error_code: ErrorCode) -> DeleteRecordsResponse {
    let partition = |wanted: &DeleteRecordsPartition| result_of(wanted.partition_index, INVALID, error_code);
    let topics = topics.into_iter().map(|topic| DeleteRecordsTopicResult {
        partitions: topic.partitions.iter().map(partition).collect(),
        name: topic.name,
    });
    DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
}

fn result_of(partition_index: i32, low_watermark: i64, error_code: ErrorCode) -> DeleteRecordsPartitionResult {
    DeleteRecordsPartitionResult { partition_index, low_watermark, error_code }
}

/// The low watermark of a partition with an error.
const INVALID: i64 = -1;

/// A partition whose log start has moved here, and the offset that its low watermark must reach.
type Deleted = Result<(Arc<Partition>, i64), DeleteRecordsError>;

/// The partitions of a topic, with their numbers.
type TopicDeletions = (Str, Vec<(i32, Deleted)>);

/// Stage one, for all partitions. Blocks on the disk.
fn delete_all(ctx: &RequestContext, request: DeleteRecordsRequest) -> Vec<TopicDeletions> {
    let mut deletions: Vec<TopicDeletions> = request
        .topics
        .into_iter()
        .map(|topic| {
            let target = TopicRef::by_name(&topic.name);
            let partitions = topic.partitions.iter().map(|p| (p.partition_index, delete(ctx, &target, p)));
            (topic.name, partitions.collect())
        })
        .collect();
    // Of all partitions at once: a stream application purges hundreds in a request.
    let all = deletions.iter_mut().flat_map(|(_, partitions)| partitions).map(|(_, deleted)| deleted);
    save_log_start_offsets(ctx, all.collect());
    deletions
}

fn delete(ctx: &RequestContext, target: &TopicRef, wanted: &DeleteRecordsPartition) -> Deleted {
    let partition = ctx.broker.replicas.partition(target, wanted.partition_index)?;
    if is_internal(partition.topic()) {
        return Err(DeleteRecordsError::InternalTopic);
    }
    let required = partition.delete_records(wanted.offset)?;
    Ok((partition, required))
}

/// Makes the log starts of the leader durable before they are acknowledged.
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

/// A partition that waits, and the place of its result.
struct Waiting {
    topic: usize,
    slot: usize,
    partition: Arc<Partition>,
    required: i64,
}

/// Stage two.
async fn wait_then_answer(
    ctx: &RequestContext,
    deletions: Vec<TopicDeletions>,
    deadline: Instant,
) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    let mut waiting = Vec::new();
    for (topic, (name, partitions)) in deletions.into_iter().enumerate() {
        let mut results = Vec::with_capacity(partitions.len());
        for (slot, (index, deleted)) in partitions.into_iter().enumerate() {
            let code = match deleted {
                Ok((partition, required)) => {
                    waiting.push(Waiting { topic, slot, partition, required });
                    ErrorCode::REQUEST_TIMED_OUT
                }
                Err(error) => error.code(),
            };
            results.push(result_of(index, INVALID, code));
        }
        response.topics.push(DeleteRecordsTopicResult { name, partitions: results });
    }
    wait_for_replicas(ctx, &mut response, waiting, deadline).await;
    response
}

/// Sets the results of `waiting`, each when its replicas have followed, and all at the deadline.
async fn wait_for_replicas(
    ctx: &RequestContext,
    response: &mut DeleteRecordsResponse,
    mut waiting: Vec<Waiting>,
    deadline: Instant,
) {
    // A partition without followers is complete: it registers nowhere.
    waiting.retain(|waiting| !set_result(ctx, response, waiting, false));
    if waiting.is_empty() {
        return;
    }
    let signal = Arc::new(Notify::new());
    let _pending: Vec<_> = waiting.iter().map(|waiting| waiting.partition.park_deletion(&signal)).collect();
    // A broker that is fenced holds up a deletion no more.
    let mut images = ctx.broker.replicas.applied();
    loop {
        let is_time_over = Instant::now() >= deadline;
        images.mark_unchanged();
        waiting.retain(|waiting| !set_result(ctx, response, waiting, is_time_over));
        if waiting.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            () = signal.notified() => {}
            // The sender lives as long as the broker.
            _ = images.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

/// Sets the result of a partition, if there is one by now.
fn set_result(
    ctx: &RequestContext,
    response: &mut DeleteRecordsResponse,
    waiting: &Waiting,
    is_time_over: bool,
) -> bool {
    let image = ctx.broker.replicas.applied_image();
    let state = waiting.partition.low_watermark(|id| image.is_alive(id));
    let progress = DeletionProgress {
        required: waiting.required,
        low_watermark: state.as_ref().ok().copied(),
        is_isolated: ctx.broker.session.is_isolated(),
        is_time_over,
    };
    let (low_watermark, code) = match (progress.outcome(), state) {
        (DeletionOutcome::Pending, _) => return false,
        (DeletionOutcome::Deleted, Ok(low_watermark)) => (low_watermark, ErrorCode::NONE),
        (DeletionOutcome::TimedOut, Ok(low_watermark)) => (low_watermark, ErrorCode::REQUEST_TIMED_OUT),
        // The topic may have been deleted.
        (_, Err(error)) => (INVALID, error.code()),
        (DeletionOutcome::NotLeader, Ok(_)) => (INVALID, ErrorCode::NOT_LEADER_OR_FOLLOWER),
    };
    let topic = response.topics.get_mut(waiting.topic);
    if let Some(result) = topic.and_then(|topic| topic.partitions.get_mut(waiting.slot)) {
        (result.low_watermark, result.error_code) = (low_watermark, code);
    }
    true
}

#[cfg(test)]
mod tests;
