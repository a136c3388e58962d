//! ReplicaFetch (32010): a follower reports how far its logs reach, and reads the leader's up to their ends.
//!
//! The report comes first: it may move the high watermark, which the answer carries. Partitions of the session that the request does not name
//! have not changed at the follower, which is why a report that could not be counted is answered with its error, also where the read would succeed
//! by now: the follower would never repeat it. The read is that of Fetch, with the same sessions. Must never: count a report of a broker of
//! another incarnation than the metadata has (KIP-903).

use esker_core::metadata::{MetadataImage, PartitionId};
use esker_core::replication::wire::ReplicaFetchRequest;
use esker_core::replication::{FollowerFetch, ReplicaEnds};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};

use crate::handlers::fetch::{self, Reader, Uncounted};
use crate::handlers::handler::{RequestContext, Staged};
use crate::replica::{FetchError, ReplicaFetch, TopicRef};

/// The version of the answer, and of the Fetch that it is the answer of.
const FETCH_VERSION: i16 = 17;

/// Serves a follower's request; `ctx.connection` must be a peer's.
pub fn replica_fetch(ctx: RequestContext, request: ReplicaFetchRequest) -> Staged<FetchResponse> {
    let image = ctx.broker.replicas.applied_image();
    if let Err(error_code) = check_epoch(&image, request.replica_id, request.broker_epoch) {
        return Staged::Ready(FetchResponse { error_code, ..FetchResponse::default() });
    }
    let uncounted = record_ends(&ctx, &request);
    read_for_follower(ctx, request, uncounted)
}

/// What follows the report.
pub fn read_for_follower(
    ctx: RequestContext,
    request: ReplicaFetchRequest,
    uncounted: Uncounted,
) -> Staged<FetchResponse> {
    let reader = Reader::follower(FETCH_VERSION, request.replica_id, uncounted);
    fetch::serve(RequestContext { api_version: FETCH_VERSION, ..ctx }, reader, fetch_of(request))
}

fn check_epoch(image: &MetadataImage, replica: i32, epoch: i64) -> Result<(), ErrorCode> {
    match image.broker(replica) {
        Some(broker) if broker.epoch == epoch => Ok(()),
        // Of an earlier incarnation; or of a later one, whose registration comes with the next image.
        _ => Err(ErrorCode::STALE_BROKER_EPOCH),
    }
}

/// Takes in the reports of a request; returns the partitions whose reports did not count, since this broker does not lead them in that epoch (yet).
pub fn record_ends(ctx: &RequestContext, request: &ReplicaFetchRequest) -> Uncounted {
    let (replicas, mut uncounted) = (&ctx.broker.replicas, Uncounted::new());
    for topic in &request.topics {
        let known = replicas.topic(&TopicRef::Id(topic.topic_id));
        for data in &topic.partitions {
            let ends = ReplicaEnds { log_end: data.fetch_offset, flushed: data.flushed_offset };
            let fetch = ReplicaFetch {
                follower: FollowerFetch {
                    id: request.replica_id,
                    broker_epoch: request.broker_epoch,
                    log_start: data.log_start_offset,
                    ends,
                },
                leader_epoch: data.current_leader_epoch,
                last_fetched_epoch: data.last_fetched_epoch,
            };
            let partition = known.as_ref().map_err(Clone::clone).and_then(|known| known.partition(data.partition));
            let counted = partition.map_err(FetchError::from).and_then(|partition| {
                if partition.record_fetch(&fetch)?.could_join {
                    replicas.isr_requests().add(&partition);
                }
                Ok(())
            });
            // Whatever else is wrong is of the log: the read finds it, too.
            if let Err(FetchError::Access(error)) = counted {
                uncounted.insert(PartitionId { topic: topic.topic_id, partition: data.partition }, error);
            }
        }
    }
    uncounted
}

/// The same as a Fetch of Kafka.
fn fetch_of(request: ReplicaFetchRequest) -> FetchRequest {
    let topics = request.topics.into_iter().map(|topic| FetchTopic {
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|data| FetchPartition {
                partition: data.partition,
                current_leader_epoch: data.current_leader_epoch,
                fetch_offset: data.fetch_offset,
                last_fetched_epoch: data.last_fetched_epoch,
                log_start_offset: data.log_start_offset,
                partition_max_bytes: data.partition_max_bytes,
                ..FetchPartition::default()
            })
            .collect(),
        ..FetchTopic::default()
    });
    let forgotten = request.forgotten.into_iter().map(|topic| ForgottenTopic {
        topic_id: topic.topic_id,
        partitions: topic.partitions,
        ..ForgottenTopic::default()
    });
    FetchRequest {
        max_wait_ms: request.max_wait_ms,
        min_bytes: request.min_bytes,
        max_bytes: request.max_bytes,
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        topics: topics.collect(),
        forgotten_topics_data: forgotten.collect(),
        ..FetchRequest::default()
    }
}
