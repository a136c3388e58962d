//! DeleteShareGroupState (86): forgets the state of share partitions (KIP-932).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of DeleteShareGroupState (API key 86).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 86, kind = "request", versions = "0-0", flexible = "0+", response = DeleteShareGroupStateResponse)]
pub struct DeleteShareGroupStateRequest {
    pub group_id: Str,
    pub topics: Vec<DeleteStateData>,
}

/// One element of `topics` in [`DeleteShareGroupStateRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteStateData {
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`DeleteStateData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition: i32,
}

/// The answer of DeleteShareGroupState.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct DeleteShareGroupStateResponse {
    pub results: Vec<DeleteStateResult>,
}

/// One element of `results` in [`DeleteShareGroupStateResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteStateResult {
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionResult>,
}

/// One element of `partitions` in [`DeleteStateResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionResult {
    pub partition: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
}
