//! DeleteGroups (42): deletes empty groups (KIP-229).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DeleteGroups (API key 42).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 42, kind = "request", versions = "0-3", flexible = "2+", response = DeleteGroupsResponse)]
pub struct DeleteGroupsRequest {
    pub groups_names: Vec<Str>,
}

/// The answer of DeleteGroups.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+")]
pub struct DeleteGroupsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<DeletableGroupResult>,
}

/// One element of `results` in [`DeleteGroupsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeletableGroupResult {
    pub group_id: Str,
    pub error_code: ErrorCode,
    #[field(versions = "3+", nullable = "3+", ignorable)]
    pub error_message: Option<Str>,
}
