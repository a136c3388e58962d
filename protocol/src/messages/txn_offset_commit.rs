//! TxnOffsetCommit (28): commits offsets within a transaction (KIP-98); v3 group metadata (KIP-447), v5 transactions of version 2 (KIP-890), v6 topic ids
//! (KIP-1319).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of TxnOffsetCommit (API key 28).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 28, kind = "request", versions = "0-6", flexible = "3+", response = TxnOffsetCommitResponse)]
pub struct TxnOffsetCommitRequest {
    pub transactional_id: Str,
    pub group_id: Str,
    pub producer_id: i64,
    pub producer_epoch: i16,
    #[field(versions = "3+", default = -1)]
    pub generation_id_or_member_epoch: i32,
    #[field(versions = "3+")]
    pub member_id: Str,
    #[field(versions = "3+", nullable = "3+")]
    pub group_instance_id: Option<Str>,
    pub topics: Vec<TxnOffsetCommitRequestTopic>,
}

/// One element of `topics` in [`TxnOffsetCommitRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TxnOffsetCommitRequestTopic {
    #[field(versions = "0-5", ignorable)]
    pub name: Str,
    #[field(versions = "6+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<TxnOffsetCommitRequestPartition>,
}

/// One element of `partitions` in [`TxnOffsetCommitRequestTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TxnOffsetCommitRequestPartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    #[field(versions = "2+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub committed_metadata: Option<Str>,
}

/// The answer of TxnOffsetCommit.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-6", flexible = "3+")]
pub struct TxnOffsetCommitResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<TxnOffsetCommitResponseTopic>,
}

/// One element of `topics` in [`TxnOffsetCommitResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TxnOffsetCommitResponseTopic {
    #[field(versions = "0-5", ignorable)]
    pub name: Str,
    #[field(versions = "6+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<TxnOffsetCommitResponsePartition>,
}

/// One element of `partitions` in [`TxnOffsetCommitResponseTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TxnOffsetCommitResponsePartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
}
