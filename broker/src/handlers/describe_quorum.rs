//! DescribeQuorum (55, KIP-595): the replicas of the metadata log, as Kafka's tools expect them. v2 returns directory ids and
//! listeners (KIP-853).

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionDataResult, ReplicaState, TopicDataResult,
};
use esker_protocol::primitives::Uuid;

use super::handler::{Handler, RequestContext, Staged};
use crate::raft::RaftId;

/// The DescribeQuorum API.
pub struct DescribeQuorum;

/// The name that Kafka gives to the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";

impl Handler for DescribeQuorum {
    type Request = DescribeQuorumRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(ctx: RequestContext, request: DescribeQuorumRequest) -> Staged<DescribeQuorumResponse> {
        let named = match request.topics.as_slice() {
            [topic] if topic.topic_name == METADATA_TOPIC => {
                matches!(topic.partitions.as_slice(), [partition] if partition.partition_index == 0)
            }
            _ => false,
        };
        if !named {
            return Staged::Ready(unknown(request, ctx.api_version));
        }
        let (voters, term) = ctx.broker.metadata.quorum();
        let image = ctx.broker.metadata.image();
        let high_watermark = i64::try_from(image.offset()).unwrap_or(i64::MAX);
        let now = ctx.broker.now_ms();
        let replica = |id: &RaftId| ReplicaState {
            replica_id: id.node_id,
            replica_directory_id: if ctx.api_version >= 2 { Uuid(id.directory) } else { Default::default() },
            log_end_offset: high_watermark,
            last_fetch_timestamp: now,
            last_caught_up_timestamp: now,
        };
        let partition = PartitionDataResult {
            partition_index: 0,
            error_code: ErrorCode::NONE,
            error_message: None,
            leader_id: ctx.broker.node_id,
            leader_epoch: i32::try_from(term).unwrap_or(i32::MAX),
            high_watermark,
            current_voters: voters.iter().map(replica).collect(),
            observers: Vec::new(),
        };
        let nodes =
            voters.iter().filter(|_| ctx.api_version >= 2).filter_map(|id| image.broker(id.node_id)).map(|b| Node {
                node_id: b.node_id,
                listeners: b
                    .listeners
                    .iter()
                    .map(|l| Listener {
                        name: l.name.clone(),
                        host: l.host.clone(),
                        port: u16::try_from(l.port).unwrap_or_default(),
                    })
                    .collect(),
            });
        Staged::Ready(DescribeQuorumResponse {
            error_code: ErrorCode::NONE,
            error_message: None,
            topics: vec![TopicDataResult { topic_name: METADATA_TOPIC.into(), partitions: vec![partition] }],
            nodes: nodes.collect(),
        })
    }
}

/// A request for anything but the metadata log alone is answered with UNKNOWN_TOPIC_OR_PARTITION.
fn unknown(request: DescribeQuorumRequest, version: i16) -> DescribeQuorumResponse {
    let message = || (version >= 2).then(|| "Only __cluster_metadata-0 can be described, alone.".into());
    let topics = request.topics.into_iter().map(|topic| TopicDataResult {
        topic_name: topic.topic_name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| PartitionDataResult {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                error_message: message(),
                ..PartitionDataResult::default()
            })
            .collect(),
    });
    DescribeQuorumResponse { topics: topics.collect(), ..DescribeQuorumResponse::default() }
}
