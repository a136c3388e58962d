//! Envelope (58): a client's request that a broker forwards to the controller (KIP-590).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;

/// The request of Envelope (API key 58).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 58, kind = "request", versions = "0-0", flexible = "0+", response = EnvelopeResponse)]
pub struct EnvelopeRequest {
    pub request_data: Bytes,
    #[field(nullable = "0+", default = Some(Bytes::new()))]
    pub request_principal: Option<Bytes>,
    pub client_host_address: Bytes,
}

/// The answer of Envelope.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct EnvelopeResponse {
    #[field(nullable = "0+")]
    pub response_data: Option<Bytes>,
    pub error_code: ErrorCode,
}
