//! DescribeDelegationToken (41): lists delegation tokens (KIP-48).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeDelegationToken (API key 41).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 41, kind = "request", versions = "0-3", flexible = "2+", response = DescribeDelegationTokenResponse)]
pub struct DescribeDelegationTokenRequest {
    #[field(nullable = "0+", default = Some(Vec::new()))]
    pub owners: Option<Vec<DescribeDelegationTokenOwner>>,
}

/// One element of `owners` in [`DescribeDelegationTokenRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeDelegationTokenOwner {
    pub principal_type: Str,
    pub principal_name: Str,
}

/// The answer of DescribeDelegationToken.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+")]
pub struct DescribeDelegationTokenResponse {
    pub error_code: ErrorCode,
    pub tokens: Vec<DescribedDelegationToken>,
    pub throttle_time_ms: i32,
}

/// One element of `tokens` in [`DescribeDelegationTokenResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedDelegationToken {
    pub principal_type: Str,
    pub principal_name: Str,
    #[field(versions = "3+")]
    pub token_requester_principal_type: Str,
    #[field(versions = "3+")]
    pub token_requester_principal_name: Str,
    pub issue_timestamp: i64,
    pub expiry_timestamp: i64,
    pub max_timestamp: i64,
    pub token_id: Str,
    pub hmac: Bytes,
    pub renewers: Vec<DescribedDelegationTokenRenewer>,
}

/// One element of `renewers` in [`DescribedDelegationToken`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedDelegationTokenRenewer {
    pub principal_type: Str,
    pub principal_name: Str,
}
