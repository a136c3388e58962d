//! JoinGroup (11): joins a classic group; v4 requires a member id first (KIP-394), v5 static members (KIP-345), v9
//! skips an assignment (KIP-814).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of JoinGroup (API key 11).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 11, kind = "request", versions = "0-9", flexible = "6+", response = JoinGroupResponse)]
pub struct JoinGroupRequest {
    pub group_id: Str,
    pub session_timeout_ms: i32,
    #[field(versions = "1+", default = -1, ignorable)]
    pub rebalance_timeout_ms: i32,
    pub member_id: Str,
    #[field(versions = "5+", nullable = "5+")]
    pub group_instance_id: Option<Str>,
    pub protocol_type: Str,
    pub protocols: Vec<JoinGroupRequestProtocol>,
    #[field(versions = "8+", nullable = "8+", ignorable)]
    pub reason: Option<Str>,
}

/// One element of `protocols` in [`JoinGroupRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct JoinGroupRequestProtocol {
    pub name: Str,
    pub metadata: Bytes,
}

/// The answer of JoinGroup.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-9", flexible = "6+")]
pub struct JoinGroupResponse {
    #[field(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(default = -1)]
    pub generation_id: i32,
    #[field(versions = "7+", nullable = "7+", ignorable)]
    pub protocol_type: Option<Str>,
    #[field(nullable = "7+", default = Some(Str::default()))]
    pub protocol_name: Option<Str>,
    pub leader: Str,
    #[field(versions = "9+")]
    pub skip_assignment: bool,
    pub member_id: Str,
    pub members: Vec<JoinGroupResponseMember>,
}

/// One element of `members` in [`JoinGroupResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct JoinGroupResponseMember {
    pub member_id: Str,
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub group_instance_id: Option<Str>,
    pub metadata: Bytes,
}
