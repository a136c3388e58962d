//! ShareGroupHeartbeat (76): keeps a member of a share group alive (KIP-932).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of ShareGroupHeartbeat (API key 76).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 76, kind = "request", versions = "1-1", flexible = "0+", response = ShareGroupHeartbeatResponse)]
pub struct ShareGroupHeartbeatRequest {
    pub group_id: Str,
    pub member_id: Str,
    pub member_epoch: i32,
    #[field(nullable = "0+")]
    pub rack_id: Option<Str>,
    #[field(nullable = "0+")]
    pub subscribed_topic_names: Option<Vec<Str>>,
}

/// The answer of ShareGroupHeartbeat.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "1-1", flexible = "0+")]
pub struct ShareGroupHeartbeatResponse {
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

/// `assignment` of [`ShareGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Assignment {
    pub topic_partitions: Vec<TopicPartitions>,
}

/// Shared by several fields of [`ShareGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicPartitions {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}
