//! BrokerHeartbeat (63): keeps a broker's session with the controller alive, and requests fencing or a controlled shutdown (KIP-631).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Uuid;

/// The request of BrokerHeartbeat (API key 63).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 63, kind = "request", versions = "0-2", flexible = "0+", response = BrokerHeartbeatResponse)]
pub struct BrokerHeartbeatRequest {
    pub broker_id: i32,
    #[field(default = -1)]
    pub broker_epoch: i64,
    pub current_metadata_offset: i64,
    pub want_fence: bool,
    pub want_shut_down: bool,
    #[field(versions = "1+", tag = 0, tagged = "1+")]
    pub offline_log_dirs: Vec<Uuid>,
    #[field(versions = "2+", nullable = "2+", tag = 1, tagged = "2+")]
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// The answer of BrokerHeartbeat.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "0+")]
pub struct BrokerHeartbeatResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub is_caught_up: bool,
    #[field(default = true)]
    pub is_fenced: bool,
    pub should_shut_down: bool,
}
