//! CreateAcls (30): adds ACLs (KIP-140).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of CreateAcls (API key 30).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 30, kind = "request", versions = "0-3", flexible = "2+", response = CreateAclsResponse)]
pub struct CreateAclsRequest {
    pub creations: Vec<AclCreation>,
}

/// One element of `creations` in [`CreateAclsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AclCreation {
    pub resource_type: i8,
    pub resource_name: Str,
    #[field(versions = "1+", default = 3)]
    pub resource_pattern_type: i8,
    pub principal: Str,
    pub host: Str,
    pub operation: i8,
    pub permission_type: i8,
}

/// The answer of CreateAcls.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+")]
pub struct CreateAclsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<AclCreationResult>,
}

/// One element of `results` in [`CreateAclsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AclCreationResult {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
}
