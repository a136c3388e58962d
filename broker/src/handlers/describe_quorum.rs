//! DescribeQuorum (55, KIP-595): the replicas of the metadata log, as Kafka's tools expect them. v2 returns directory ids and
//! listeners (KIP-853). The leader alone knows how far the others are, so the request goes to it. Where nobody leads, the answer is what this
//! node knows: no leader, and no log end but its own.

use std::ops::RangeInclusive;
use std::time::Duration;

use esker_core::metadata::ListenerRecord;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionDataResult, ReplicaState, TopicDataResult,
};
use esker_protocol::primitives::Uuid;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::handler::{Handler, RequestContext, Staged};
use crate::peer::messages::{DescribeMembersResponse, DescribedMember};

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
        Staged::Later(
            async move {
                let quorum = ctx.broker.quorum.describe(Instant::now() + NO_LEADER).await;
                describe(&ctx, quorum)
            }
            .boxed(),
        )
    }
}

/// How long the answer waits for a leader. Clients ask so when something is wrong: they must not wait for long.
const NO_LEADER: Duration = Duration::from_secs(2);

fn describe(ctx: &RequestContext, quorum: DescribeMembersResponse) -> DescribeQuorumResponse {
    let with_directories = ctx.api_version >= 2;
    let replica = |member: &DescribedMember| ReplicaState {
        replica_id: member.node_id,
        replica_directory_id: if with_directories { member.directory } else { Uuid::ZERO },
        log_end_offset: member.log_end,
        last_fetch_timestamp: member.last_contact_ms,
        last_caught_up_timestamp: member.last_caught_up_ms,
    };
    let of = |votes: bool| quorum.members.iter().filter(move |member| member.votes == votes);
    // A node that does not lead names a leader that does not answer.
    let leads = quorum.error_code == ErrorCode::NONE;
    let partition = PartitionDataResult {
        partition_index: 0,
        error_code: ErrorCode::NONE,
        error_message: None,
        leader_id: if leads { quorum.leader } else { -1 },
        leader_epoch: i32::try_from(quorum.term).unwrap_or(i32::MAX),
        high_watermark: quorum.high_watermark,
        current_voters: of(true).map(replica).collect(),
        observers: of(false).map(replica).collect(),
        last_fail_over: if leads { quorum.last_fail_over.clone() } else { Vec::new() },
    };
    let image = ctx.broker.metadata.image();
    let listener = |listener: &ListenerRecord| Listener {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: u16::try_from(listener.port).unwrap_or_default(),
    };
    let voters = of(true).filter(|_| with_directories).filter_map(|voter| image.broker(voter.node_id));
    let nodes = voters
        .map(|broker| Node { node_id: broker.node_id, listeners: broker.listeners.iter().map(listener).collect() });
    DescribeQuorumResponse {
        error_code: ErrorCode::NONE,
        error_message: None,
        topics: vec![TopicDataResult { topic_name: METADATA_TOPIC.into(), partitions: vec![partition] }],
        nodes: nodes.collect(),
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
