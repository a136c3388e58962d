//! ListPartitionReassignments (46): reassignments under way (KIP-455).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of ListPartitionReassignments (API key 46).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 46, kind = "request", versions = "0-0", flexible = "0+", response = ListPartitionReassignmentsResponse)]
pub struct ListPartitionReassignmentsRequest {
    #[field(default = 60000)]
    pub timeout_ms: i32,
    #[field(nullable = "0+")]
    pub topics: Option<Vec<ListPartitionReassignmentsTopics>>,
}

/// One element of `topics` in [`ListPartitionReassignmentsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListPartitionReassignmentsTopics {
    pub name: Str,
    pub partition_indexes: Vec<i32>,
}

/// The answer of ListPartitionReassignments.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct ListPartitionReassignmentsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub topics: Vec<OngoingTopicReassignment>,
}

/// One element of `topics` in [`ListPartitionReassignmentsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OngoingTopicReassignment {
    pub name: Str,
    pub partitions: Vec<OngoingPartitionReassignment>,
}

/// One element of `partitions` in [`OngoingTopicReassignment`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OngoingPartitionReassignment {
    pub partition_index: i32,
    pub replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    pub removing_replicas: Vec<i32>,
}
