//! OffsetFetch (9): committed offsets of a group, from v8 of several groups (KIP-709); v7 waits for stable ones (KIP-447), v10 topic ids.

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of OffsetFetch (API key 9).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 9, kind = "request", versions = "0-10", flexible = "6+", response = OffsetFetchResponse)]
pub struct OffsetFetchRequest {
    #[field(versions = "0-7")]
    pub group_id: Str,
    #[field(versions = "0-7", nullable = "2-7", default = Some(Vec::new()))]
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    #[field(versions = "8+")]
    pub groups: Vec<OffsetFetchRequestGroup>,
    #[field(versions = "7+")]
    pub require_stable: bool,
}

/// One element of `topics` in [`OffsetFetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestTopic {
    #[field(versions = "0-7")]
    pub name: Str,
    #[field(versions = "0-7")]
    pub partition_indexes: Vec<i32>,
}

/// One element of `groups` in [`OffsetFetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestGroup {
    #[field(versions = "8+")]
    pub group_id: Str,
    #[field(versions = "9+", nullable = "9+", ignorable)]
    pub member_id: Option<Str>,
    #[field(versions = "9+", default = -1, ignorable)]
    pub member_epoch: i32,
    #[field(versions = "8+", nullable = "8+", default = Some(Vec::new()))]
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

/// One element of `topics` in [`OffsetFetchRequestGroup`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchRequestTopics {
    #[field(versions = "8-9", ignorable)]
    pub name: Str,
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    #[field(versions = "8+")]
    pub partition_indexes: Vec<i32>,
}

/// The answer of OffsetFetch.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-10", flexible = "6+")]
pub struct OffsetFetchResponse {
    #[field(versions = "3+", ignorable)]
    pub throttle_time_ms: i32,
    #[field(versions = "0-7")]
    pub topics: Vec<OffsetFetchResponseTopic>,
    #[field(versions = "2-7", ignorable)]
    pub error_code: ErrorCode,
    #[field(versions = "8+")]
    pub groups: Vec<OffsetFetchResponseGroup>,
}

/// One element of `topics` in [`OffsetFetchResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseTopic {
    #[field(versions = "0-7")]
    pub name: Str,
    #[field(versions = "0-7")]
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

/// One element of `partitions` in [`OffsetFetchResponseTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponsePartition {
    #[field(versions = "0-7")]
    pub partition_index: i32,
    #[field(versions = "0-7")]
    pub committed_offset: i64,
    #[field(versions = "5-7", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    #[field(versions = "0-7", nullable = "0-7", default = Some(Str::default()))]
    pub metadata: Option<Str>,
    #[field(versions = "0-7")]
    pub error_code: ErrorCode,
}

/// One element of `groups` in [`OffsetFetchResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseGroup {
    #[field(versions = "8+")]
    pub group_id: Str,
    #[field(versions = "8+")]
    pub topics: Vec<OffsetFetchResponseTopics>,
    #[field(versions = "8+")]
    pub error_code: ErrorCode,
}

/// One element of `topics` in [`OffsetFetchResponseGroup`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponseTopics {
    #[field(versions = "8-9", ignorable)]
    pub name: Str,
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    #[field(versions = "8+")]
    pub partitions: Vec<OffsetFetchResponsePartitions>,
}

/// One element of `partitions` in [`OffsetFetchResponseTopics`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetFetchResponsePartitions {
    #[field(versions = "8+")]
    pub partition_index: i32,
    #[field(versions = "8+")]
    pub committed_offset: i64,
    #[field(versions = "8+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    #[field(versions = "8+", nullable = "8+", default = Some(Str::default()))]
    pub metadata: Option<Str>,
    #[field(versions = "8+")]
    pub error_code: ErrorCode,
}
