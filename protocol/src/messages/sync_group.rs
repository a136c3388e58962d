//! SyncGroup (14): distributes and fetches assignments of a classic group; v3 static members (KIP-345), v5 protocol checks (KIP-559).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of SyncGroup (API key 14).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 14, kind = "request", versions = "0-5", flexible = "4+", response = SyncGroupResponse)]
pub struct SyncGroupRequest {
    pub group_id: Str,
    pub generation_id: i32,
    pub member_id: Str,
    #[field(versions = "3+", nullable = "3+")]
    pub group_instance_id: Option<Str>,
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub protocol_type: Option<Str>,
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub protocol_name: Option<Str>,
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

/// One element of `assignments` in [`SyncGroupRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SyncGroupRequestAssignment {
    pub member_id: Str,
    pub assignment: Bytes,
}

/// The answer of SyncGroup.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-5", flexible = "4+")]
pub struct SyncGroupResponse {
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub protocol_type: Option<Str>,
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub protocol_name: Option<Str>,
    pub assignment: Bytes,
}
