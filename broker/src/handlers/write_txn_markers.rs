//! WriteTxnMarkers (27, KIP-98): a transaction coordinator ends transactions in the partitions that this broker leads; an admin ends one
//! that hangs (KIP-664). v2 says which transaction version the markers are of (KIP-890).

use std::ops::RangeInclusive;

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
        Staged::Later(
            async move {
                let mut markers = Vec::with_capacity(request.markers.len());
                for marker in request.markers {
                    markers.push(one(&ctx, marker).await);
                }
                WriteTxnMarkersResponse { markers }
            }
            .boxed(),
        )
    }
}

async fn one(ctx: &RequestContext, wanted: WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer_id: wanted.producer_id,
        producer_epoch: wanted.producer_epoch,
        commit: wanted.transaction_result,
        coordinator_epoch: wanted.coordinator_epoch,
        version: i16::from(wanted.transaction_version),
    };
    let mut topics = Vec::with_capacity(wanted.topics.len());
    for topic in wanted.topics {
        let writes =
            topic.partition_indexes.iter().map(|index| write_marker(&ctx.broker, &marker, &topic.name, *index));
        let outcomes = futures_util::future::join_all(writes).await;
        let results = topic.partition_indexes.iter().zip(outcomes).map(|(partition_index, outcome)| {
            WritableTxnMarkerPartitionResult {
                partition_index: *partition_index,
                error_code: outcome.err().unwrap_or(ErrorCode::NONE),
            }
        });
        topics.push(WritableTxnMarkerTopicResult { partitions: results.collect(), name: topic.name });
    }
    WritableTxnMarkerResult { producer_id: wanted.producer_id, topics }
}
