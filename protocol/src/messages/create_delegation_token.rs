//! CreateDelegationToken (38): makes a delegation token (KIP-48); v3 for another user (KIP-373).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of CreateDelegationToken (API key 38).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 38, kind = "request", versions = "0-3", flexible = "2+", response = CreateDelegationTokenResponse)]
pub struct CreateDelegationTokenRequest {
    #[field(versions = "3+", nullable = "3+", default = Some(Str::default()))]
    pub owner_principal_type: Option<Str>,
    #[field(versions = "3+", nullable = "3+", default = Some(Str::default()))]
    pub owner_principal_name: Option<Str>,
    pub renewers: Vec<CreatableRenewers>,
    pub max_lifetime_ms: i64,
}

/// One element of `renewers` in [`CreateDelegationTokenRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableRenewers {
    pub principal_type: Str,
    pub principal_name: Str,
}

/// The answer of CreateDelegationToken.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+")]
pub struct CreateDelegationTokenResponse {
    pub error_code: ErrorCode,
    pub principal_type: Str,
    pub principal_name: Str,
    #[field(versions = "3+")]
    pub token_requester_principal_type: Str,
    #[field(versions = "3+")]
    pub token_requester_principal_name: Str,
    pub issue_timestamp_ms: i64,
    pub expiry_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub token_id: Str,
    pub hmac: Bytes,
    pub throttle_time_ms: i32,
}
