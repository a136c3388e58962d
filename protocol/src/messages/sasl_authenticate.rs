//! SaslAuthenticate (36): one step of an authentication (KIP-152); v1 the session's lifetime (KIP-368).

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of SaslAuthenticate (API key 36).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 36, kind = "request", versions = "0-2", flexible = "2+", response = SaslAuthenticateResponse)]
pub struct SaslAuthenticateRequest {
    pub auth_bytes: Bytes,
}

/// The answer of SaslAuthenticate.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct SaslAuthenticateResponse {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub auth_bytes: Bytes,
    #[field(versions = "1+", ignorable)]
    pub session_lifetime_ms: i64,
}
