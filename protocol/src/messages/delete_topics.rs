//! DeleteTopics (20): deletes topics (KIP-4); v6 by name or id (KIP-516).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of DeleteTopics (API key 20).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 20, kind = "request", versions = "0-6", flexible = "4+", response = DeleteTopicsResponse)]
pub struct DeleteTopicsRequest {
    #[field(versions = "6+")]
    pub topics: Vec<DeleteTopicState>,
    #[field(versions = "0-5", ignorable)]
    pub topic_names: Vec<Str>,
    pub timeout_ms: i32,
}

/// One element of `topics` in [`DeleteTopicsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteTopicState {
    #[field(versions = "6+", nullable = "6+")]
    pub name: Option<Str>,
    #[field(versions = "6+")]
    pub topic_id: Uuid,
}

/// The answer of DeleteTopics.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-6", flexible = "4+")]
pub struct DeleteTopicsResponse {
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    pub responses: Vec<DeletableTopicResult>,
}

/// One element of `responses` in [`DeleteTopicsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeletableTopicResult {
    #[field(nullable = "6+", default = Some(Str::default()))]
    pub name: Option<Str>,
    #[field(versions = "6+", ignorable)]
    pub topic_id: Uuid,
    pub error_code: ErrorCode,
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub error_message: Option<Str>,
}
