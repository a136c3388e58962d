//! Produce (0): appends one record batch to each partition that a request names, and answers according to `acks`.
//!
//! v0-2 carry message formats 0 and 1, which are converted (a slow path of its own); v3 added record batches (KIP-98),
//! v7 zstd (KIP-110), v8 the records that failed (KIP-467), v9 flexible fields, v10 the new leader on a wrong broker
//! (KIP-951), v11 TRANSACTION_ABORTABLE, v12 implicit registration in transactions (KIP-890), v13 topic ids (KIP-516).
//!
//! Stage one, in request order: check, append. Stage two, where the answer promises more than that: wait for the high watermark,
//! and for the disk. One partition's error never touches another's. The payload stays the slice of the frame that it came in.

mod verify;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use esker_core::internal_topics::is_internal;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse,
    ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use esker_protocol::primitives::Str;
use esker_storage::validate::{RejectReason, ValidateRules, validate};
use esker_storage::{AppendError, Origin, ProducerError};
use tokio::time::Instant;

use super::handler::{Handler, RequestContext, Staged};
use super::traced;
use crate::broker::Endpoint;
use crate::error::KafkaError;
use crate::replica::{
    AccessError, CommitGate, Guarantee, LeaderHint, Partition, ProduceError, TopicRef, TopicReplicas,
};
use crate::server::CloseReason;
use crate::telemetry::TopicCount;
use verify::VerificationResults;

/// The Produce API.
pub struct Produce;

impl Handler for Produce {
    type Request = ProduceRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=13;

    fn handle(ctx: RequestContext, request: ProduceRequest) -> Staged<ProduceResponse> {
        let ctx = RequestContext { trace: traced::trace_produce(&ctx, &request), ..ctx };
        let mut records = request.topic_data.iter().flat_map(|t| &t.partition_data).filter_map(|p| p.records.as_ref());
        if !records.any(|records| verify::is_transactional(records)) {
            return append(ctx, request, &VerificationResults::default());
        }
        match verify::begin_verification(&ctx, &request) {
            Err(code) => refuse(&request, code),
            Ok(None) => append(ctx, request, &VerificationResults::default()),
            // Batches that come behind must not be appended before these.
            Ok(Some(verification)) => {
                let trace = ctx.trace.clone();
                let held = async move {
                    let began = Instant::now();
                    let results = verify::verify(&ctx, verification).await;
                    let metrics = &ctx.broker.metrics;
                    metrics.verifications.record(began.elapsed(), Instant::now());
                    metrics.failed_verifications.inc_by(results.failures() as u64);
                    append(ctx, request, &results)
                };
                Staged::Held(traced::in_span(trace.as_ref(), held))
            }
        }
    }
}

fn append(ctx: RequestContext, request: ProduceRequest, results: &VerificationResults) -> Staged<ProduceResponse> {
    // Another broker may lead by now: what is written here would be truncated.
    if ctx.broker.session.is_isolated() {
        return refuse(&request, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let trace = ctx.trace.clone();
    let _logged = trace.as_ref().map(|span| span.log_span().entered());
    let version = ctx.api_version;
    let (acks, timeout_ms) = (request.acks, request.timeout_ms);
    let mut answers = Answers { version, ..Answers::default() };
    for topic in request.topic_data {
        append_topic(&ctx, &mut answers, topic, acks, results);
    }
    if trace.is_some() {
        tracing::debug!(acks, "the batches of a traced Produce are appended");
    }
    match acks {
        0 => match answers.first_error {
            // The client reads no answer: a closed connection is the only way to report the error.
            Some(code) => Staged::Close(CloseReason::ProduceWithoutAcks(code)),
            None => Staged::NoReply,
        },
        _ if !answers.waiting.is_empty() => {
            answers.detach_names();
            // The client's name for itself is a slice of the frame, too.
            let ctx = RequestContext { client_id: None, ..ctx };
            let partitions: usize = answers.topics.iter().map(|topic| topic.partition_responses.len()).sum();
            let bytes = partitions.saturating_mul(PARKED_PARTITION);
            let flush_due = answers.waiting.iter().any(|waiting| waiting.batch.flush_due);
            let answer = traced::in_span(trace.as_ref(), wait_then_answer(ctx, answers, timeout_ms));
            if !flush_due {
                return Staged::Parked(bytes, answer);
            }
            // The wait requests the flush. It begins now: a connection that ends may drop an answer that was never polled.
            match Staged::start(answer) {
                Staged::Later(answer) => Staged::Parked(bytes, answer),
                staged => staged,
            }
        }
        _ => Staged::Ready(answers.finish(&ctx)),
    }
}

/// One code for every partition of a request.
fn refuse(request: &ProduceRequest, error_code: ErrorCode) -> Staged<ProduceResponse> {
    if request.acks == 0 {
        return Staged::Close(CloseReason::ProduceWithoutAcks(error_code));
    }
    let responses = request.topic_data.iter().map(|topic| TopicProduceResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| PartitionProduceResponse {
                index: data.index,
                error_code,
                base_offset: -1,
                ..PartitionProduceResponse::default()
            })
            .collect(),
    });
    Staged::Ready(ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() })
}

/// A written batch, and what must be so before it is acknowledged.
struct Unacknowledged {
    needs: Guarantee,
    /// `flush.messages` requires a flush, which is not requested yet.
    flush_due: bool,
    partition: Arc<Partition>,
    end: i64,
    leader_epoch: i32,
}

/// The same, and the place of its answer.
struct Waiting {
    topic: usize,
    slot: usize,
    batch: Unacknowledged,
}

/// Bytes that a partition of a pending answer takes: its response, its place among those that wait, and its name's share.
const PARKED_PARTITION: usize = 512;

/// From here on an answer names the new leader (KIP-951).
const NAMES_LEADER: i16 = 10;

#[derive(Default)]
struct Answers {
    version: i16,
    topics: Vec<TopicProduceResponse>,
    waiting: Vec<Waiting>,
    hints: BTreeMap<i32, LeaderHint>,
    first_error: Option<ErrorCode>,
}

impl Answers {
    /// Copies the topic names, slices of the request's frame: a pending answer must not keep the records in memory, which the log has.
    fn detach_names(&mut self) {
        for topic in &mut self.topics {
            topic.name = topic.name.detached();
        }
    }

    fn failed(&mut self, index: i32, error: &ProduceError) -> PartitionProduceResponse {
        let code = error.code();
        self.first_error.get_or_insert(code);
        let mut answer = PartitionProduceResponse {
            index,
            error_code: code,
            base_offset: -1,
            error_message: Some(Str::from(error.to_string())),
            ..PartitionProduceResponse::default()
        };
        if let ProduceError::Rejected(rejected) = error {
            answer.record_errors = rejected
                .record_errors
                .iter()
                .map(|e| BatchIndexAndErrorMessage {
                    batch_index: e.batch_index,
                    batch_index_error_message: Some(Str::from(e.message.clone())),
                })
                .collect();
        }
        if let ProduceError::Access(AccessError::NotLeader(hint)) = error
            && self.version >= NAMES_LEADER
        {
            answer.current_leader = LeaderIdAndEpoch { leader_id: hint.leader, leader_epoch: hint.leader_epoch };
            self.hints.insert(hint.leader, *hint);
        }
        answer
    }

    fn finish(self, ctx: &RequestContext) -> ProduceResponse {
        let endpoints = self.hints.keys().filter_map(|id| ctx.endpoint_of(*id));
        let endpoint = |e: Endpoint| NodeEndpoint { node_id: e.node_id, host: e.host, port: e.port, rack: e.rack };
        ProduceResponse {
            node_endpoints: endpoints.map(endpoint).collect(),
            responses: self.topics,
            ..ProduceResponse::default()
        }
    }
}

fn append_topic(
    ctx: &RequestContext,
    answers: &mut Answers,
    topic: TopicProduceData,
    acks: i16,
    results: &VerificationResults,
) {
    let target = TopicRef::of_request(ctx.api_version >= 13, &topic.name, topic.topic_id);
    let replicas = ctx.broker.replicas.topic(&target);
    let mut responses = Vec::with_capacity(topic.partition_data.len());
    for data in topic.partition_data {
        let index = data.index;
        let written = match &replicas {
            Ok(replicas) => append_partition(ctx, replicas, data, acks, results),
            Err(error) => Err(Refused::from(error.clone())),
        };
        let answer = match written {
            Ok((answer, waiting)) => {
                if let Some(batch) = waiting {
                    answers.waiting.push(Waiting { topic: answers.topics.len(), slot: responses.len(), batch });
                }
                answer
            }
            Err(Refused { error, log_start_offset }) => {
                PartitionProduceResponse { log_start_offset, ..answers.failed(index, &error) }
            }
        };
        responses.push(answer);
    }
    answers.topics.push(TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: responses,
    });
}

/// Why nothing was written. The log start goes with what was looked at by the log, and was not damaged on its way.
struct Refused {
    error: ProduceError,
    log_start_offset: i64,
}

impl<E: Into<ProduceError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self { error: error.into(), log_start_offset: -1 }
    }
}

fn refused(partition: &Partition, error: impl Into<ProduceError>) -> Refused {
    let error = error.into();
    let unknown = match &error {
        ProduceError::Rejected(rejected) => {
            matches!(
                rejected.reason,
                RejectReason::Corrupt(_) | RejectReason::UnknownMagic(_) | RejectReason::TooLarge { .. }
            )
        }
        ProduceError::Append(AppendError::Producer(error)) => matches!(error, ProducerError::NotVerified { .. }),
        ProduceError::Append(_) => true,
        ProduceError::NotEnoughReplicas { .. } => false,
        _ => true,
    };
    Refused { log_start_offset: if unknown { -1 } else { partition.log().log_start_offset() }, error }
}

type Written = (PartitionProduceResponse, Option<Unacknowledged>);

fn append_partition(
    ctx: &RequestContext,
    topic: &TopicReplicas,
    data: PartitionProduceData,
    acks: i16,
    results: &VerificationResults,
) -> Result<Written, Refused> {
    let partition = topic.partition(data.index)?;
    let size = data.records.as_ref().map_or(0, bytes::Bytes::len);
    partition.rates().record(TopicCount::ProduceRequests, 1);
    let part = ctx.trace.as_ref().map(|span| span.begin_part("append"));
    let written = append_records(ctx, Arc::clone(&partition), data, acks, results)
        .inspect_err(|refused| count_failure(&partition, &refused.error, size));
    if let Some(part) = part {
        traced::describe_append(&part, &partition, written.as_ref().ok().map(|(answer, _)| answer.base_offset));
    }
    written
}

/// Counts a refused batch as Kafka does: what a producer corrects by itself is no failure.
fn count_failure(partition: &Partition, error: &ProduceError, size: usize) {
    let rates = partition.rates();
    let kind = match error {
        ProduceError::Access(_) => return,
        ProduceError::Rejected(rejected) => match rejected.reason {
            RejectReason::TooLarge { .. } => return rates.record(TopicCount::BytesRejected, size),
            RejectReason::Corrupt(_) => return rates.record(TopicCount::InvalidCrc, 1),
            RejectReason::UnknownMagic(_) => Some(TopicCount::InvalidMagic),
            RejectReason::MissingKey(_) => Some(TopicCount::NoKey),
            RejectReason::InvalidRecord(_)
            | RejectReason::InvalidTimestamp(_)
            | RejectReason::UnsupportedCompression(_) => None,
        },
        ProduceError::Append(AppendError::Producer(ProducerError::OutOfOrderSequence { .. })) => {
            Some(TopicCount::InvalidSequence)
        }
        _ => None,
    };
    rates.record(TopicCount::FailedProduceRequests, 1);
    if let Some(kind) = kind {
        rates.record(kind, 1);
    }
}

fn append_records(
    ctx: &RequestContext,
    partition: Arc<Partition>,
    data: PartitionProduceData,
    acks: i16,
    results: &VerificationResults,
) -> Result<Written, Refused> {
    if !(-1..=1).contains(&acks) {
        return Err(ProduceError::InvalidAcks(acks).into());
    }
    if is_internal(partition.topic()) && ctx.client_id.as_deref() != Some(ADMIN_CLIENT) {
        return Err(ProduceError::InternalTopic(partition.topic().to_owned()).into());
    }
    let role = partition.leader_for_epoch(-1)?;
    let rules = ValidateRules { produce_version: ctx.api_version, ..role.settings.rules };
    let now_ms = ctx.broker.now_ms();
    let batch = validate(data.records, &rules, now_ms).map_err(|error| refused(&partition, error))?;
    let origin = match batch.header.attributes.is_transactional() {
        true => results.origin(&partition, ctx.api_version).map_err(|error| refused(&partition, error))?,
        false => Origin::Client { transaction_v2: ctx.api_version >= 12 },
    };
    let size = batch.bytes.len();
    let records = batch.header.records_count;
    let appended = partition
        .append(&batch.header, &batch.bytes, origin, acks == -1, now_ms)
        .map_err(|error| refused(&partition, error))?;
    if !appended.duplicate {
        partition.rates().produced(size, records);
        if ctx.api_version < CONVERTS_BELOW {
            partition.rates().record(TopicCount::ProduceConversions, 1);
        }
    }
    let end = appended.last_offset.saturating_add(1);
    let answer = PartitionProduceResponse {
        index: data.index,
        base_offset: appended.base_offset,
        log_append_time_ms: if appended.duplicate { appended.log_append_time } else { batch.log_append_time },
        log_start_offset: appended.log_start_offset,
        ..PartitionProduceResponse::default()
    };
    let leader_epoch = role.assignment.leader_epoch;
    let (all, flush_due) = (acks == -1, appended.flush_due);
    // A flush that an answer waits for is requested by that wait: a second request might begin after it, and flush later batches, too.
    if flush_due && acks == 0 {
        partition.flush_soon();
    } else if !flush_due && !all {
        partition.flush_unawaited();
    }
    let needs = Guarantee { committed: all, on_disk: all && role.settings.flush_before_ack || acks != 0 && flush_due };
    // A batch that must be on disk, and does not wait, is on disk: it needs no request. In the epoch of the append: a leader that was deposed since
    // may have cut the batch off, and be past its end with others.
    let is_met = || matches!(partition.meets_guarantee(needs, end, leader_epoch), Ok(true));
    let waits = (needs.on_disk || needs.committed) && !is_met();
    Ok((answer, waits.then_some(Unacknowledged { needs, flush_due, partition, end, leader_epoch })))
}

/// Requests below this version carry message formats that are converted.
const CONVERTS_BELOW: i16 = 3;
/// Kafka lets this client id write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

async fn wait_then_answer(ctx: RequestContext, mut answers: Answers, timeout_ms: i32) -> ProduceResponse {
    let waiting = std::mem::take(&mut answers.waiting);
    let part = ctx.trace.as_ref().map(|span| span.begin_part("commit"));
    let gate = CommitGate::new(waiting.len());
    let park = |Waiting { batch, .. }: &Waiting| {
        batch.partition.park_commit(batch.needs, batch.end, batch.leader_epoch, &gate)
    };
    let pending: Vec<_> = waiting.iter().map(park).collect();
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let in_time = tokio::time::timeout(timeout, gate.wait()).await.is_ok();
    drop(pending);
    drop(part);
    for Waiting { topic, slot, batch } in waiting {
        let error = match batch.partition.meets_guarantee(batch.needs, batch.end, batch.leader_epoch) {
            Ok(true) => continue,
            Ok(false) if in_time => ProduceError::NotFlushed,
            Ok(false) => ProduceError::TimedOut,
            Err(error) => error,
        };
        let failed = answers.failed(batch.partition.index(), &error);
        if let Some(answer) = answers.topics.get_mut(topic).and_then(|t| t.partition_responses.get_mut(slot)) {
            *answer = failed;
        }
    }
    answers.finish(&ctx)
}

#[cfg(test)]
mod tests;
