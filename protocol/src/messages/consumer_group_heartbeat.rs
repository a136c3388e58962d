//! ConsumerGroupHeartbeat (68): the one request of KIP-848 members: join, report, learn the assignment, leave. v1: member ids made by clients (KIP-1082).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of ConsumerGroupHeartbeat (API key 68).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 68, kind = "request", versions = "0-1", flexible = "0+", response = ConsumerGroupHeartbeatResponse)]
pub struct ConsumerGroupHeartbeatRequest {
    pub group_id: Str,
    pub member_id: Str,
    pub member_epoch: i32,
    #[field(nullable = "0+")]
    pub instance_id: Option<Str>,
    #[field(nullable = "0+")]
    pub rack_id: Option<Str>,
    #[field(default = -1)]
    pub rebalance_timeout_ms: i32,
    #[field(nullable = "0+")]
    pub subscribed_topic_names: Option<Vec<Str>>,
    #[field(versions = "1+", nullable = "1+")]
    pub subscribed_topic_regex: Option<Str>,
    #[field(nullable = "0+")]
    pub server_assignor: Option<Str>,
    #[field(nullable = "0+")]
    pub topic_partitions: Option<Vec<TopicPartitions>>,
}

/// One element of `topic_partitions` in [`ConsumerGroupHeartbeatRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicPartitions {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

/// The answer of ConsumerGroupHeartbeat.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct ConsumerGroupHeartbeatResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    #[field(nullable = "0+")]
    pub member_id: Option<Str>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    #[field(nullable = "0+")]
    pub assignment: Option<Assignment>,
}

/// `assignment` of [`ConsumerGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Assignment {
    pub topic_partitions: Vec<TopicPartitionsResult>,
}

/// Shared by several fields of [`ConsumerGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicPartitionsResult {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}
