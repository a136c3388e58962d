//! UpdateRaftVoter (82): a voter reports its endpoints (KIP-853).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of UpdateRaftVoter (API key 82).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 82, kind = "request", versions = "0-0", flexible = "0+", response = UpdateRaftVoterResponse)]
pub struct UpdateRaftVoterRequest {
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub cluster_id: Option<Str>,
    pub current_leader_epoch: i32,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub listeners: Vec<Listener>,
    pub k_raft_version_feature: KRaftVersionFeature,
}

/// One element of `listeners` in [`UpdateRaftVoterRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Listener {
    pub name: Str,
    pub host: Str,
    pub port: u16,
}

/// `k_raft_version_feature` of [`UpdateRaftVoterRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct KRaftVersionFeature {
    pub min_supported_version: i16,
    pub max_supported_version: i16,
}

/// The answer of UpdateRaftVoter.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct UpdateRaftVoterResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(tag = 0, tagged = "0+")]
    pub current_leader: CurrentLeader,
}

/// `current_leader` of [`UpdateRaftVoterResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CurrentLeader {
    #[field(default = -1)]
    pub leader_id: i32,
    #[field(default = -1)]
    pub leader_epoch: i32,
    pub host: Str,
    pub port: i32,
}
