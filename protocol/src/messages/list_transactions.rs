//! ListTransactions (66): transactions by filter (KIP-664, KIP-994, KIP-1152).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of ListTransactions (API key 66).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 66, kind = "request", versions = "0-2", flexible = "0+", response = ListTransactionsResponse)]
pub struct ListTransactionsRequest {
    pub state_filters: Vec<Str>,
    pub producer_id_filters: Vec<i64>,
    #[field(versions = "1+", default = -1)]
    pub duration_filter: i64,
    #[field(versions = "2+", nullable = "2+")]
    pub transactional_id_pattern: Option<Str>,
}

/// The answer of ListTransactions.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "0+")]
pub struct ListTransactionsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub unknown_state_filters: Vec<Str>,
    pub transaction_states: Vec<TransactionState>,
}

/// One element of `transaction_states` in [`ListTransactionsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TransactionState {
    pub transactional_id: Str,
    pub producer_id: i64,
    pub transaction_state: Str,
}
