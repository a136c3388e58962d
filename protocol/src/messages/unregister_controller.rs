//! UnregisterController (94): removes a controller that is gone.

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of UnregisterController (API key 94).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 94, kind = "request", versions = "0-0", flexible = "0+", response = UnregisterControllerResponse)]
pub struct UnregisterControllerRequest {
    pub controller_id: i32,
}

/// The answer of UnregisterController.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct UnregisterControllerResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
}
