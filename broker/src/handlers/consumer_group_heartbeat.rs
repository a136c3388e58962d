//! ConsumerGroupHeartbeat (68, KIP-848): a member joins a consumer group, reports what it owns, receives its assignment,
//! leaves. v1 added regular expressions, and member ids that clients make (KIP-1082).

use std::ops::RangeInclusive;

use esker_core::controller::Refusal;
use esker_core::group::consumer::{HeartbeatReply, HeartbeatRequest, Partitions, check_regex};
use esker_core::metadata::GROUP_VERSION;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions, TopicPartitionsResult,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use crate::broker::Broker;

/// The ConsumerGroupHeartbeat API.
pub struct ConsumerGroupHeartbeat;

impl Handler for ConsumerGroupHeartbeat {
    type Request = ConsumerGroupHeartbeatRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(ctx: RequestContext, request: ConsumerGroupHeartbeatRequest) -> Staged<ConsumerGroupHeartbeatResponse> {
        if !is_served(&ctx.broker) {
            let error_code = ErrorCode::UNSUPPORTED_VERSION;
            return Staged::Ready(ConsumerGroupHeartbeatResponse { error_code, ..Default::default() });
        }
        let heartbeat = heartbeat(&ctx, request);
        Staged::start(async move {
            match answer(&ctx, &heartbeat).await {
                Ok(reply) => ConsumerGroupHeartbeatResponse {
                    member_id: Some(reply.member_id),
                    member_epoch: reply.epoch,
                    heartbeat_interval_ms: reply.heartbeat_interval_ms,
                    assignment: reply
                        .assignment
                        .map(|partitions| Assignment { topic_partitions: to_response_partitions(partitions) }),
                    ..ConsumerGroupHeartbeatResponse::default()
                },
                Err(Refusal { code, message }) => ConsumerGroupHeartbeatResponse {
                    error_code: code,
                    error_message: Some(message).filter(|message| !message.is_empty()),
                    ..ConsumerGroupHeartbeatResponse::default()
                },
            }
        })
    }
}

/// Whether there are consumer groups in this cluster, and here.
pub(super) fn is_served(broker: &Broker) -> bool {
    broker.metadata.image().feature(GROUP_VERSION) >= 1 && broker.groups.serves_consumer_groups()
}

async fn answer(ctx: &RequestContext, heartbeat: &HeartbeatRequest) -> Result<HeartbeatReply, Refusal> {
    if let Some(regex) = heartbeat.regex.clone().filter(|regex| !regex.is_empty()) {
        // Clients send an expression when it changes, not with each heartbeat.
        let checked = ctx.broker.node.run_blocking(move || check_regex(&regex)).await;
        checked.unwrap_or_else(|_| Err(Refusal { code: ErrorCode::UNKNOWN_SERVER_ERROR, message: Str::default() }))?;
    }
    let image = ctx.broker.metadata.image();
    ctx.broker.groups.consumer_heartbeat(&image, heartbeat).await
}

/// The request as the group sees it. What a group keeps must not keep the request's frame.
fn heartbeat(ctx: &RequestContext, request: ConsumerGroupHeartbeatRequest) -> HeartbeatRequest {
    let detached = |text: Option<Str>| text.as_ref().map(Str::detached);
    HeartbeatRequest {
        version: ctx.api_version,
        group: request.group_id.detached(),
        member_id: request.member_id.detached(),
        epoch: request.member_epoch,
        instance_id: detached(request.instance_id),
        rack_id: detached(request.rack_id),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topics: request.subscribed_topic_names.map(|topics| topics.iter().map(Str::detached).collect()),
        regex: detached(request.subscribed_topic_regex),
        assignor: detached(request.server_assignor),
        owned: request.topic_partitions.map(owned),
        client_id: ctx.client_id.as_ref().map(Str::detached).unwrap_or_default(),
        client_host: Str::from(format!("/{}", ctx.connection.peer.ip())),
        fresh: Str::from(ctx.broker.node.random_text()),
    }
}

fn owned(topics: Vec<TopicPartitions>) -> Partitions {
    let mut owned = Partitions::new();
    for topic in topics {
        owned.entry(topic.topic_id).or_default().extend(topic.partitions);
    }
    owned
}

fn to_response_partitions(partitions: Partitions) -> Vec<TopicPartitionsResult> {
    partitions.into_iter().map(|(topic_id, partitions)| TopicPartitionsResult { topic_id, partitions }).collect()
}
