//! OffsetDelete (47): forgets committed offsets (KIP-496).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of OffsetDelete (API key 47).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 47, kind = "request", versions = "0-0", flexible = "none", response = OffsetDeleteResponse)]
pub struct OffsetDeleteRequest {
    pub group_id: Str,
    pub topics: Vec<OffsetDeleteRequestTopic>,
}

/// One element of `topics` in [`OffsetDeleteRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetDeleteRequestTopic {
    pub name: Str,
    pub partitions: Vec<OffsetDeleteRequestPartition>,
}

/// One element of `partitions` in [`OffsetDeleteRequestTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetDeleteRequestPartition {
    pub partition_index: i32,
}

/// The answer of OffsetDelete.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "none")]
pub struct OffsetDeleteResponse {
    pub error_code: ErrorCode,
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetDeleteResponseTopic>,
}

/// One element of `topics` in [`OffsetDeleteResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetDeleteResponseTopic {
    pub name: Str,
    pub partitions: Vec<OffsetDeleteResponsePartition>,
}

/// One element of `partitions` in [`OffsetDeleteResponseTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OffsetDeleteResponsePartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
}
