//! DescribeProducers (61): producers with state in a partition (KIP-664).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeProducers (API key 61).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 61, kind = "request", versions = "0-0", flexible = "0+", response = DescribeProducersResponse)]
pub struct DescribeProducersRequest {
    pub topics: Vec<TopicRequest>,
}

/// One element of `topics` in [`DescribeProducersRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicRequest {
    pub name: Str,
    pub partition_indexes: Vec<i32>,
}

/// The answer of DescribeProducers.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct DescribeProducersResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse>,
}

/// One element of `topics` in [`DescribeProducersResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicResponse {
    pub name: Str,
    pub partitions: Vec<PartitionResponse>,
}

/// One element of `partitions` in [`TopicResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionResponse {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    pub active_producers: Vec<ProducerState>,
}

/// One element of `active_producers` in [`PartitionResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ProducerState {
    pub producer_id: i64,
    pub producer_epoch: i32,
    #[field(default = -1)]
    pub last_sequence: i32,
    #[field(default = -1)]
    pub last_timestamp: i64,
    pub coordinator_epoch: i32,
    #[field(default = -1)]
    pub current_txn_start_offset: i64,
}
