//! OffsetCommit (8): commits a group's offsets. v2 retention time, v6 leader epochs (KIP-320), v7 static members (KIP-345), v9 KIP-848 members,
//! v10 topic ids. v1 carries a timestamp for each partition.

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of OffsetCommit (API key 8).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 8, kind = "request", versions = "0-10", flexible = "8+", response = OffsetCommitResponse)]
pub struct OffsetCommitRequest {
    pub group_id: Str,
    #[field(versions = "1+", default = -1, ignorable)]
    pub generation_id_or_member_epoch: i32,
    #[field(versions = "1+", ignorable)]
    pub member_id: Str,
    #[field(versions = "7+", nullable = "7+")]
    pub group_instance_id: Option<Str>,
    #[field(versions = "2-4", default = -1, ignorable)]
    pub retention_time_ms: i64,
    pub topics: Vec<OffsetCommitRequestTopic>,
}

/// One element of `topics` in [`OffsetCommitRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitRequestTopic {
    #[field(versions = "0-9", ignorable)]
    pub name: Str,
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

/// One element of `partitions` in [`OffsetCommitRequestTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitRequestPartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    #[field(versions = "6+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    #[field(versions = "1", default = -1)]
    pub commit_timestamp: i64,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub committed_metadata: Option<Str>,
}

/// The answer of OffsetCommit.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-10", flexible = "8+")]
pub struct OffsetCommitResponse {
    #[field(versions = "3+", ignorable)]
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetCommitResponseTopic>,
}

/// One element of `topics` in [`OffsetCommitResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitResponseTopic {
    #[field(versions = "0-9", ignorable)]
    pub name: Str,
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

/// One element of `partitions` in [`OffsetCommitResponseTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetCommitResponsePartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
}
