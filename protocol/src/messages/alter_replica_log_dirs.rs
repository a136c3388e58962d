//! AlterReplicaLogDirs (34): moves replicas between the log dirs of one broker (KIP-113).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of AlterReplicaLogDirs (API key 34).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 34, kind = "request", versions = "0-2", flexible = "2+", response = AlterReplicaLogDirsResponse)]
pub struct AlterReplicaLogDirsRequest {
    pub dirs: Vec<AlterReplicaLogDir>,
}

/// One element of `dirs` in [`AlterReplicaLogDirsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterReplicaLogDir {
    pub path: Str,
    pub topics: Vec<AlterReplicaLogDirTopic>,
}

/// One element of `topics` in [`AlterReplicaLogDir`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterReplicaLogDirTopic {
    pub name: Str,
    pub partitions: Vec<i32>,
}

/// The answer of AlterReplicaLogDirs.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct AlterReplicaLogDirsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<AlterReplicaLogDirTopicResult>,
}

/// One element of `results` in [`AlterReplicaLogDirsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterReplicaLogDirTopicResult {
    pub topic_name: Str,
    pub partitions: Vec<AlterReplicaLogDirPartitionResult>,
}

/// One element of `partitions` in [`AlterReplicaLogDirTopicResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterReplicaLogDirPartitionResult {
    pub partition_index: i32,
    pub error_code: ErrorCode,
}
