//! InitProducerId (22): a producer id and epoch for an idempotent or transactional producer (KIP-98); v3 names those it has (KIP-360).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of InitProducerId (API key 22).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 22, kind = "request", versions = "0-6", flexible = "2+", response = InitProducerIdResponse)]
pub struct InitProducerIdRequest {
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub transactional_id: Option<Str>,
    pub transaction_timeout_ms: i32,
    #[field(versions = "3+", default = -1)]
    pub producer_id: i64,
    #[field(versions = "3+", default = -1)]
    pub producer_epoch: i16,
    #[field(versions = "6+")]
    pub enable2_pc: bool,
    #[field(versions = "6+")]
    pub keep_prepared_txn: bool,
}

/// The answer of InitProducerId.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-6", flexible = "2+")]
pub struct InitProducerIdResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(default = -1)]
    pub producer_id: i64,
    pub producer_epoch: i16,
    #[field(versions = "6+", default = -1)]
    pub ongoing_txn_producer_id: i64,
    #[field(versions = "6+", default = -1)]
    pub ongoing_txn_producer_epoch: i16,
}
