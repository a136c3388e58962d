//! FindCoordinator (10): which broker coordinates a group or transaction; v4 takes several keys at once (KIP-699), v6 share groups
//! (KIP-932).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of FindCoordinator (API key 10).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 10, kind = "request", versions = "0-6", flexible = "3+", response = FindCoordinatorResponse)]
pub struct FindCoordinatorRequest {
    #[field(versions = "0-3")]
    pub key: Str,
    #[field(versions = "1+")]
    pub key_type: i8,
    #[field(versions = "4+")]
    pub coordinator_keys: Vec<Str>,
}

/// The answer of FindCoordinator.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-6", flexible = "3+")]
pub struct FindCoordinatorResponse {
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    #[field(versions = "0-3")]
    pub error_code: ErrorCode,
    #[field(versions = "1-3", nullable = "1-3", default = Some(Str::default()), ignorable)]
    pub error_message: Option<Str>,
    #[field(versions = "0-3")]
    pub node_id: i32,
    #[field(versions = "0-3")]
    pub host: Str,
    #[field(versions = "0-3")]
    pub port: i32,
    #[field(versions = "4+")]
    pub coordinators: Vec<Coordinator>,
}

/// One element of `coordinators` in [`FindCoordinatorResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Coordinator {
    #[field(versions = "4+")]
    pub key: Str,
    #[field(versions = "4+")]
    pub node_id: i32,
    #[field(versions = "4+")]
    pub host: Str,
    #[field(versions = "4+")]
    pub port: i32,
    #[field(versions = "4+")]
    pub error_code: ErrorCode,
    #[field(versions = "4+", nullable = "4+", default = Some(Str::default()), ignorable)]
    pub error_message: Option<Str>,
}
