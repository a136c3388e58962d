//! AllocateProducerIds (67): gives a broker a block of producer ids (KIP-730).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;

/// The request of AllocateProducerIds (API key 67).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 67, kind = "request", versions = "0-0", flexible = "0+", response = AllocateProducerIdsResponse)]
pub struct AllocateProducerIdsRequest {
    pub broker_id: i32,
    #[field(default = -1)]
    pub broker_epoch: i64,
}

/// The answer of AllocateProducerIds.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct AllocateProducerIdsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub producer_id_start: i64,
    pub producer_id_len: i32,
}
