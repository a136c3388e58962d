//! Vote (52): requests a vote in the controller quorum (KIP-595, KIP-996).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of Vote (API key 52).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 52, kind = "request", versions = "0-2", flexible = "0+", response = VoteResponse)]
pub struct VoteRequest {
    #[field(nullable = "0+")]
    pub cluster_id: Option<Str>,
    #[field(versions = "1+", default = -1, ignorable)]
    pub voter_id: i32,
    pub topics: Vec<TopicData>,
}

/// One element of `topics` in [`VoteRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicData {
    pub topic_name: Str,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`TopicData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition_index: i32,
    pub replica_epoch: i32,
    pub replica_id: i32,
    #[field(versions = "1+", ignorable)]
    pub replica_directory_id: Uuid,
    #[field(versions = "1+", ignorable)]
    pub voter_directory_id: Uuid,
    pub last_offset_epoch: i32,
    pub last_offset: i64,
    #[field(versions = "2+")]
    pub pre_vote: bool,
}

/// The answer of Vote.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "0+")]
pub struct VoteResponse {
    pub error_code: ErrorCode,
    pub topics: Vec<TopicDataResult>,
    #[field(versions = "1+", tag = 0, tagged = "1+")]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One element of `topics` in [`VoteResponse`].
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
    pub vote_granted: bool,
}

/// One element of `node_endpoints` in [`VoteResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    #[field(versions = "1+")]
    pub node_id: i32,
    #[field(versions = "1+")]
    pub host: Str,
    #[field(versions = "1+")]
    pub port: u16,
}
