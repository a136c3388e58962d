//! RenewDelegationToken (39): renews a delegation token (KIP-48).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;

/// The request of RenewDelegationToken (API key 39).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 39, kind = "request", versions = "0-2", flexible = "2+", response = RenewDelegationTokenResponse)]
pub struct RenewDelegationTokenRequest {
    pub hmac: Bytes,
    pub renew_period_ms: i64,
}

/// The answer of RenewDelegationToken.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct RenewDelegationTokenResponse {
    pub error_code: ErrorCode,
    pub expiry_timestamp_ms: i64,
    pub throttle_time_ms: i32,
}
