//! PushTelemetry (72): a client's metrics (KIP-714).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Uuid;

/// The request of PushTelemetry (API key 72).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 72, kind = "request", versions = "0-0", flexible = "0+", response = PushTelemetryResponse)]
pub struct PushTelemetryRequest {
    pub client_instance_id: Uuid,
    pub subscription_id: i32,
    pub terminating: bool,
    pub compression_type: i8,
    pub metrics: Bytes,
}

/// The answer of PushTelemetry.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct PushTelemetryResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
}
