//! AddRaftVoter (80): adds a voter to the controller quorum (KIP-853); v1 may be answered before it is committed (KIP-1186).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of AddRaftVoter (API key 80).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 80, kind = "request", versions = "0-1", flexible = "0+", response = AddRaftVoterResponse)]
pub struct AddRaftVoterRequest {
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub cluster_id: Option<Str>,
    pub timeout_ms: i32,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub listeners: Vec<Listener>,
    #[field(versions = "1+", default = true)]
    pub ack_when_committed: bool,
}

/// One element of `listeners` in [`AddRaftVoterRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Listener {
    pub name: Str,
    pub host: Str,
    pub port: u16,
}

/// The answer of AddRaftVoter.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct AddRaftVoterResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
}
