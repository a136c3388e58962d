//! SaslHandshake (17): chooses a SASL mechanism (KIP-43); v1 continues with SaslAuthenticate.

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of SaslHandshake (API key 17).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 17, kind = "request", versions = "0-1", flexible = "none", response = SaslHandshakeResponse)]
pub struct SaslHandshakeRequest {
    pub mechanism: Str,
}

/// The answer of SaslHandshake.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "none")]
pub struct SaslHandshakeResponse {
    pub error_code: ErrorCode,
    pub mechanisms: Vec<Str>,
}
