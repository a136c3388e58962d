//! WriteTxnMarkers (27, KIP-98): a transaction coordinator ends transactions in the partitions that this broker leads; an admin ends one
//! that hangs (KIP-664). v2 says which transaction version the markers are of (KIP-890).

use std::ops::RangeInclusive;
use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use crate::coordinator::{Marker, write_marker};

/// The WriteTxnMarkers API.
pub struct WriteTxnMarkers;

impl Handler for WriteTxnMarkers {
    type Request = WriteTxnMarkersRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=2;

    fn handle(ctx: RequestContext, request: WriteTxnMarkersRequest) -> Staged<WriteTxnMarkersResponse> {
        Staged::Later(async move { write_markers(&ctx, request.markers, COMMIT_TIMEOUT).await }.boxed())
    }
}

/// How long an answer waits for its markers to be committed: Kafka's default of `request.timeout.ms`.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes markers into partitions that this broker leads; each waits at most `limit` for its commit. They are appended in the order of the request.
pub(super) async fn write_markers(
    ctx: &RequestContext,
    markers: Vec<WritableTxnMarker>,
    limit: Duration,
) -> WriteTxnMarkersResponse {
    let sets = markers.into_iter().map(|marker| write_marker_set(ctx, marker, limit));
    WriteTxnMarkersResponse { markers: futures_util::future::join_all(sets).await }
}

async fn write_marker_set(ctx: &RequestContext, wanted: WritableTxnMarker, limit: Duration) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer_id: wanted.producer_id,
        producer_epoch: wanted.producer_epoch,
        commit: wanted.transaction_result,
        coordinator_epoch: wanted.coordinator_epoch,
        version: i16::from(wanted.transaction_version),
    };
    let topics = wanted.topics.into_iter().map(async |topic| {
        let writes = topic.partition_indexes.iter().map(|index| {
            let write = write_marker(&ctx.broker.coordinators, &marker, &topic.name, *index);
            tokio::time::timeout(limit, write)
        });
        let outcomes = futures_util::future::join_all(writes).await;
        let results = topic.partition_indexes.iter().zip(outcomes).map(|(partition_index, outcome)| {
            WritableTxnMarkerPartitionResult {
                partition_index: *partition_index,
                // A marker that is written and not committed yet is found there when it is sent again.
                error_code: outcome.unwrap_or(Err(ErrorCode::REQUEST_TIMED_OUT)).err().unwrap_or(ErrorCode::NONE),
            }
        });
        WritableTxnMarkerTopicResult { partitions: results.collect(), name: topic.name }
    });
    let topics = futures_util::future::join_all(topics).await;
    WritableTxnMarkerResult { producer_id: wanted.producer_id, topics }
}
