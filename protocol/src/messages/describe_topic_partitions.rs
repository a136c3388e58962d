//! DescribeTopicPartitions (75): topics page by page, with eligible leader replicas (KIP-966).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of DescribeTopicPartitions (API key 75).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 75, kind = "request", versions = "0-0", flexible = "0+", response = DescribeTopicPartitionsResponse)]
pub struct DescribeTopicPartitionsRequest {
    pub topics: Vec<TopicRequest>,
    #[field(default = 2000)]
    pub response_partition_limit: i32,
    #[field(nullable = "0+")]
    pub cursor: Option<Cursor>,
}

/// One element of `topics` in [`DescribeTopicPartitionsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicRequest {
    pub name: Str,
}

/// `cursor` of [`DescribeTopicPartitionsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Cursor {
    pub topic_name: Str,
    pub partition_index: i32,
}

/// The answer of DescribeTopicPartitions.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct DescribeTopicPartitionsResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<DescribeTopicPartitionsResponseTopic>,
    #[field(nullable = "0+")]
    pub next_cursor: Option<CursorResult>,
}

/// One element of `topics` in [`DescribeTopicPartitionsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeTopicPartitionsResponseTopic {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub name: Option<Str>,
    pub topic_id: Uuid,
    pub is_internal: bool,
    pub partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    #[field(default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// One element of `partitions` in [`DescribeTopicPartitionsResponseTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeTopicPartitionsResponsePartition {
    pub error_code: ErrorCode,
    pub partition_index: i32,
    pub leader_id: i32,
    #[field(default = -1)]
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    #[field(nullable = "0+")]
    pub eligible_leader_replicas: Option<Vec<i32>>,
    #[field(nullable = "0+")]
    pub last_known_elr: Option<Vec<i32>>,
    pub offline_replicas: Vec<i32>,
}

/// `next_cursor` of [`DescribeTopicPartitionsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CursorResult {
    pub topic_name: Str,
    pub partition_index: i32,
}
