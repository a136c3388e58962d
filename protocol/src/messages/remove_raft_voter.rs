//! RemoveRaftVoter (81): removes a voter from the controller quorum (KIP-853).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of RemoveRaftVoter (API key 81).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 81, kind = "request", versions = "0-0", flexible = "0+", response = RemoveRaftVoterResponse)]
pub struct RemoveRaftVoterRequest {
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub cluster_id: Option<Str>,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
}

/// The answer of RemoveRaftVoter.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct RemoveRaftVoterResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
}
