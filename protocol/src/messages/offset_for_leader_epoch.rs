//! OffsetForLeaderEpoch (23): where a leader epoch ends (KIP-101, KIP-279, KIP-320).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of OffsetForLeaderEpoch (API key 23).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 23, kind = "request", versions = "0-4", flexible = "4+", response = OffsetForLeaderEpochResponse)]
pub struct OffsetForLeaderEpochRequest {
    #[field(versions = "3+", default = -2, ignorable)]
    pub replica_id: i32,
    pub topics: Vec<OffsetForLeaderTopic>,
}

/// One element of `topics` in [`OffsetForLeaderEpochRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderTopic {
    pub topic: Str,
    pub partitions: Vec<OffsetForLeaderPartition>,
}

/// One element of `partitions` in [`OffsetForLeaderTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderPartition {
    pub partition: i32,
    #[field(versions = "2+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    pub leader_epoch: i32,
}

/// The answer of OffsetForLeaderEpoch.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+")]
pub struct OffsetForLeaderEpochResponse {
    #[field(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetForLeaderTopicResult>,
}

/// One element of `topics` in [`OffsetForLeaderEpochResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetForLeaderTopicResult {
    pub topic: Str,
    pub partitions: Vec<EpochEndOffset>,
}

/// One element of `partitions` in [`OffsetForLeaderTopicResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EpochEndOffset {
    pub error_code: ErrorCode,
    pub partition: i32,
    #[field(versions = "1+", default = -1, ignorable)]
    pub leader_epoch: i32,
    #[field(default = -1)]
    pub end_offset: i64,
}
