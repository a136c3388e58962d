//! Fetch (1): records of many partitions in one answer, as slices of mapped segments.
//!
//! v4 added isolation levels (KIP-98), v5 the log start offset (KIP-107), v7 sessions (KIP-227), v9 leader epochs
//! (KIP-320), v10 zstd (KIP-110), v11 racks and reads from followers (KIP-392), v12 flexible fields and diverging epochs
//! (KIP-595), v13 topic ids (KIP-516), v15 the replica's state as a tag (KIP-903), v16 the new leader on a wrong broker
//! (KIP-951). v0-3 are served by converting records down, a slow path of its own.
//!
//! Stage one resolves the session and reads; if that is not enough, stage two waits. Limits are soft, as in Kafka: the
//! first batch is returned whole so that a consumer always moves on.

mod convert;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use esker_core::fetch_session::{
    FINAL_EPOCH, FetchTarget, PartitionRequest, PartitionStatus, SessionFetch, SessionRequest,
};
use esker_core::metadata::PartitionId;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use esker_protocol::primitives::Str;
use esker_storage::ReadError;
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::traced;
use crate::error::KafkaError;
use crate::fetch_sessions::{BegunFetch, FetchSessions, FoundPartition, ReaderView};
use crate::replica::{
    AccessError, FetchError, FetchLimits, Instead, LeaderHint, Partition, PartitionRead, ReadAt, ReadBound, ReadFrom,
    ReadPass, ReadRequest, ReadyRequests, TopicRef, is_enough, read_cold, read_resident, wait_for_more, wait_for_ready,
};
use crate::telemetry::TopicCount;

/// The Fetch API.
pub struct Fetch;

impl Handler for Fetch {
    type Request = FetchRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=18;

    fn handle(ctx: RequestContext, request: FetchRequest) -> Staged<FetchResponse> {
        let reader = Reader::of(&ctx, &request);
        serve(ctx, reader, request)
    }
}

/// Reads for `reader`: both for clients and for followers.
pub(super) fn serve(ctx: RequestContext, reader: Reader, request: FetchRequest) -> Staged<FetchResponse> {
    let mut limits = limits_of(&ctx, &request);
    let names_of_frame = is_final_without_session(&request);
    let mut begun = match begin(&ctx, &reader, request) {
        Ok(begun) => begun,
        Err(error_code) => return Staged::Ready(FetchResponse { error_code, ..FetchResponse::default() }),
    };
    limits.has_others = begun.fetch.has_others;
    let wanted = reader.want_all(&ctx, &begun.fetch, std::mem::take(&mut begun.partitions));
    let pass = read_resident(&wanted, &limits);
    let pass = match pass {
        Some(pass) if is_enough(&pass, &limits) => {
            return Staged::Ready(answer(&ctx, reader.replica, &begun, &wanted, pass));
        }
        pass => pass,
    };
    // A request that waits must not keep its frame in memory, however large that is: the client's name for itself and topic names are
    // slices of it.
    let ctx = RequestContext { client_id: None, ..ctx };
    if names_of_frame {
        detach_names(&mut begun.fetch.partitions);
    }
    let bytes = begun.fetch.partitions.len().saturating_mul(PARKED_PARTITION);
    Staged::Parked(bytes, finish_later(ctx, reader, limits, begun, wanted, pass).boxed())
}

/// Bytes that a partition of a fetch that waits takes: its target, its wish, its reading and its places among those that wait.
const PARKED_PARTITION: usize = 512;

/// Copies topic names; targets of one topic share theirs.
fn detach_names(targets: &mut [(FetchTarget, PartitionRequest)]) {
    let mut last = Str::default();
    for (target, _) in targets {
        if last != target.topic {
            last = target.topic.detached();
        }
        target.topic = last.clone();
    }
}

/// Stage two: reads what is not in memory, and waits for more.
async fn finish_later(
    ctx: RequestContext,
    reader: Reader,
    limits: FetchLimits,
    mut begun: BegunFetch,
    wanted: Vec<ReadRequest>,
    pass: Option<ReadPass>,
) -> FetchResponse {
    let gate = ctx.broker.replicas.cold_gate();
    let mut pass = match pass {
        Some(pass) => pass,
        None => read_cold(gate, &wanted, &limits).await,
    };
    let mut wanted = wanted;
    if !is_enough(&pass, &limits) {
        match begun.session.clone().filter(|_| begun.fetch.incremental) {
            None => pass = wait_for_more(gate, &wanted, &limits, pass).await,
            Some(session) => {
                let list = || {
                    // The follower has sent its next request: it waits for this answer.
                    if reader.replica >= 0 && session.is_overtaken(&begun.fetch) {
                        return None;
                    }
                    let (fetch, partitions) = session.list_again(&reader.finder(&ctx))?;
                    let (wanted, has_others) = (reader.want_all(&ctx, &fetch, partitions), fetch.has_others);
                    begun.fetch = fetch;
                    Some(ReadyRequests { requests: wanted, has_others })
                };
                (wanted, pass) = wait_for_ready(gate, session.ready(), (wanted, pass), &limits, list).await;
            }
        }
    }
    pass.refuse_deleted(&wanted);
    answer(&ctx, reader.replica, &begun, &wanted, pass)
}

/// The reader, and the rules of its reads.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    api_version: i16,
    replica: i32,
    bound: ReadBound,
    from: ReadFrom,
    /// Where a consumer is, if it may be sent to a follower there.
    rack: Option<Str>,
    /// Partitions that are answered with an error.
    uncounted: Uncounted,
}

/// Partitions of a follower whose report did not count, and why.
pub type Uncounted = BTreeMap<PartitionId, AccessError>;

impl Reader {
    /// A follower, which reads up to the log end.
    pub(super) fn follower(api_version: i16, replica: i32, uncounted: Uncounted) -> Self {
        Self { api_version, replica, bound: ReadBound::LogEnd, from: ReadFrom::Leader, rack: None, uncounted }
    }

    fn of(ctx: &RequestContext, request: &FetchRequest) -> Self {
        let replica = client_replica_of(request);
        let knows_replicas = replica < 0 && ctx.api_version >= KNOWS_PREFERRED_REPLICA;
        let is_sent = knows_replicas && ctx.broker.config.replication.is_rack_aware && !request.rack_id.is_empty();
        Self {
            api_version: ctx.api_version,
            replica,
            bound: bound_of(replica, request.isolation_level),
            from: if knows_replicas { ReadFrom::AnyReplica } else { ReadFrom::Leader },
            // A request that waits must not keep its frame.
            rack: is_sent.then(|| request.rack_id.detached()),
            uncounted: Uncounted::new(),
        }
    }

    fn view(&self, ctx: &RequestContext) -> ReaderView {
        ReaderView {
            replica: self.replica,
            bound: self.bound,
            from: self.from,
            checks_epochs: self.checks_epochs(),
            offline_dirs: ctx.broker.replicas.logs().offline_dirs(),
        }
    }

    /// The sessions that this reader's is one of.
    fn sessions<'a>(&self, ctx: &'a RequestContext) -> &'a FetchSessions {
        let of_follower = (0..NO_FOLLOWER).contains(&self.replica);
        if of_follower { &ctx.broker.follower_sessions } else { &ctx.broker.fetch_sessions }
    }

    /// A session may be gone on with in a version that has no field for a diverging epoch.
    fn checks_epochs(&self) -> bool {
        self.api_version >= 12
    }

    fn finder<'a>(&'a self, ctx: &'a RequestContext) -> impl Fn(&FetchTarget) -> FoundPartition + 'a {
        move |target: &FetchTarget| {
            let topic = TopicRef::of_request(self.api_version >= 13, &target.topic, target.topic_id);
            let id = PartitionId { topic: target.topic_id, partition: target.partition };
            if let Some(error) = self.uncounted.get(&id) {
                return Err(error.clone());
            }
            let partition = ctx.broker.replicas.partition(&topic, target.partition)?;
            for_replica(partition, self.replica)
        }
    }

    fn want_all(
        &self,
        ctx: &RequestContext,
        fetch: &SessionFetch,
        partitions: Vec<FoundPartition>,
    ) -> Vec<ReadRequest> {
        // Without a session each fetch names everything: it would be answered at once until the follower has made its log start durable.
        let follows_start = self.bound == ReadBound::LogEnd && !fetch.slots.is_empty();
        let want = |((_, wanted), partition): (&(FetchTarget, PartitionRequest), FoundPartition)| ReadRequest {
            instead: partition.as_ref().ok().and_then(|partition| self.instead(ctx, partition, wanted.offset)),
            partition,
            at: ReadAt {
                offset: wanted.offset,
                current_leader_epoch: wanted.current_leader_epoch,
                last_fetched_epoch: if self.checks_epochs() { wanted.last_fetched_epoch } else { -1 },
                bound: self.bound,
                from: self.from,
            },
            max_bytes: usize::try_from(wanted.max_bytes).unwrap_or_default(),
            known_start: follows_start.then_some(wanted.log_start_offset),
        };
        fetch.partitions.iter().zip(partitions).map(want).collect()
    }
}

impl Reader {
    /// Whether a partition is answered without records. Replicas that are in sync are never throttled.
    fn instead(&self, ctx: &RequestContext, partition: &Partition, offset: i64) -> Option<Instead> {
        let quota = &ctx.broker.replicas.quotas().leader;
        if self.replica >= 0 && quota.is_limited() {
            let role = partition.role();
            let may_wait = role.is_throttled_as_leader(partition.index()) && !role.is_in_sync(self.replica);
            return (may_wait && !quota.pause().is_zero()).then_some(Instead::Throttled);
        }
        let rack = self.rack.as_ref()?;
        let image = ctx.broker.replicas.applied_image();
        let listener = &ctx.connection.listener;
        let is_in_rack = |id: i32, rack: &str| {
            let broker = image.broker(id).filter(|broker| !broker.fenced);
            broker.is_some_and(|broker| {
                broker.rack.as_deref() == Some(rack) && broker.listeners.iter().any(|l| l.name == *listener)
            })
        };
        partition.preferred_read_replica(rack, offset, is_in_rack).map(Instead::PreferredReplica)
    }
}

/// From here on a client knows the preferred replica of an answer, and reads from followers.
const KNOWS_PREFERRED_REPLICA: i16 = 11;

/// `replica_id` of a consumer.
const CONSUMER: i32 = -1;

fn replica_of(request: &FetchRequest) -> i32 {
    if request.replica_id == CONSUMER { request.replica_state.replica_id } else { request.replica_id }
}

/// The reader of a Fetch on a client's connection: followers fetch by ReplicaFetch (see [`super::peer`]). A broker id here belongs to
/// no follower of any partition: the answer is NOT_LEADER_OR_FOLLOWER.
fn client_replica_of(request: &FetchRequest) -> i32 {
    match replica_of(request) {
        0.. => NO_FOLLOWER,
        client => client,
    }
}

/// An id that no broker has.
const NO_FOLLOWER: i32 = i32::MAX;

/// Only a broker's id reads past the high watermark. Every negative id is a consumer's: -2 is that of an old tool, and -3,
/// Kafka's replica on its way between log dirs, comes in no request.
fn bound_of(replica: i32, isolation_level: i8) -> ReadBound {
    match (replica, isolation_level) {
        (0.., _) => ReadBound::LogEnd,
        (_, 0) => ReadBound::HighWatermark,
        (_, _) => ReadBound::LastStable,
    }
}

fn limits_of(ctx: &RequestContext, request: &FetchRequest) -> FetchLimits {
    let most = request.max_bytes.min(ctx.broker.config.fetch_max_bytes);
    FetchLimits {
        max_bytes: usize::try_from(most).unwrap_or_default(),
        min_bytes: i64::from(request.min_bytes.min(most)),
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or_default()),
        first_batch_whole: ctx.api_version >= 3,
        has_others: false,
    }
}

/// It neither has nor asks for a session: what it names is read as it comes, without a copy.
fn is_final_without_session(request: &FetchRequest) -> bool {
    request.session_epoch == FINAL_EPOCH && request.session_id == 0
}

fn begin(ctx: &RequestContext, reader: &Reader, request: FetchRequest) -> Result<BegunFetch, ErrorCode> {
    let is_final = is_final_without_session(&request);
    let partitions = request.topics.into_iter().flat_map(|topic| {
        let (name, id) = (topic.topic, topic.topic_id);
        topic.partitions.into_iter().map(move |p| {
            let target = FetchTarget { topic: name.clone(), topic_id: id, partition: p.partition };
            let wanted = PartitionRequest {
                offset: p.fetch_offset,
                max_bytes: p.partition_max_bytes,
                current_leader_epoch: p.current_leader_epoch,
                last_fetched_epoch: p.last_fetched_epoch,
                log_start_offset: p.log_start_offset,
            };
            (target, wanted)
        })
    });
    let finder = reader.finder(ctx);
    if is_final {
        return Ok(BegunFetch::of(partitions.collect(), &finder));
    }
    let detached = |(target, wanted): (FetchTarget, PartitionRequest)| {
        (FetchTarget { topic: target.topic.detached(), ..target }, wanted)
    };
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        topic.partitions.iter().map(|p| FetchTarget {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partition: *p,
        })
    });
    let session = SessionRequest {
        id: request.session_id,
        epoch: request.session_epoch,
        by_id: ctx.api_version >= 13,
        repeats: reader.replica >= 0,
        // What a session keeps must not keep the request's frame.
        partitions: partitions.map(detached).collect(),
        forgotten: forgotten.collect(),
    };
    let random = || ctx.broker.node.random_u64();
    reader.sessions(ctx).begin(session, reader.view(ctx), &finder, random, ctx.broker.now_ms())
}

/// Only a follower of the partition may read it as a broker does, that is past the high watermark.
fn for_replica(partition: Arc<Partition>, replica: i32) -> Result<Arc<Partition>, AccessError> {
    if replica >= 0 {
        partition.role().check_follower(replica)?;
    }
    Ok(partition)
}

fn answer(
    ctx: &RequestContext,
    replica: i32,
    begun: &BegunFetch,
    wanted: &[ReadRequest],
    pass: ReadPass,
) -> FetchResponse {
    let fetch = &begun.fetch;
    let mut hints: BTreeMap<i32, LeaderHint> = BTreeMap::new();
    let mut told = Vec::with_capacity(pass.reads.len());
    let mut statuses = Vec::with_capacity(if begun.session.is_some() { pass.reads.len() } else { 0 });
    for ((want, read), (target, _)) in wanted.iter().zip(pass.reads).zip(&fetch.partitions) {
        let is_at_end = read.as_ref().is_ok_and(|read| want.at.offset >= read.up_to);
        let read = read.and_then(|read| convert::for_version(read, ctx.api_version, want.max_bytes));
        count_read(ctx, replica, want, &read);
        let data = match read.and_then(|read| partition_data(target.partition, want, read)) {
            Ok(data) => data,
            Err(error) => {
                let mut data = failed(ctx.api_version, target.partition, &error, &mut hints);
                if let (ErrorCode::OFFSET_OUT_OF_RANGE, ReadBound::LogEnd) = (data.error_code, want.at.bound) {
                    name_ends(&mut data, want);
                }
                data
            }
        };
        if begun.session.is_some() {
            statuses.push(status_of(&data, is_at_end));
        }
        told.push(data);
    }
    let shown = match &begun.session {
        Some(session) => session.finish(fetch, &statuses),
        None => vec![true; told.len()],
    };
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for (((data, (target, _)), _), want) in
        told.into_iter().zip(&fetch.partitions).zip(shown).zip(wanted).filter(|((_, shown), _)| *shown)
    {
        if let (Ok(partition), Some(records)) = (&want.partition, &data.records) {
            let quota = &ctx.broker.replicas.quotas().leader;
            let is_counted = want.at.bound == ReadBound::LogEnd && quota.is_limited();
            if is_counted && partition.role().is_throttled_as_leader(partition.index()) {
                quota.record(records.len());
            }
        }
        match responses.last_mut() {
            Some(last) if last.topic == target.topic && last.topic_id == target.topic_id => last.partitions.push(data),
            _ => responses.push(FetchableTopicResponse {
                topic: target.topic.clone(),
                topic_id: target.topic_id,
                partitions: vec![data],
            }),
        }
    }
    let endpoints = hints.keys().filter_map(|id| ctx.endpoint_of(*id));
    let response = FetchResponse {
        session_id: begun.session_id(),
        responses,
        node_endpoints: endpoints
            .map(|e| NodeEndpoint { node_id: e.node_id, host: e.host, port: e.port, rack: e.rack })
            .collect(),
        ..FetchResponse::default()
    };
    if replica < 0 {
        traced::link_fetch(ctx, &response);
    }
    response
}

/// Counts a read as Kafka does: what a reader corrects by itself is no failure.
fn count_read(ctx: &RequestContext, replica: i32, want: &ReadRequest, read: &Result<PartitionRead, FetchError>) {
    let Ok(partition) = &want.partition else { return };
    let rates = partition.rates();
    let bytes = read.as_ref().map_or(0, |read| read.info.records.len());
    match read {
        Ok(_) if want.at.bound == ReadBound::LogEnd => {
            if bytes > 0 {
                rates.record(TopicCount::ReplicationBytesOut, bytes);
                if ctx.broker.replicas.is_adding(partition, replica) {
                    rates.record(TopicCount::ReassignmentBytesOut, bytes);
                }
            }
        }
        Ok(_) => {
            rates.record(TopicCount::FetchRequests, 1);
            if bytes > 0 {
                rates.record(TopicCount::BytesOut, bytes);
                if ctx.api_version < convert::CONVERTS_BELOW {
                    rates.record(TopicCount::FetchConversions, 1);
                }
            }
        }
        Err(FetchError::Access(_) | FetchError::Read(ReadError::OffsetOutOfRange { .. })) => {}
        Err(_) => rates.record(TopicCount::FailedFetchRequests, 1),
    }
}

/// A follower whose offset is out of range learns where the log begins and ends.
fn name_ends(data: &mut PartitionData, want: &ReadRequest) {
    let Ok(partition) = &want.partition else { return };
    let log = partition.log();
    data.log_start_offset = log.log_start_offset();
    data.diverging_epoch.end_offset = log.log_end_offset();
}

fn status_of(data: &PartitionData, is_at_end: bool) -> PartitionStatus {
    let records = data.records.as_ref().is_some_and(|r| !r.is_empty());
    let must_report = records
        || data.preferred_read_replica >= 0
        || data.error_code.is_error()
        || data.diverging_epoch != EpochEndOffset::default();
    PartitionStatus {
        must_report,
        is_caught_up: is_at_end && !must_report,
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
    }
}

fn partition_data(partition_index: i32, want: &ReadRequest, read: PartitionRead) -> Result<PartitionData, FetchError> {
    let aborted = match (&want.partition, want.at.bound) {
        (Ok(partition), ReadBound::LastStable) => {
            // Without the list a consumer would take aborted records for committed ones.
            Some(partition.log().aborted_transactions(want.at.offset, read.info.next_offset)?)
        }
        _ => None,
    };
    Ok(PartitionData {
        partition_index,
        error_code: ErrorCode::NONE,
        high_watermark: read.high_watermark,
        last_stable_offset: read.last_stable_offset,
        log_start_offset: read.log_start_offset,
        diverging_epoch: read
            .diverging
            .map(|end| EpochEndOffset { epoch: end.leader_epoch, end_offset: end.end_offset })
            .unwrap_or_default(),
        aborted_transactions: aborted.map(|list| {
            let entry = |a: esker_storage::AbortedTransaction| AbortedTransaction {
                producer_id: a.producer_id,
                first_offset: a.first_offset,
            };
            list.into_iter().map(entry).collect()
        }),
        records: Some(read.info.records),
        preferred_read_replica: match want.instead {
            Some(Instead::PreferredReplica(id)) => id,
            _ => -1,
        },
        ..PartitionData::default()
    })
}

/// From here on an answer names the new leader (KIP-951).
const NAMES_LEADER: i16 = 16;

/// From here on clients know KAFKA_STORAGE_ERROR (KIP-112).
const KNOWS_STORAGE_ERROR: i16 = 6;

/// Kafka's code for `error`, as far as `version` knows it.
fn code_in(version: i16, error: &FetchError) -> ErrorCode {
    match error.code() {
        ErrorCode::KAFKA_STORAGE_ERROR if version < KNOWS_STORAGE_ERROR => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        code => code,
    }
}

fn failed(
    version: i16,
    partition_index: i32,
    error: &FetchError,
    hints: &mut BTreeMap<i32, LeaderHint>,
) -> PartitionData {
    let hint = match error {
        FetchError::Access(AccessError::NotLeader(hint)) => Some(*hint),
        FetchError::Access(AccessError::FencedLeaderEpoch { current, .. }) => Some(*current),
        _ => None,
    };
    let hint = hint.filter(|_| version >= NAMES_LEADER);
    if let Some(hint) = hint {
        hints.insert(hint.leader, hint);
    }
    let unknown = matches!(
        error,
        FetchError::Access(
            AccessError::UnknownPartition | AccessError::UnknownTopicId | AccessError::InconsistentTopicId
        )
    );
    PartitionData {
        partition_index,
        error_code: code_in(version, error),
        high_watermark: -1,
        current_leader: hint
            .map(|h| LeaderIdAndEpoch { leader_id: h.leader, leader_epoch: h.leader_epoch })
            .unwrap_or_default(),
        // Null in the answer of a partition that is there, empty in that of one that is not.
        aborted_transactions: unknown.then(Vec::new),
        records: Some(bytes::Bytes::new()),
        ..PartitionData::default()
    }
}

#[cfg(test)]
mod tests;
