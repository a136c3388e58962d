//! DescribeQuorum (55, KIP-595): the replicas of the metadata log, as Kafka's tools expect them. v2 returns directory ids and
//! listeners (KIP-853).

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionDataResult, ReplicaState, TopicDataResult,
};
use esker_protocol::primitives::Uuid;

use super::handler::{Handler, RequestContext, Staged};
use crate::raft::Member;

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
        let view = ctx.broker.metadata.quorum().borrow().clone();
        let image = ctx.broker.metadata.image();
        let high_watermark = i64::try_from(image.offset()).unwrap_or(i64::MAX);
        let now = ctx.broker.now_ms();
        let replica = |member: &Member| ReplicaState {
            replica_id: member.id.node_id,
            replica_directory_id: if ctx.api_version >= 2 { Uuid(member.id.directory) } else { Default::default() },
            // What a node other than the leader knows of the others is what is committed.
            log_end_offset: member.entries.map_or(high_watermark, |entries| i64::try_from(entries).unwrap_or(i64::MAX)),
            last_fetch_timestamp: now,
            last_caught_up_timestamp: now,
        };
        let of = |votes: bool| view.members.iter().filter(move |member| member.votes == votes);
        let partition = PartitionDataResult {
            partition_index: 0,
            error_code: ErrorCode::NONE,
            error_message: None,
            leader_id: view.leader.map_or(-1, |leader| leader.node_id),
            leader_epoch: i32::try_from(view.term).unwrap_or(i32::MAX),
            high_watermark,
            current_voters: of(true).map(replica).collect(),
            observers: of(false).map(replica).collect(),
        };
        let nodes =
            of(true).filter(|_| ctx.api_version >= 2).filter_map(|voter| image.broker(voter.id.node_id)).map(|b| {
                Node {
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
                }
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
