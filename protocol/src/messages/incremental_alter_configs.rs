//! IncrementalAlterConfigs (44): sets, deletes, appends to and subtracts from single configs (KIP-339).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of IncrementalAlterConfigs (API key 44).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 44, kind = "request", versions = "0-1", flexible = "1+", response = IncrementalAlterConfigsResponse)]
pub struct IncrementalAlterConfigsRequest {
    pub resources: Vec<AlterConfigsResource>,
    pub validate_only: bool,
}

/// One element of `resources` in [`IncrementalAlterConfigsRequest`].
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
    pub config_operation: i8,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub value: Option<Str>,
}

/// The answer of IncrementalAlterConfigs.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "1+")]
pub struct IncrementalAlterConfigsResponse {
    pub throttle_time_ms: i32,
    pub responses: Vec<AlterConfigsResourceResponse>,
}

/// One element of `responses` in [`IncrementalAlterConfigsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AlterConfigsResourceResponse {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub resource_type: i8,
    pub resource_name: Str,
}
