//! LeaveGroup (13): leaves a classic group; v3 several members at once (KIP-345).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of LeaveGroup (API key 13).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 13, kind = "request", versions = "0-5", flexible = "4+", response = LeaveGroupResponse)]
pub struct LeaveGroupRequest {
    pub group_id: Str,
    #[field(versions = "0-2")]
    pub member_id: Str,
    #[field(versions = "3+")]
    pub members: Vec<MemberIdentity>,
}

/// One element of `members` in [`LeaveGroupRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MemberIdentity {
    #[field(versions = "3+")]
    pub member_id: Str,
    #[field(versions = "3+", nullable = "3+")]
    pub group_instance_id: Option<Str>,
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub reason: Option<Str>,
}

/// The answer of LeaveGroup.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-5", flexible = "4+")]
pub struct LeaveGroupResponse {
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(versions = "3+")]
    pub members: Vec<MemberResponse>,
}

/// One element of `members` in [`LeaveGroupResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MemberResponse {
    #[field(versions = "3+")]
    pub member_id: Str,
    #[field(versions = "3+", nullable = "3+", default = Some(Str::default()))]
    pub group_instance_id: Option<Str>,
    #[field(versions = "3+")]
    pub error_code: ErrorCode,
}
