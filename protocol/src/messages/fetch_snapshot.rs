//! FetchSnapshot (59): a chunk of a metadata snapshot (KIP-630).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of FetchSnapshot (API key 59).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 59, kind = "request", versions = "0-1", flexible = "0+", response = FetchSnapshotResponse)]
pub struct FetchSnapshotRequest {
    #[field(nullable = "0+", tag = 0, tagged = "0+")]
    pub cluster_id: Option<Str>,
    #[field(default = -1)]
    pub replica_id: i32,
    #[field(default = i32::MAX)]
    pub max_bytes: i32,
    pub topics: Vec<TopicSnapshot>,
}

/// One element of `topics` in [`FetchSnapshotRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicSnapshot {
    pub name: Str,
    pub partitions: Vec<PartitionSnapshot>,
}

/// One element of `partitions` in [`TopicSnapshot`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionSnapshot {
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub snapshot_id: SnapshotId,
    pub position: i64,
    #[field(versions = "1+", tag = 0, tagged = "1+", ignorable)]
    pub replica_directory_id: Uuid,
}

/// `snapshot_id` of [`PartitionSnapshot`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SnapshotId {
    pub end_offset: i64,
    pub epoch: i32,
}

/// The answer of FetchSnapshot.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct FetchSnapshotResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub topics: Vec<TopicSnapshotResult>,
    #[field(versions = "1+", tag = 0, tagged = "1+")]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One element of `topics` in [`FetchSnapshotResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicSnapshotResult {
    pub name: Str,
    pub partitions: Vec<PartitionSnapshotResult>,
}

/// One element of `partitions` in [`TopicSnapshotResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionSnapshotResult {
    pub index: i32,
    pub error_code: ErrorCode,
    pub snapshot_id: SnapshotIdResult,
    #[field(tag = 0, tagged = "0+")]
    pub current_leader: LeaderIdAndEpoch,
    pub size: i64,
    pub position: i64,
    pub unaligned_records: Bytes,
}

/// `snapshot_id` of [`PartitionSnapshotResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SnapshotIdResult {
    pub end_offset: i64,
    pub epoch: i32,
}

/// `current_leader` of [`PartitionSnapshotResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

/// One element of `node_endpoints` in [`FetchSnapshotResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    #[field(versions = "1+")]
    pub node_id: i32,
    #[field(versions = "1+")]
    pub host: Str,
    #[field(versions = "1+")]
    pub port: u16,
}
