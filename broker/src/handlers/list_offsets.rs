//! ListOffsets (2): the offset that belongs to a time, or to an end of the log.
//!
//! v0 answers with a list of segment bounds, as brokers before 0.10.1 did (KIP-79); v2 knows isolation levels (KIP-98),
//! v4 leader epochs (KIP-320), v7 the largest timestamp (KIP-734), v8 the local log's start (KIP-405), v9 the last tiered
//! offset (KIP-1005), v11 the earliest offset not yet tiered (KIP-1023). Without tiering the last two answer "none".
//! While the high watermark of a new leader lags behind, a client is asked to retry (KIP-207): with an error of its own since v5.
//!
//! Ends of the log are answered at once; a look-up by time reads the log and so runs where blocking is allowed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::replication::{LeaderEnds, ListedOffset, is_offset_available};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use esker_storage::{Log, ReadError, TimestampOffset};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::{DEFAULT_TIMEOUT, request_timeout, run_blocking};
use crate::error::KafkaError;
use crate::replica::{AccessError, Partition, TopicRef};

/// The ListOffsets API.
pub struct ListOffsets;

impl Handler for ListOffsets {
    type Request = ListOffsetsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=11;

    fn handle(ctx: RequestContext, request: ListOffsetsRequest) -> Staged<ListOffsetsResponse> {
        let reads = request.topics.iter().flat_map(|t| &t.partitions).any(|p| needs_read(ctx.api_version, p.timestamp));
        if !reads {
            return Staged::Ready(answer(&ctx, &request));
        }
        let timeout = if ctx.api_version >= 10 { request_timeout(request.timeout_ms) } else { DEFAULT_TIMEOUT };
        let request = Arc::new(request);
        let looking_up = Arc::clone(&request);
        let node = ctx.broker.node.clone();
        let found = run_blocking(&node, timeout, move || answer(&ctx, &looking_up));
        Staged::Later(async move { found.await.unwrap_or_else(|code| failed_all(&request, code)) }.boxed())
    }
}

/// The special timestamps of the protocol.
mod special {
    pub const LATEST: i64 = -1;
    pub const EARLIEST: i64 = -2;
    pub const MAX_TIMESTAMP: i64 = -3;
    pub const EARLIEST_LOCAL: i64 = -4;
    pub const LATEST_TIERED: i64 = -5;
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

fn needs_read(version: i16, timestamp: i64) -> bool {
    timestamp >= 0 || (timestamp == special::MAX_TIMESTAMP && version >= 7)
}

/// `replica_id` of a consumer; followers send their node id, tools -2.
const CONSUMER: i32 = -1;

fn answer(ctx: &RequestContext, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if !seen.insert((&topic.name, partition.partition_index)) {
                twice.insert((&topic.name, partition.partition_index));
            }
        }
    }
    let topics = request.topics.iter().map(|topic| {
        let target = TopicRef::by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let index = wanted.partition_index;
            if twice.contains(&(&topic.name, index)) {
                return failed(index, ErrorCode::INVALID_REQUEST);
            }
            look_up(ctx, request, &target, wanted).unwrap_or_else(|code| failed(index, code))
        });
        ListOffsetsTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

fn failed_all(request: &ListOffsetsRequest, code: ErrorCode) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(|wanted| failed(wanted.partition_index, code)).collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

fn failed(partition_index: i32, error_code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse { partition_index, error_code, ..ListOffsetsPartitionResponse::default() }
}

/// What a look-up finds: an offset, with the timestamp of its record in a look-up by time.
struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

fn look_up(
    ctx: &RequestContext,
    request: &ListOffsetsRequest,
    target: &TopicRef,
    wanted: &ListOffsetsPartition,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    let version = ctx.api_version;
    let partition = ctx.broker.replicas.partition(target, wanted.partition_index).map_err(|e| e.code())?;
    let leader = partition.leader_for_epoch(wanted.current_leader_epoch).map_err(|e: AccessError| e.code())?;
    let log = partition.log();
    let high_watermark = log.high_watermark();
    let readable = match (request.replica_id, request.isolation_level) {
        (CONSUMER, 0) => high_watermark,
        (CONSUMER, _) => log.last_stable_offset(),
        _ => log.log_end_offset(),
    };
    // v0 is answered as before KIP-207, and a replica is no client.
    let for_client = request.replica_id == CONSUMER && version > 0;
    let ends = for_client.then(|| LeaderEnds { epoch_start: leader.epoch_start(), high_watermark, readable });
    let found = find(&log, version, wanted.timestamp, readable, ends)?;
    let mut answer = failed(wanted.partition_index, ErrorCode::NONE);
    if version == 0 {
        answer.old_style_offsets = offsets_of_v0(&partition, wanted, found.as_ref(), readable);
    } else if let Some(found) = found {
        answer.offset = found.offset;
        answer.timestamp = found.timestamp;
        // KIP-320: there is no such field before version 4.
        if version >= 4 {
            answer.leader_epoch = found.leader_epoch;
        }
    }
    Ok(answer)
}

/// `ends`: those that a client depends on.
fn find(
    log: &Log,
    version: i16,
    timestamp: i64,
    readable: i64,
    ends: Option<LeaderEnds>,
) -> Result<Option<Found>, ErrorCode> {
    let check = |listed| match ends {
        Some(ends) if !is_offset_available(listed, ends) => Err(not_available(version)),
        _ => Ok(()),
    };
    let at = |offset: i64| {
        let leader_epoch = log.epoch_at(offset).or_else(|| log.latest_epoch()).unwrap_or(-1);
        Some(Found { offset, timestamp: -1, leader_epoch })
    };
    let record = |found: Result<Option<TimestampOffset>, ReadError>| {
        let found = found.map_err(|error| error.code())?;
        check(ListedOffset::Record(found.as_ref().map(|f| f.offset)))?;
        Ok(found.filter(|f| f.offset < readable).map(|f| Found {
            offset: f.offset,
            timestamp: f.timestamp,
            leader_epoch: f.leader_epoch,
        }))
    };
    match timestamp {
        special::LATEST => check(ListedOffset::Latest).map(|()| at(readable)),
        special::EARLIEST => check(ListedOffset::Earliest).map(|()| at(log.log_start_offset())),
        special::MAX_TIMESTAMP if version >= 7 => record(log.max_timestamp_offset()),
        special::EARLIEST_LOCAL if version >= 8 => check(ListedOffset::Earliest).map(|()| at(log.log_start_offset())),
        special::LATEST_TIERED if version >= 9 => Ok(None),
        special::EARLIEST_PENDING_UPLOAD if version >= 11 => Ok(None),
        timestamp if timestamp >= 0 => record(log.offset_for_timestamp(timestamp)),
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

/// KIP-207: clients before v5 know no error for it, and retry with this one.
fn not_available(version: i16) -> ErrorCode {
    if version >= 5 { ErrorCode::OFFSET_NOT_AVAILABLE } else { ErrorCode::LEADER_NOT_AVAILABLE }
}

/// v0: up to `max_num_offsets` offsets, newest first.
fn offsets_of_v0(
    partition: &Partition,
    wanted: &ListOffsetsPartition,
    found: Option<&Found>,
    readable: i64,
) -> Vec<i64> {
    let start = partition.log().log_start_offset();
    let mut offsets = match wanted.timestamp {
        special::LATEST => vec![readable, start],
        special::EARLIEST => vec![start],
        _ => found.map(|f| vec![f.offset]).unwrap_or_default(),
    };
    offsets.dedup();
    offsets.truncate(usize::try_from(wanted.max_num_offsets).unwrap_or(0));
    offsets
}
