//! EndQuorumEpoch (54): a quorum leader resigns (KIP-595).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of EndQuorumEpoch (API key 54).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 54, kind = "request", versions = "0-1", flexible = "1+", response = EndQuorumEpochResponse)]
pub struct EndQuorumEpochRequest {
    #[field(nullable = "0+")]
    pub cluster_id: Option<Str>,
    pub topics: Vec<TopicData>,
    #[field(versions = "1+", ignorable)]
    pub leader_endpoints: Vec<LeaderEndpoint>,
}

/// One element of `topics` in [`EndQuorumEpochRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicData {
    pub topic_name: Str,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`TopicData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition_index: i32,
    pub leader_id: i32,
    pub leader_epoch: i32,
    #[field(versions = "0", ignorable)]
    pub preferred_successors: Vec<i32>,
    #[field(versions = "1+", ignorable)]
    pub preferred_candidates: Vec<ReplicaInfo>,
}

/// One element of `preferred_candidates` in [`PartitionData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReplicaInfo {
    #[field(versions = "1+")]
    pub candidate_id: i32,
    #[field(versions = "1+")]
    pub candidate_directory_id: Uuid,
}

/// One element of `leader_endpoints` in [`EndQuorumEpochRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderEndpoint {
    #[field(versions = "1+")]
    pub name: Str,
    #[field(versions = "1+")]
    pub host: Str,
    #[field(versions = "1+")]
    pub port: u16,
}

/// The answer of EndQuorumEpoch.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "1+")]
pub struct EndQuorumEpochResponse {
    pub error_code: ErrorCode,
    pub topics: Vec<TopicDataResult>,
    #[field(versions = "1+", tag = 0, tagged = "1+")]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One element of `topics` in [`EndQuorumEpochResponse`].
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

/// One element of `node_endpoints` in [`EndQuorumEpochResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    #[field(versions = "1+")]
    pub node_id: i32,
    #[field(versions = "1+")]
    pub host: Str,
    #[field(versions = "1+")]
    pub port: u16,
}
