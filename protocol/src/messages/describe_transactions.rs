//! DescribeTransactions (65): the state of transactions by their ids (KIP-664).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeTransactions (API key 65).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 65, kind = "request", versions = "0-0", flexible = "0+", response = DescribeTransactionsResponse)]
pub struct DescribeTransactionsRequest {
    pub transactional_ids: Vec<Str>,
}

/// The answer of DescribeTransactions.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct DescribeTransactionsResponse {
    pub throttle_time_ms: i32,
    pub transaction_states: Vec<TransactionState>,
}

/// One element of `transaction_states` in [`DescribeTransactionsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TransactionState {
    pub error_code: ErrorCode,
    pub transactional_id: Str,
    pub transaction_state: Str,
    pub transaction_timeout_ms: i32,
    pub transaction_start_time_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub topics: Vec<TopicData>,
}

/// One element of `topics` in [`TransactionState`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicData {
    pub topic: Str,
    pub partitions: Vec<i32>,
}
