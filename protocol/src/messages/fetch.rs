//! Fetch (1): records of many partitions. v4 isolation levels (KIP-98), v7 sessions (KIP-227), v9 leader epochs (KIP-320), v10 zstd
//! (KIP-110), v11 racks (KIP-392), v12 diverging epochs (KIP-595), v13 topic ids (KIP-516), v16 new leaders (KIP-951).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of Fetch (API key 1).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 1, kind = "request", versions = "0-18", flexible = "12+", response = FetchResponse)]
pub struct FetchRequest {
    #[field(versions = "12+", nullable = "12+", tag = 0, tagged = "12+", ignorable)]
    pub cluster_id: Option<Str>,
    #[field(versions = "0-14", default = -1)]
    pub replica_id: i32,
    #[field(versions = "15+", tag = 1, tagged = "15+")]
    pub replica_state: ReplicaState,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    #[field(versions = "3+", default = i32::MAX, ignorable)]
    pub max_bytes: i32,
    #[field(versions = "4+", ignorable)]
    pub isolation_level: i8,
    #[field(versions = "7+", ignorable)]
    pub session_id: i32,
    #[field(versions = "7+", default = -1, ignorable)]
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    #[field(versions = "7+")]
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    #[field(versions = "11+", ignorable)]
    pub rack_id: Str,
}

/// `replica_state` of [`FetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ReplicaState {
    #[field(versions = "15+", default = -1)]
    pub replica_id: i32,
    #[field(versions = "15+", default = -1)]
    pub replica_epoch: i64,
}

/// One element of `topics` in [`FetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchTopic {
    #[field(versions = "0-12", ignorable)]
    pub topic: Str,
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
}

/// One element of `partitions` in [`FetchTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchPartition {
    pub partition: i32,
    #[field(versions = "9+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    #[field(versions = "12+", default = -1)]
    pub last_fetched_epoch: i32,
    #[field(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    pub partition_max_bytes: i32,
    #[field(versions = "17+", tag = 0, tagged = "17+", ignorable)]
    pub replica_directory_id: Uuid,
    #[field(versions = "18+", tag = 1, tagged = "18+", default = i64::MAX, ignorable)]
    pub high_watermark: i64,
}

/// One element of `forgotten_topics_data` in [`FetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ForgottenTopic {
    #[field(versions = "7-12", ignorable)]
    pub topic: Str,
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    #[field(versions = "7+")]
    pub partitions: Vec<i32>,
}

/// The answer of Fetch.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-18", flexible = "12+")]
pub struct FetchResponse {
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    #[field(versions = "7+", ignorable)]
    pub error_code: ErrorCode,
    #[field(versions = "7+")]
    pub session_id: i32,
    pub responses: Vec<FetchableTopicResponse>,
    #[field(versions = "16+", tag = 0, tagged = "16+")]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One element of `responses` in [`FetchResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchableTopicResponse {
    #[field(versions = "0-12", ignorable)]
    pub topic: Str,
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`FetchableTopicResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub high_watermark: i64,
    #[field(versions = "4+", default = -1, ignorable)]
    pub last_stable_offset: i64,
    #[field(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    #[field(versions = "12+", tag = 0, tagged = "12+")]
    pub diverging_epoch: EpochEndOffset,
    #[field(versions = "12+", tag = 1, tagged = "12+")]
    pub current_leader: LeaderIdAndEpoch,
    #[field(versions = "12+", tag = 2, tagged = "12+")]
    pub snapshot_id: SnapshotId,
    #[field(versions = "4+", nullable = "4+", default = Some(Vec::new()), ignorable)]
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    #[field(versions = "11+", default = -1)]
    pub preferred_read_replica: i32,
    #[field(nullable = "0+", default = Some(Bytes::new()))]
    pub records: Option<Bytes>,
}

/// `diverging_epoch` of [`PartitionData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EpochEndOffset {
    #[field(versions = "12+", default = -1)]
    pub epoch: i32,
    #[field(versions = "12+", default = -1)]
    pub end_offset: i64,
}

/// `current_leader` of [`PartitionData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    #[field(versions = "12+", default = -1)]
    pub leader_id: i32,
    #[field(versions = "12+", default = -1)]
    pub leader_epoch: i32,
}

/// `snapshot_id` of [`PartitionData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SnapshotId {
    #[field(default = -1)]
    pub end_offset: i64,
    #[field(default = -1)]
    pub epoch: i32,
}

/// One element of `aborted_transactions` in [`PartitionData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AbortedTransaction {
    #[field(versions = "4+")]
    pub producer_id: i64,
    #[field(versions = "4+")]
    pub first_offset: i64,
}

/// One element of `node_endpoints` in [`FetchResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    #[field(versions = "16+")]
    pub node_id: i32,
    #[field(versions = "16+")]
    pub host: Str,
    #[field(versions = "16+")]
    pub port: i32,
    #[field(versions = "16+", nullable = "16+")]
    pub rack: Option<Str>,
}
