//! AssignReplicasToDirs (73): a broker reports the log dirs of its replicas to the controller (KIP-858).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Uuid;

/// The request of AssignReplicasToDirs (API key 73).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 73, kind = "request", versions = "0-0", flexible = "0+", response = AssignReplicasToDirsResponse)]
pub struct AssignReplicasToDirsRequest {
    pub broker_id: i32,
    #[field(default = -1)]
    pub broker_epoch: i64,
    pub directories: Vec<DirectoryData>,
}

/// One element of `directories` in [`AssignReplicasToDirsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DirectoryData {
    pub id: Uuid,
    pub topics: Vec<TopicData>,
}

/// One element of `topics` in [`DirectoryData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicData {
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`TopicData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition_index: i32,
}

/// The answer of AssignReplicasToDirs.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct AssignReplicasToDirsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub directories: Vec<DirectoryDataResult>,
}

/// One element of `directories` in [`AssignReplicasToDirsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DirectoryDataResult {
    pub id: Uuid,
    pub topics: Vec<TopicDataResult>,
}

/// One element of `topics` in [`DirectoryDataResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicDataResult {
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionDataResult>,
}

/// One element of `partitions` in [`TopicDataResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionDataResult {
    pub partition_index: i32,
    pub error_code: ErrorCode,
}
