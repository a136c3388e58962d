//! AlterConfigs (33): replaces all configs of a resource; the older form of IncrementalAlterConfigs (KIP-133).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of AlterConfigs (API key 33).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 33, kind = "request", versions = "0-2", flexible = "2+", response = AlterConfigsResponse)]
pub struct AlterConfigsRequest {
    pub resources: Vec<AlterConfigsResource>,
    pub validate_only: bool,
}

/// One element of `resources` in [`AlterConfigsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterConfigsResource {
    pub resource_type: i8,
    pub resource_name: Str,
    pub configs: Vec<AlterableConfig>,
}

/// One element of `configs` in [`AlterConfigsResource`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterableConfig {
    pub name: Str,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub value: Option<Str>,
}

/// The answer of AlterConfigs.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct AlterConfigsResponse {
    pub throttle_time_ms: i32,
    pub responses: Vec<AlterConfigsResourceResponse>,
}

/// One element of `responses` in [`AlterConfigsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterConfigsResourceResponse {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub resource_type: i8,
    pub resource_name: Str,
}
