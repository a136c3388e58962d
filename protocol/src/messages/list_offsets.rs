//! ListOffsets (2): offsets by time or end of log (KIP-79); v2 isolation levels, v4 leader epochs, v7 largest timestamp (KIP-734), v8 to v11
//! tiered storage. v0 answers with a list of offsets.

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of ListOffsets (API key 2).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 2, kind = "request", versions = "0-11", flexible = "6+", response = ListOffsetsResponse)]
pub struct ListOffsetsRequest {
    pub replica_id: i32,
    #[field(versions = "2+")]
    pub isolation_level: i8,
    pub topics: Vec<ListOffsetsTopic>,
    #[field(versions = "10+", ignorable)]
    pub timeout_ms: i32,
}

/// One element of `topics` in [`ListOffsetsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsTopic {
    pub name: Str,
    pub partitions: Vec<ListOffsetsPartition>,
}

/// One element of `partitions` in [`ListOffsetsTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsPartition {
    pub partition_index: i32,
    #[field(versions = "4+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    pub timestamp: i64,
    #[field(versions = "0", default = 1)]
    pub max_num_offsets: i32,
}

/// The answer of ListOffsets.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-11", flexible = "6+")]
pub struct ListOffsetsResponse {
    #[field(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    pub topics: Vec<ListOffsetsTopicResponse>,
}

/// One element of `topics` in [`ListOffsetsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsTopicResponse {
    pub name: Str,
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// One element of `partitions` in [`ListOffsetsTopicResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListOffsetsPartitionResponse {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    #[field(versions = "0")]
    pub old_style_offsets: Vec<i64>,
    #[field(versions = "1+", default = -1)]
    pub timestamp: i64,
    #[field(versions = "1+", default = -1)]
    pub offset: i64,
    #[field(versions = "4+", default = -1)]
    pub leader_epoch: i32,
}
