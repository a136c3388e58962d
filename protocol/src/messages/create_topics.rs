//! CreateTopics (19): creates topics (KIP-4); v4 takes the broker's defaults (KIP-464), v5 returns the resulting configs (KIP-525), v7 the
//! topic's id (KIP-516).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of CreateTopics (API key 19).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 19, kind = "request", versions = "0-7", flexible = "5+", response = CreateTopicsResponse)]
pub struct CreateTopicsRequest {
    pub topics: Vec<CreatableTopic>,
    #[field(default = 60000)]
    pub timeout_ms: i32,
    #[field(versions = "1+")]
    pub validate_only: bool,
}

/// One element of `topics` in [`CreateTopicsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopic {
    pub name: Str,
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub assignments: Vec<CreatableReplicaAssignment>,
    pub configs: Vec<CreatableTopicConfig>,
}

/// One element of `assignments` in [`CreatableTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableReplicaAssignment {
    pub partition_index: i32,
    pub broker_ids: Vec<i32>,
}

/// One element of `configs` in [`CreatableTopic`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicConfig {
    pub name: Str,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub value: Option<Str>,
}

/// The answer of CreateTopics.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-7", flexible = "5+")]
pub struct CreateTopicsResponse {
    #[field(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    pub topics: Vec<CreatableTopicResult>,
}

/// One element of `topics` in [`CreateTopicsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicResult {
    pub name: Str,
    #[field(versions = "7+", ignorable)]
    pub topic_id: Uuid,
    pub error_code: ErrorCode,
    #[field(versions = "1+", nullable = "1+", default = Some(Str::default()), ignorable)]
    pub error_message: Option<Str>,
    #[field(versions = "5+", tag = 0, tagged = "5+", ignorable)]
    pub topic_config_error_code: ErrorCode,
    #[field(versions = "5+", default = -1, ignorable)]
    pub num_partitions: i32,
    #[field(versions = "5+", default = -1, ignorable)]
    pub replication_factor: i16,
    #[field(versions = "5+", nullable = "5+", default = Some(Vec::new()), ignorable)]
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

/// One element of `configs` in [`CreatableTopicResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CreatableTopicConfigs {
    #[field(versions = "5+")]
    pub name: Str,
    #[field(versions = "5+", nullable = "5+", default = Some(Str::default()))]
    pub value: Option<Str>,
    #[field(versions = "5+")]
    pub read_only: bool,
    #[field(versions = "5+", default = -1, ignorable)]
    pub config_source: i8,
    #[field(versions = "5+")]
    pub is_sensitive: bool,
}
