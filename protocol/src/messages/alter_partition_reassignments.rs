//! AlterPartitionReassignments (45): moves partitions to other brokers or cancels that (KIP-455); v1 may forbid a new replication factor (KIP-860).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of AlterPartitionReassignments (API key 45).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 45, kind = "request", versions = "0-1", flexible = "0+", response = AlterPartitionReassignmentsResponse)]
pub struct AlterPartitionReassignmentsRequest {
    #[field(default = 60000)]
    pub timeout_ms: i32,
    #[field(versions = "1+", default = true)]
    pub allow_replication_factor_change: bool,
    pub topics: Vec<ReassignableTopic>,
}

/// One element of `topics` in [`AlterPartitionReassignmentsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReassignableTopic {
    pub name: Str,
    pub partitions: Vec<ReassignablePartition>,
}

/// One element of `partitions` in [`ReassignableTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReassignablePartition {
    pub partition_index: i32,
    #[field(nullable = "0+")]
    pub replicas: Option<Vec<i32>>,
}

/// The answer of AlterPartitionReassignments.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct AlterPartitionReassignmentsResponse {
    pub throttle_time_ms: i32,
    #[field(versions = "1+", default = true, ignorable)]
    pub allow_replication_factor_change: bool,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub responses: Vec<ReassignableTopicResponse>,
}

/// One element of `responses` in [`AlterPartitionReassignmentsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReassignableTopicResponse {
    pub name: Str,
    pub partitions: Vec<ReassignablePartitionResponse>,
}

/// One element of `partitions` in [`ReassignableTopicResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReassignablePartitionResponse {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
}
