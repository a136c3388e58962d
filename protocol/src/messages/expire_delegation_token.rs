//! ExpireDelegationToken (40): expires a delegation token (KIP-48).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;

/// The request of ExpireDelegationToken (API key 40).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 40, kind = "request", versions = "0-2", flexible = "2+", response = ExpireDelegationTokenResponse)]
pub struct ExpireDelegationTokenRequest {
    pub hmac: Bytes,
    pub expiry_time_period_ms: i64,
}

/// The answer of ExpireDelegationToken.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct ExpireDelegationTokenResponse {
    pub error_code: ErrorCode,
    pub expiry_timestamp_ms: i64,
    pub throttle_time_ms: i32,
}
