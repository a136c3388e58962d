//! ElectLeaders (43): elects preferred or unclean leaders (KIP-183, KIP-460).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of ElectLeaders (API key 43).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 43, kind = "request", versions = "0-2", flexible = "2+", response = ElectLeadersResponse)]
pub struct ElectLeadersRequest {
    #[field(versions = "1+")]
    pub election_type: i8,
    #[field(nullable = "0+", default = Some(Vec::new()))]
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    #[field(default = 60000)]
    pub timeout_ms: i32,
}

/// One element of `topic_partitions` in [`ElectLeadersRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicPartitions {
    pub topic: Str,
    pub partitions: Vec<i32>,
}

/// The answer of ElectLeaders.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct ElectLeadersResponse {
    pub throttle_time_ms: i32,
    #[field(versions = "1+")]
    pub error_code: ErrorCode,
    pub replica_election_results: Vec<ReplicaElectionResult>,
}

/// One element of `replica_election_results` in [`ElectLeadersResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReplicaElectionResult {
    pub topic: Str,
    pub partition_result: Vec<PartitionResult>,
}

/// One element of `partition_result` in [`ReplicaElectionResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionResult {
    pub partition_id: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
}
