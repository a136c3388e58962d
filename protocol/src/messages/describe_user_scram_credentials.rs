//! DescribeUserScramCredentials (50): which users have SCRAM credentials (KIP-554).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeUserScramCredentials (API key 50).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 50, kind = "request", versions = "0-0", flexible = "0+", response = DescribeUserScramCredentialsResponse)]
pub struct DescribeUserScramCredentialsRequest {
    #[field(nullable = "0+", default = Some(Vec::new()))]
    pub users: Option<Vec<UserName>>,
}

/// One element of `users` in [`DescribeUserScramCredentialsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct UserName {
    pub name: Str,
}

/// The answer of DescribeUserScramCredentials.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct DescribeUserScramCredentialsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub results: Vec<DescribeUserScramCredentialsResult>,
}

/// One element of `results` in [`DescribeUserScramCredentialsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeUserScramCredentialsResult {
    pub user: Str,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub credential_infos: Vec<CredentialInfo>,
}

/// One element of `credential_infos` in [`DescribeUserScramCredentialsResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CredentialInfo {
    pub mechanism: i8,
    pub iterations: i32,
}
