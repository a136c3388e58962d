//! ShareFetch (78): fetches and acquires records for a share group (KIP-932); v2 acquire modes and renewal (KIP-1206, KIP-1222).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of ShareFetch (API key 78).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 78, kind = "request", versions = "1-2", flexible = "0+", response = ShareFetchResponse)]
pub struct ShareFetchRequest {
    #[field(nullable = "0+")]
    pub group_id: Option<Str>,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub member_id: Option<Str>,
    pub share_session_epoch: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    #[field(default = i32::MAX)]
    pub max_bytes: i32,
    #[field(versions = "1+")]
    pub max_records: i32,
    #[field(versions = "1+")]
    pub batch_size: i32,
    #[field(versions = "2+", ignorable)]
    pub share_acquire_mode: i8,
    #[field(versions = "2+")]
    pub is_renew_ack: bool,
    pub topics: Vec<FetchTopic>,
    pub forgotten_topics_data: Vec<ForgottenTopic>,
}

/// One element of `topics` in [`ShareFetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchTopic {
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
}

/// One element of `partitions` in [`FetchTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FetchPartition {
    pub partition_index: i32,
    #[field(versions = "0")]
    pub partition_max_bytes: i32,
    pub acknowledgement_batches: Vec<AcknowledgementBatch>,
}

/// One element of `acknowledgement_batches` in [`FetchPartition`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AcknowledgementBatch {
    pub first_offset: i64,
    pub last_offset: i64,
    pub acknowledge_types: Vec<i8>,
}

/// One element of `forgotten_topics_data` in [`ShareFetchRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ForgottenTopic {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

/// The answer of ShareFetch.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "1-2", flexible = "0+")]
pub struct ShareFetchResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    #[field(versions = "1+")]
    pub acquisition_lock_timeout_ms: i32,
    pub responses: Vec<ShareFetchableTopicResponse>,
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One element of `responses` in [`ShareFetchResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ShareFetchableTopicResponse {
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`ShareFetchableTopicResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    pub acknowledge_error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub acknowledge_error_message: Option<Str>,
    pub current_leader: LeaderIdAndEpoch,
    #[field(nullable = "0", default = Some(Bytes::new()))]
    pub records: Option<Bytes>,
    pub acquired_records: Vec<AcquiredRecords>,
}

/// `current_leader` of [`PartitionData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

/// One element of `acquired_records` in [`PartitionData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AcquiredRecords {
    pub first_offset: i64,
    pub last_offset: i64,
    pub delivery_count: i16,
}

/// One element of `node_endpoints` in [`ShareFetchResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    #[field(nullable = "0+")]
    pub rack: Option<Str>,
}
