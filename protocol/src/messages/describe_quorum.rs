//! DescribeQuorum (55): the controller quorum's replicas (KIP-595); v2 directory ids and listeners (KIP-853).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of DescribeQuorum (API key 55).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 55, kind = "request", versions = "0-2", flexible = "0+", response = DescribeQuorumResponse)]
pub struct DescribeQuorumRequest {
    pub topics: Vec<TopicData>,
}

/// One element of `topics` in [`DescribeQuorumRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicData {
    pub topic_name: Str,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`TopicData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition_index: i32,
}

/// The answer of DescribeQuorum.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "0+")]
pub struct DescribeQuorumResponse {
    pub error_code: ErrorCode,
    #[field(versions = "2+", nullable = "2+", default = Some(Str::default()), ignorable)]
    pub error_message: Option<Str>,
    pub topics: Vec<TopicDataResult>,
    #[field(versions = "2+")]
    pub nodes: Vec<Node>,
}

/// One element of `topics` in [`DescribeQuorumResponse`].
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
    #[field(versions = "2+", nullable = "2+", default = Some(Str::default()), ignorable)]
    pub error_message: Option<Str>,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub high_watermark: i64,
    pub current_voters: Vec<ReplicaState>,
    pub observers: Vec<ReplicaState>,
    /// Esker's own: the last fail-over that the leader has carried out since its start; none, or one.
    #[field(tag = 10000, tagged = "0+", ignorable)]
    pub last_fail_over: Vec<FailOver>,
}

/// One element of `last_fail_over` in [`PartitionDataResult`]: a broker whose session ended was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
pub struct FailOver {
    /// The broker.
    pub node_id: i32,
    /// When it was fenced, in ms since 1970.
    pub at_ms: i64,
    /// From its last sign of life to the new leaders of its partitions, in ms.
    pub took_ms: i64,
}

/// One element of `nodes` in [`DescribeQuorumResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Node {
    #[field(versions = "2+")]
    pub node_id: i32,
    #[field(versions = "2+")]
    pub listeners: Vec<Listener>,
}

/// One element of `listeners` in [`Node`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Listener {
    #[field(versions = "2+")]
    pub name: Str,
    #[field(versions = "2+")]
    pub host: Str,
    #[field(versions = "2+")]
    pub port: u16,
}

/// Shared by several fields of [`DescribeQuorumResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReplicaState {
    pub replica_id: i32,
    #[field(versions = "2+")]
    pub replica_directory_id: Uuid,
    pub log_end_offset: i64,
    #[field(versions = "1+", default = -1, ignorable)]
    pub last_fetch_timestamp: i64,
    #[field(versions = "1+", default = -1, ignorable)]
    pub last_caught_up_timestamp: i64,
}
