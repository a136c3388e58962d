//! Heartbeat (12): keeps a member of a classic group alive; v3 static members (KIP-345).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of Heartbeat (API key 12).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 12, kind = "request", versions = "0-4", flexible = "4+", response = HeartbeatResponse)]
pub struct HeartbeatRequest {
    pub group_id: Str,
    pub generation_id: i32,
    pub member_id: Str,
    #[field(versions = "3+", nullable = "3+")]
    pub group_instance_id: Option<Str>,
}

/// The answer of Heartbeat.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+")]
pub struct HeartbeatResponse {
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
}
