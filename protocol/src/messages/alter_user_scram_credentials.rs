//! AlterUserScramCredentials (51): sets and removes SCRAM credentials (KIP-554).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of AlterUserScramCredentials (API key 51).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 51, kind = "request", versions = "0-0", flexible = "0+", response = AlterUserScramCredentialsResponse)]
pub struct AlterUserScramCredentialsRequest {
    pub deletions: Vec<ScramCredentialDeletion>,
    pub upsertions: Vec<ScramCredentialUpsertion>,
}

/// One element of `deletions` in [`AlterUserScramCredentialsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ScramCredentialDeletion {
    pub name: Str,
    pub mechanism: i8,
}

/// One element of `upsertions` in [`AlterUserScramCredentialsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ScramCredentialUpsertion {
    pub name: Str,
    pub mechanism: i8,
    pub iterations: i32,
    pub salt: Bytes,
    pub salted_password: Bytes,
}

/// The answer of AlterUserScramCredentials.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct AlterUserScramCredentialsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<AlterUserScramCredentialsResult>,
}

/// One element of `results` in [`AlterUserScramCredentialsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterUserScramCredentialsResult {
    pub user: Str,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
}
