//! ListConfigResources (74): names of resources that have configs (KIP-1142); v0 client metrics alone (KIP-1000).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of ListConfigResources (API key 74).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 74, kind = "request", versions = "0-1", flexible = "0+", response = ListConfigResourcesResponse)]
pub struct ListConfigResourcesRequest {
    #[field(versions = "1+")]
    pub resource_types: Vec<i8>,
}

/// The answer of ListConfigResources.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct ListConfigResourcesResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub config_resources: Vec<ConfigResource>,
}

/// One element of `config_resources` in [`ListConfigResourcesResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ConfigResource {
    pub resource_name: Str,
    #[field(versions = "1+", default = 16, ignorable)]
    pub resource_type: i8,
}
