//! Produce (0): record batches for many partitions. v3 record batches (KIP-98), v8 which records failed (KIP-467), v10 new leaders
//! (KIP-951), v12 transactions of version 2 (KIP-890), v13 topic ids (KIP-516).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of Produce (API key 0).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 0, kind = "request", versions = "0-13", flexible = "9+", response = ProduceResponse)]
pub struct ProduceRequest {
    #[field(versions = "3+", nullable = "3+")]
    pub transactional_id: Option<Str>,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topic_data: Vec<TopicProduceData>,
}

/// One element of `topic_data` in [`ProduceRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicProduceData {
    #[field(versions = "0-12", ignorable)]
    pub name: Str,
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    pub partition_data: Vec<PartitionProduceData>,
}

/// One element of `partition_data` in [`TopicProduceData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionProduceData {
    pub index: i32,
    #[field(nullable = "0+", default = Some(Bytes::new()))]
    pub records: Option<Bytes>,
}

/// The answer of Produce.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-13", flexible = "9+")]
pub struct ProduceResponse {
    pub responses: Vec<TopicProduceResponse>,
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    #[field(versions = "10+", tag = 0, tagged = "10+")]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One element of `responses` in [`ProduceResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicProduceResponse {
    #[field(versions = "0-12", ignorable)]
    pub name: Str,
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    pub partition_responses: Vec<PartitionProduceResponse>,
}

/// One element of `partition_responses` in [`TopicProduceResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionProduceResponse {
    pub index: i32,
    pub error_code: ErrorCode,
    pub base_offset: i64,
    #[field(versions = "2+", default = -1, ignorable)]
    pub log_append_time_ms: i64,
    #[field(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    #[field(versions = "8+", ignorable)]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    #[field(versions = "8+", nullable = "8+", ignorable)]
    pub error_message: Option<Str>,
    #[field(versions = "10+", tag = 0, tagged = "10+")]
    pub current_leader: LeaderIdAndEpoch,
}

/// One element of `record_errors` in [`PartitionProduceResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct BatchIndexAndErrorMessage {
    #[field(versions = "8+")]
    pub batch_index: i32,
    #[field(versions = "8+", nullable = "8+")]
    pub batch_index_error_message: Option<Str>,
}

/// `current_leader` of [`PartitionProduceResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    #[field(versions = "10+", default = -1)]
    pub leader_id: i32,
    #[field(versions = "10+", default = -1)]
    pub leader_epoch: i32,
}

/// One element of `node_endpoints` in [`ProduceResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct NodeEndpoint {
    #[field(versions = "10+")]
    pub node_id: i32,
    #[field(versions = "10+")]
    pub host: Str,
    #[field(versions = "10+")]
    pub port: i32,
    #[field(versions = "10+", nullable = "10+")]
    pub rack: Option<Str>,
}
