//! BeginQuorumEpoch (53): a quorum leader announces its epoch (KIP-595).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of BeginQuorumEpoch (API key 53).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 53, kind = "request", versions = "0-1", flexible = "1+", response = BeginQuorumEpochResponse)]
pub struct BeginQuorumEpochRequest {
    #[field(nullable = "0+")]
    pub cluster_id: Option<Str>,
    #[field(versions = "1+", default = -1, ignorable)]
    pub voter_id: i32,
    pub topics: Vec<TopicData>,
    #[field(versions = "1+", ignorable)]
    pub leader_endpoints: Vec<LeaderEndpoint>,
}

/// One element of `topics` in [`BeginQuorumEpochRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicData {
    pub topic_name: Str,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`TopicData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition_index: i32,
    #[field(versions = "1+", ignorable)]
    pub voter_directory_id: Uuid,
    pub leader_id: i32,
    pub leader_epoch: i32,
}

/// One element of `leader_endpoints` in [`BeginQuorumEpochRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderEndpoint {
    #[field(versions = "1+")]
    pub name: Str,
    #[field(versions = "1+")]
    pub host: Str,
    #[field(versions = "1+")]
    pub port: u16,
}

/// The answer of BeginQuorumEpoch.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "1+")]
pub struct BeginQuorumEpochResponse {
    pub error_code: ErrorCode,
    pub topics: Vec<TopicDataResult>,
    #[field(versions = "1+", tag = 0, tagged = "1+")]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One element of `topics` in [`BeginQuorumEpochResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicDataResult {
    pub topic_name: Str,
    pub partitions: Vec<PartitionDataResult>,
}

/// One element of `partitions` in [`TopicDataResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionDataResult {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub leader_id: i32,
    pub leader_epoch: i32,
}

/// One element of `node_endpoints` in [`BeginQuorumEpochResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    #[field(versions = "1+")]
    pub node_id: i32,
    #[field(versions = "1+")]
    pub host: Str,
    #[field(versions = "1+")]
    pub port: u16,
}
