//! WriteTxnMarkers (27): writes commit and abort markers (KIP-98); v2 the transaction version (KIP-1228).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of WriteTxnMarkers (API key 27).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 27, kind = "request", versions = "0-2", flexible = "1+", response = WriteTxnMarkersResponse)]
pub struct WriteTxnMarkersRequest {
    pub markers: Vec<WritableTxnMarker>,
}

/// One element of `markers` in [`WriteTxnMarkersRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WritableTxnMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub transaction_result: bool,
    pub topics: Vec<WritableTxnMarkerTopic>,
    pub coordinator_epoch: i32,
    #[field(versions = "2+", ignorable)]
    pub transaction_version: i8,
}

/// One element of `topics` in [`WritableTxnMarker`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WritableTxnMarkerTopic {
    pub name: Str,
    pub partition_indexes: Vec<i32>,
}

/// The answer of WriteTxnMarkers.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "1+")]
pub struct WriteTxnMarkersResponse {
    pub markers: Vec<WritableTxnMarkerResult>,
}

/// One element of `markers` in [`WriteTxnMarkersResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WritableTxnMarkerResult {
    pub producer_id: i64,
    pub topics: Vec<WritableTxnMarkerTopicResult>,
}

/// One element of `topics` in [`WritableTxnMarkerResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WritableTxnMarkerTopicResult {
    pub name: Str,
    pub partitions: Vec<WritableTxnMarkerPartitionResult>,
}

/// One element of `partitions` in [`WritableTxnMarkerTopicResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct WritableTxnMarkerPartitionResult {
    pub partition_index: i32,
    pub error_code: ErrorCode,
}
