//! AddPartitionsToTxn (24): adds partitions to a transaction (KIP-98); v4 batches for brokers and verifies only (KIP-890).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of AddPartitionsToTxn (API key 24).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 24, kind = "request", versions = "0-5", flexible = "3+", response = AddPartitionsToTxnResponse)]
pub struct AddPartitionsToTxnRequest {
    #[field(versions = "4+")]
    pub transactions: Vec<AddPartitionsToTxnTransaction>,
    #[field(versions = "0-3")]
    pub v3_and_below_transactional_id: Str,
    #[field(versions = "0-3")]
    pub v3_and_below_producer_id: i64,
    #[field(versions = "0-3")]
    pub v3_and_below_producer_epoch: i16,
    #[field(versions = "0-3")]
    pub v3_and_below_topics: Vec<AddPartitionsToTxnTopic>,
}

/// One element of `transactions` in [`AddPartitionsToTxnRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AddPartitionsToTxnTransaction {
    #[field(versions = "4+")]
    pub transactional_id: Str,
    #[field(versions = "4+")]
    pub producer_id: i64,
    #[field(versions = "4+")]
    pub producer_epoch: i16,
    #[field(versions = "4+")]
    pub verify_only: bool,
    #[field(versions = "4+")]
    pub topics: Vec<AddPartitionsToTxnTopic>,
}

/// Shared by several fields of [`AddPartitionsToTxnRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AddPartitionsToTxnTopic {
    pub name: Str,
    pub partitions: Vec<i32>,
}

/// The answer of AddPartitionsToTxn.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-5", flexible = "3+")]
pub struct AddPartitionsToTxnResponse {
    pub throttle_time_ms: i32,
    #[field(versions = "4+", ignorable)]
    pub error_code: ErrorCode,
    #[field(versions = "4+")]
    pub results_by_transaction: Vec<AddPartitionsToTxnResult>,
    #[field(versions = "0-3")]
    pub results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>,
}

/// One element of `results_by_transaction` in [`AddPartitionsToTxnResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AddPartitionsToTxnResult {
    #[field(versions = "4+")]
    pub transactional_id: Str,
    #[field(versions = "4+")]
    pub topic_results: Vec<AddPartitionsToTxnTopicResult>,
}

/// Shared by several fields of [`AddPartitionsToTxnResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AddPartitionsToTxnTopicResult {
    pub name: Str,
    pub results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
}

/// Shared by several fields of [`AddPartitionsToTxnResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AddPartitionsToTxnPartitionResult {
    pub partition_index: i32,
    pub partition_error_code: ErrorCode,
}
