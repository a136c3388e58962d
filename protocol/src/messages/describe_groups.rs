//! DescribeGroups (15): describes classic groups; v6 returns why a group is unknown (KIP-1043).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeGroups (API key 15).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 15, kind = "request", versions = "0-6", flexible = "5+", response = DescribeGroupsResponse)]
pub struct DescribeGroupsRequest {
    pub groups: Vec<Str>,
    #[field(versions = "3+")]
    pub include_authorized_operations: bool,
}

/// The answer of DescribeGroups.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-6", flexible = "5+")]
pub struct DescribeGroupsResponse {
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
}

/// One element of `groups` in [`DescribeGroupsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    #[field(versions = "6+", nullable = "6+")]
    pub error_message: Option<Str>,
    pub group_id: Str,
    pub group_state: Str,
    pub protocol_type: Str,
    pub protocol_data: Str,
    pub members: Vec<DescribedGroupMember>,
    #[field(versions = "3+", default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One element of `members` in [`DescribedGroup`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroupMember {
    pub member_id: Str,
    #[field(versions = "4+", nullable = "4+", ignorable)]
    pub group_instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub member_metadata: Bytes,
    pub member_assignment: Bytes,
}
