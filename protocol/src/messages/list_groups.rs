//! ListGroups (16): groups with filters by state (v4, KIP-518) and type (v5, KIP-848).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of ListGroups (API key 16).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 16, kind = "request", versions = "0-5", flexible = "3+", response = ListGroupsResponse)]
pub struct ListGroupsRequest {
    #[field(versions = "4+")]
    pub states_filter: Vec<Str>,
    #[field(versions = "5+")]
    pub types_filter: Vec<Str>,
}

/// The answer of ListGroups.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-5", flexible = "3+")]
pub struct ListGroupsResponse {
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub groups: Vec<ListedGroup>,
}

/// One element of `groups` in [`ListGroupsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListedGroup {
    pub group_id: Str,
    pub protocol_type: Str,
    #[field(versions = "4+", ignorable)]
    pub group_state: Str,
    #[field(versions = "5+", ignorable)]
    pub group_type: Str,
}
