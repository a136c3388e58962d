//! ReplicaFetch (32010): a follower reports how far its logs reach, and reads the leader's up to their ends.
//!
//! The report comes first: it may move the high watermark, which the answer carries. Partitions of the session that the request does not name
//! have not changed at the follower. The read is that of Fetch, with the same sessions. Must never: count a report of a broker of another
//! incarnation than the metadata has (KIP-903).

use esker_core::metadata::MetadataImage;
use esker_core::replication::wire::ReplicaFetchRequest;
use esker_core::replication::{FollowerFetch, ReplicaEnds};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};

use crate::handlers::fetch::{self, Reader};
use crate::handlers::handler::{RequestContext, Staged};
use crate::replica::{ReplicaFetch, TopicRef};

/// The version of the answer, and of the Fetch that it is the answer of.
const FETCH_VERSION: i16 = 17;

/// Serves a follower's request; `ctx.connection` must be a peer's.
pub fn replica_fetch(ctx: RequestContext, request: ReplicaFetchRequest) -> Staged<FetchResponse> {
    let image = ctx.broker.replicas.applied_image();
    if let Err(error_code) = check_epoch(&image, request.replica_id, request.broker_epoch) {
        return Staged::Ready(FetchResponse { error_code, ..FetchResponse::default() });
    }
    record_ends(&ctx, &request);
    let reader = Reader::follower(FETCH_VERSION, request.replica_id);
    fetch::serve(RequestContext { api_version: FETCH_VERSION, ..ctx }, reader, fetch_of(request))
}

fn check_epoch(image: &MetadataImage, replica: i32, epoch: i64) -> Result<(), ErrorCode> {
    match image.broker(replica) {
        Some(broker) if broker.epoch == epoch => Ok(()),
        // Of an earlier incarnation; or of a later one, whose registration comes with the next image.
        _ => Err(ErrorCode::STALE_BROKER_EPOCH),
    }
}

fn record_ends(ctx: &RequestContext, request: &ReplicaFetchRequest) {
    let replicas = &ctx.broker.replicas;
    for topic in &request.topics {
        let Ok(known) = replicas.topic(&TopicRef::Id(topic.topic_id)) else { continue };
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
            // Whatever is wrong is in the answer: the read finds it, too.
            let Ok(partition) = known.partition(data.partition) else { continue };
            if partition.record_fetch(&fetch).is_ok_and(|update| update.could_join) {
                replicas.isr_requests().add(&partition);
            }
        }
    }
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
